package gate_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// shared is a recorder that may be read while somebody else writes.
type shared struct {
	mu sync.Mutex
	httptest.ResponseRecorder
}

func newShared() *shared { return &shared{ResponseRecorder: *httptest.NewRecorder()} }

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ResponseRecorder.Write(p)
}

func (s *shared) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ResponseRecorder.Flush()
}

// sent is what has been written, and whether all of it is on its way.
func (s *shared) sent() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Body.String(), s.Flushed
}

// kept starts the answer to a request at a gate that keeps streams alive for half a
// minute. Headers are pairs.
func kept(t *testing.T, w http.ResponseWriter, method string, headers ...string) (*gate.Answer, *http.Request) {
	t.Helper()
	g := gate.New(gate.Config{
		Resources: []*oauth.Resource{{Origin: "https://h.example", Path: "/mcp"}}, StreamKeepAlive: 30 * time.Second,
	})
	a, r := g.Answer(w, request(method, "/mcp"), "/mcp", gate.Pass{})
	a.Header().Set("Content-Type", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		a.Header().Set(headers[i], headers[i+1])
	}
	a.WriteHeader(http.StatusOK)
	return a, r
}

func TestAnIdleStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShared()
		a, r := kept(t, w, "POST")
		want := func(after time.Duration, body string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got, flushed := w.sent(); got != body || !flushed && body != "" {
				t.Fatalf("the stream is %q, flushed: %t, want %q", got, flushed, body)
			}
		}
		write := func(s string) {
			t.Helper()
			if _, err := a.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		want(29*time.Second, "")
		want(time.Second, ":\n\n")
		want(30*time.Second, ":\n\n:\n\n")

		// What the server writes puts the next comment off.
		want(20*time.Second, ":\n\n:\n\n")
		write("data: 1\r\n\r\n")
		want(29*time.Second, ":\n\n:\n\ndata: 1\r\n\r\n")
		want(time.Second, ":\n\n:\n\ndata: 1\r\n\r\n:\n\n")

		// No comment falls into an event, however its end is written.
		before, _ := w.sent()
		write("data: 2\n")
		want(time.Hour, before+"data: 2\n")
		write("\n")
		want(30*time.Second, before+"data: 2\n\n:\n\n")

		if err := r.Context().Err(); err != nil {
			t.Errorf("the request has ended: %v", err)
		}
		a.Close()
		want(time.Hour, before+"data: 2\n\n:\n\n")
	})
}

func TestWhatHasNoRoomForCommentsIsLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		method  string
		headers []string
	}{
		"another kind of answer": {"POST", []string{"Content-Type", "application/json"}},
		"one with a length":      {"POST", []string{"Content-Length", "100"}},
		"a compressed one":       {"POST", []string{"Content-Encoding", "gzip"}},
		"one without a body":     {"HEAD", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := httptest.NewRecorder()
				a, _ := kept(t, w, tt.method, tt.headers...)
				defer a.Close()
				time.Sleep(time.Hour)
				if w.Body.Len() > 0 {
					t.Errorf("got %q", w.Body)
				}
			})
		})
	}
}

// gone is the writer of a client that has gone.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, errors.New("nobody there") }

func TestACommentFindsOutThatTheClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := kept(t, gone{httptest.NewRecorder()}, "GET")
		defer a.Close()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if r.Context().Err() == nil {
			t.Error("the request to the upstream goes on")
		}
	})
}

// Comments are written by another goroutine than the rest, which the race detector
// watches here.
func TestCommentsAndEventsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		a, _ := kept(t, w, "GET")
		defer a.Close()
		for range 100 {
			_, _ = a.Write([]byte("data: 1\n\n"))
			if err := a.FlushError(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
		}
	})
}
