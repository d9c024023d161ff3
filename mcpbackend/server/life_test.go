package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

// post hands a request to s without a network, which the fake clock of synctest needs.
func post(t *testing.T, s *Server, session, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "*/*")
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	ping       = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	callSearch = `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"search_bugs_by_keyword","arguments":{"keyword":"x"}}}`
)

// A session without a GET stream cannot be pinged, and must live on all the same until it is idle for too long.
func TestSessionLivesUntilIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{KeepAlive: time.Second, SessionTimeout: 10 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		id := post(t, s, "", initialize).Header().Get("Mcp-Session-Id")
		if id == "" {
			t.Fatal("no session")
		}
		for range 3 {
			time.Sleep(9 * time.Minute)
			if w := post(t, s, id, ping); w.Code != 200 {
				t.Fatalf("active session: %d %s", w.Code, w.Body)
			}
		}
		time.Sleep(11 * time.Minute)
		if w := post(t, s, id, ping); w.Code != 404 {
			t.Errorf("idle session: %d %s", w.Code, w.Body)
		}
	})
}

func TestCloseEndsSessions(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := post(t, s, "", initialize).Header().Get("Mcp-Session-Id")
	s.Close()
	if w := post(t, s, id, ping); w.Code != 404 {
		t.Errorf("after Close: %d %s", w.Code, w.Body)
	}
}

// A slowSource answers when its caller gives up, or when it is released.
type slowSource struct{ started, release, ended chan struct{} }

func newSlowSource() *slowSource {
	return &slowSource{make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

func (s *slowSource) Bugs(ctx context.Context, _ bugs.Query) (bugs.Page, error) {
	close(s.started)
	defer close(s.ended)
	select {
	case <-s.release:
		return bugs.Page{Index: 1, Last: 1}, nil
	case <-ctx.Done():
		return bugs.Page{}, ctx.Err()
	}
}

// await waits for what has to come. The bound only turns a hang into a failure.
func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("it did not happen")
	}
}

// serve runs s on a loopback port. stop asks it to stop; done tells how that ended.
func serve(t *testing.T, s *Server) (url string, stop func(), done chan error) {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done = make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	return "http://" + ln.Addr().String(), cancel, done
}

func request(t *testing.T, method, url, body string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// do opens a response and leaves its body open.
func do(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestStopEndsStreamsAtOnce(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	url, stop, done := serve(t, s)
	id := do(t, request(t, "POST", url+"/mcp", initialize)).Header.Get("Mcp-Session-Id")
	listen := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	streams := map[string]*http.Response{
		"GET /mcp":             do(t, request(t, "GET", url+"/mcp", "", "Mcp-Session-Id", id)),
		"GET /sse":             do(t, request(t, "GET", url+"/sse", "")),
		"subscriptions/listen": do(t, request(t, "POST", url+"/mcp", listen, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")),
	}
	for name, res := range streams {
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%s: %d %v", name, res.StatusCode, res.Header)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err) // an error would mean that a stream was open after the grace
	}
	for name, res := range streams {
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Errorf("%s was cut, not ended: %v", name, err)
		}
	}
}

func TestStopWaitsForCalls(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	slow := newSlowSource()
	s.source = slow
	url, stop, done := serve(t, s)
	body := make(chan string, 1)
	go func() {
		res, err := http.DefaultClient.Do(request(t, "POST", url+"/mcp", callSearch))
		if err != nil {
			body <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		body <- string(b)
	}()
	await(t, slow.started)
	stop()
	close(slow.release)
	if got := <-body; !strings.Contains(got, "No bugs found") {
		t.Errorf("the call in flight got %s", got)
	}
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestCloseCancelsCalls(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	slow := newSlowSource()
	s.source = slow
	go post(t, s, "", callSearch)
	await(t, slow.started)
	s.Close()
	await(t, slow.ended)
}

// Leaving a modern request cancels its call, because its response is all there is.
func TestLeavingAModernCallCancelsIt(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	slow := newSlowSource()
	s.source = slow
	url, _, _ := serve(t, s)
	body := strings.Replace(callSearch, `"params":{`, `"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}},`, 1)
	ctx, leave := context.WithCancel(t.Context())
	r := request(t, "POST", url+"/mcp", body, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "search_bugs_by_keyword").WithContext(ctx)
	go func() {
		if res, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}()
	await(t, slow.started)
	leave()
	await(t, slow.ended)
}

func TestServeReportsABrokenListener(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.Serve(t.Context(), ln); err == nil || !strings.Contains(err.Error(), "serving MCP") {
		t.Errorf("error %v", err)
	}
}
