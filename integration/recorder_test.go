package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// recorder is an upstream that keeps everything it receives: the requests, and the bytes they came in.
type recorder struct {
	address string // host:port

	mu       sync.Mutex
	requests []recorded
	raw      bytes.Buffer

	proceed chan struct{} // a send lets an event stream go on
	ended   atomic.Int64  // streams that the client's side has ended
}

// recorded is a request as the upstream saw it, with its whole body.
type recorded struct {
	Method, Target, Host string
	Header, Trailer      http.Header
	Body                 []byte
}

// beginSession is a header of requests that names the session to begin.
const beginSession = "X-Begin-Session"

// startRecorder runs a recorder for the time of a test.
//
//	/sse, …/sse        an event stream: an endpoint event at once, a second event when the test says so
//	…/status/<code>    that status
//	anything else      200 with a JSON body
func startRecorder(t testing.TB) *recorder {
	t.Helper()
	rec := &recorder{proceed: make(chan struct{})}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(rec.serve))
	srv.Listener = &teeListener{srv.Listener, rec}
	srv.Start()
	t.Cleanup(srv.CloseClientConnections)
	t.Cleanup(srv.Close)
	rec.address = srv.Listener.Addr().String()
	return rec
}

func (rec *recorder) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // what could be read is what arrived
	rec.mu.Lock()
	rec.requests = append(rec.requests, recorded{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.Trailer.Clone(), body})
	rec.mu.Unlock()
	var status int
	_, rest, _ := strings.Cut(r.URL.Path, "/status/")
	if session := r.Header.Get(beginSession); session != "" {
		w.Header().Set("Mcp-Session-Id", session)
	}
	switch _, err := fmt.Sscan(rest, &status); {
	case strings.HasSuffix(r.URL.Path, "/sse"):
		rec.stream(w, r)
	case err == nil:
		w.Header().Set("WWW-Authenticate", `Bearer realm="upstream"`)
		w.WriteHeader(status)
		fmt.Fprint(w, "the upstream says so")
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"from":"the upstream"}`)
	}
}

// stream sends the events of the transport of 2024-11-05.
func (rec *recorder) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "event: endpoint\ndata: /messages?sessionid=abc\n\n")
	for n := 2; ; n++ {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-rec.proceed:
			fmt.Fprintf(w, "event: message\ndata: {\"n\":%d}\n\n", n)
		case <-r.Context().Done():
			rec.ended.Add(1)
			return
		}
	}
}

// seen returns the requests that have arrived.
func (rec *recorder) seen() []recorded {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]recorded(nil), rec.requests...)
}

// last returns the latest request, and forgets all.
func (rec *recorder) last(t testing.TB) recorded {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.requests) == 0 {
		t.Fatal("nothing has reached the upstream")
	}
	last := rec.requests[len(rec.requests)-1]
	rec.requests = nil
	return last
}

// reset forgets everything.
func (rec *recorder) reset() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.requests = nil
	rec.raw.Reset()
}

// bytes returns all that has arrived on all connections.
func (rec *recorder) bytes() string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.raw.String()
}

// teeListener keeps a copy of what arrives.
type teeListener struct {
	net.Listener
	rec *recorder
}

func (l *teeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &teeConn{conn, l.rec}, nil
}

type teeConn struct {
	net.Conn
	rec *recorder
}

func (c *teeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.rec.mu.Lock()
	c.rec.raw.Write(p[:n])
	c.rec.mu.Unlock()
	return n, err
}
