package gate

import (
	"bytes"
	"net/http"
	"sync"
	"time"
)

// comment is a line of an event stream that says nothing, and the end of an event
// without any data, which clients pass over (HTML, section 9.2.6).
var comment = []byte(":\n\n")

// keptAlive is the writer of an event stream. It writes a comment whenever the
// stream has been idle for a while: proxies, load balancers and clients give up
// connections over which nothing comes, some of them after a minute.
type keptAlive struct {
	http.ResponseWriter
	every time.Duration
	gone  func() // is called when the client turns out to be gone

	mu     sync.Mutex // over what is written, and what follows
	timer  *time.Timer
	last   time.Time // when something was written
	tail   []byte    // the last bytes of the stream
	closed bool
}

// keepAlive has w, whose header has been written, kept alive until close is called.
func keepAlive(w http.ResponseWriter, every time.Duration, gone func()) *keptAlive {
	k := &keptAlive{ResponseWriter: w, every: every, gone: gone, last: time.Now()}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = time.AfterFunc(every, k.tick)
	return k
}

// Unwrap lets http.ResponseController reach the server's writer.
func (k *keptAlive) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// Write implements http.ResponseWriter.
func (k *keptAlive) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = time.Now()
	k.tail = append(k.tail, p[max(0, len(p)-longestEnd):]...)
	k.tail = k.tail[max(0, len(k.tail)-longestEnd):]
	return k.ResponseWriter.Write(p)
}

// FlushError lets http.ResponseController flush.
func (k *keptAlive) FlushError() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return http.NewResponseController(k.ResponseWriter).Flush()
}

// tick writes a comment if it is time, and comes again when it will be.
func (k *keptAlive) tick() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	if idle := time.Since(k.last); idle < k.every {
		k.timer.Reset(k.every - idle)
		return
	}
	k.last = time.Now()
	k.timer.Reset(k.every)
	if !k.betweenEvents() {
		return
	}
	_, err := k.ResponseWriter.Write(comment)
	if err == nil {
		err = http.NewResponseController(k.ResponseWriter).Flush()
	}
	if err != nil {
		k.gone()
	}
}

// betweenEvents reports whether a comment would fall into no event.
func (k *keptAlive) betweenEvents() bool {
	if len(k.tail) == 0 {
		return true
	}
	for _, end := range eventEnds {
		if bytes.HasSuffix(k.tail, []byte(end)) {
			return true
		}
	}
	return false
}

// close ends the comments. The server's writer is not used any more when it
// returns.
func (k *keptAlive) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.timer.Stop()
}
