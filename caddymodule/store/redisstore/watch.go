package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// watchBuffer is how many keys a reader may lag behind before it is cut off. It
// covers a burst of writes and keeps an idle watch at a few kilobytes.
const watchBuffer = 256

// beatInterval is how often a watch proves that it hears what is published.
const beatInterval = time.Second

// Watch implements store.Store. Each watch has a connection of its own. Nothing
// tells a subscriber that it no longer hears: its server may hang, have been cut
// off from the others, or be one that has ceased to be the master. So the watch
// publishes something itself each second, by the way that writes go, and is over
// when that does not come back within a second more than Config.Timeout.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	w := &watcher{
		store:    s,
		channels: s.prefix + ":w:",
		beats:    s.prefix + ":b:" + rand.Text() + ":",
		keys:     make(chan string, watchBuffer),
		heard:    make(chan struct{}, 1),
	}
	if err := w.subscribe(ctx, prefix); err != nil {
		return nil, s.failure(ctx, err)
	}
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = w.sub.Close() }) // which also ends receive
	received := make(chan any)
	go func() {
		defer end()
		w.receive(ctx, received)
	}()
	go func() {
		defer close(w.keys)
		defer end()
		w.forward(ctx, received)
	}()
	go func() {
		defer end()
		w.beat(ctx)
	}()
	return w.keys, nil
}

// watcher is one watch. It ends as a whole as soon as one of its goroutines does.
type watcher struct {
	store    *Store
	sub      *redis.PubSub
	channels string // what the channels of keys begin with
	beats    string // what the channels of its own beats begin with
	keys     chan string
	heard    chan struct{} // has something when a beat has come back
}

// subscribe returns when every later write is sure to be heard and no earlier one
// is: the server has confirmed the subscription, and a beat has come back from
// each master, which in a cluster have their own links to the server and keep the
// order of what they send.
func (w *watcher) subscribe(ctx context.Context, prefix string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.store.timeout)
	defer cancel()
	masters, err := w.store.masters(ctx)
	if err != nil {
		return err
	}
	if len(masters) == 0 {
		return errors.New("the cluster has no masters")
	}
	node := masters[mathrand.IntN(len(masters))] //nolint:gosec // any of them will do
	patterns := []string{w.channels + escape(prefix) + "*", w.beats + "*"}
	w.sub = node.PSubscribe(ctx, patterns...)
	defer func() {
		if err != nil {
			_ = w.sub.Close()
		}
	}()
	if err := w.await(ctx, len(patterns), isConfirmation); err != nil {
		return err
	}
	for i, master := range masters {
		if err := master.Publish(ctx, fmt.Sprintf("%sfirst%d", w.beats, i), "").Err(); err != nil {
			return err
		}
	}
	return w.await(ctx, len(masters), w.isBeat)
}

// await receives until n messages of a kind have come. Others are dropped: they
// tell of writes before the watch has begun.
func (w *watcher) await(ctx context.Context, n int, kind func(any) bool) error {
	for n > 0 {
		received, err := w.sub.Receive(ctx)
		if err != nil {
			return err
		}
		if kind(received) {
			n--
		}
	}
	return nil
}

func isConfirmation(received any) bool {
	_, ok := received.(*redis.Subscription)
	return ok
}

func (w *watcher) isBeat(received any) bool {
	message, ok := received.(*redis.Message)
	return ok && strings.HasPrefix(message.Channel, w.beats)
}

// receive hands on what comes until the connection breaks. The client would
// connect again and go on as if nothing were missing, which is why any error is
// the end. It may hang in a connection that nobody answers; the end of the watch
// does not wait for it.
func (w *watcher) receive(ctx context.Context, to chan<- any) {
	for {
		received, err := w.sub.Receive(ctx)
		if err != nil {
			return
		}
		select {
		case to <- received:
		case <-ctx.Done():
			return
		}
	}
}

// forward passes keys on to the reader, until the reader is too slow.
func (w *watcher) forward(ctx context.Context, from <-chan any) {
	for {
		var received any
		select {
		case received = <-from:
		case <-ctx.Done():
			return
		}
		if w.isBeat(received) {
			select {
			case w.heard <- struct{}{}:
			default: // beat has not even looked at the one before
			}
			continue
		}
		message, ok := received.(*redis.Message)
		if !ok {
			continue
		}
		select {
		case w.keys <- strings.TrimPrefix(message.Channel, w.channels):
		default:
			return
		}
	}
}

// beat publishes and waits for what comes back. Whatever hangs, it ends in time:
// as long as the watch goes on, its reader believes to hear everything.
func (w *watcher) beat(ctx context.Context) {
	limit := beatInterval + w.store.timeout
	silence := time.NewTimer(limit)
	defer silence.Stop()
	next := time.NewTicker(beatInterval)
	defer next.Stop()
	end := time.Now().Add(limit)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-w.store.closing:
			return
		case <-w.heard:
			silence.Reset(limit)
			end = time.Now().Add(limit)
		case <-next.C:
			w.store.publish(ctx, end, fmt.Sprintf("%s%d", w.beats, n))
		case <-silence.C:
			select {
			case <-w.heard: // while something was published
				silence.Reset(limit)
				end = time.Now().Add(limit)
			default:
				return
			}
		}
	}
}

// publish sends a beat. In a cluster each one starts at another node, so that
// the links between the nodes are part of the proof. An error need not be told:
// the beat does not come back.
func (s *Store) publish(ctx context.Context, end time.Time, channel string) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if node, err := s.nodeOf(ctx, channel); err == nil {
		_ = s.failure(ctx, node.Publish(ctx, channel, "").Err())
	}
}
