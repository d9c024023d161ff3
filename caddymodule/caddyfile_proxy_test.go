package caddymodule

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// shortcutServer serves what the shortcut form expands to for the upstreams,
// without the handler in front.
func shortcutServer(t *testing.T, upstreams ...string) *httptest.Server {
	t.Helper()
	line, err := caddyfile.Tokenize([]byte("mcp_auth "+strings.Join(upstreams, " ")), "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	d := caddyfile.NewDispenser(line)
	proxy, err := newProxy(httpcaddyfile.Helper{Dispenser: d}, line[0], line[1:])
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		err := proxy.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, method, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestShortcutSendsTheAddressOfTheUpstreamAsHost(t *testing.T) {
	sayHost := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	tcp := httptest.NewServer(sayHost)
	t.Cleanup(tcp.Close)
	address := tcp.Listener.Addr().String()

	dir, err := os.MkdirTemp("", "mcp") // t.TempDir makes paths too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	unix := &httptest.Server{Listener: listener, Config: &http.Server{Handler: sayHost}}
	unix.Start()
	t.Cleanup(unix.Close)

	for upstream, want := range map[string]string{
		address:             address,
		"http://" + address: address,
		"tcp/" + address:    address,
		"unix/" + socket:    "localhost",
	} {
		res := get(t, http.MethodGet, shortcutServer(t, upstream).URL)
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK || string(body) != want {
			t.Errorf("%s: got %s and the host %q, want %q", upstream, res.Status, body, want)
		}
	}
}

func TestShortcutPassesEventsOnAtOnce(t *testing.T) {
	received := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
		w.(http.Flusher).Flush()
		// The second event waits until the first one has reached the client.
		select {
		case <-received:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, "data: two\n\n")
	}))
	t.Cleanup(upstream.Close)

	res := get(t, http.MethodGet, shortcutServer(t, upstream.Listener.Addr().String()).URL)
	lines := bufio.NewScanner(res.Body)
	for _, want := range []string{"data: one", "", "data: two"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, want %q (error %v)", lines.Text(), want, lines.Err())
		}
		if want == "data: one" {
			close(received)
		}
	}
}

func TestShortcutKeepsAClientOnOneUpstream(t *testing.T) {
	var upstreams []string
	for _, name := range []string{"a", "b", "c", "d"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
		t.Cleanup(server.Close)
		upstreams = append(upstreams, server.Listener.Addr().String())
	}
	proxy := shortcutServer(t, upstreams...)
	seen := map[string]bool{}
	for range 32 {
		body, err := io.ReadAll(get(t, http.MethodPost, proxy.URL).Body)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(body)] = true
	}
	if len(seen) != 1 {
		t.Errorf("the requests of one client went to %d upstreams", len(seen))
	}
}

func TestShortcutNeverSendsARequestTwice(t *testing.T) {
	// An upstream that hangs up after reading the request, and one that would
	// gladly take it over.
	requests := make(chan struct{}, 8)
	hangUp := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		requests <- struct{}{}
		panic(http.ErrAbortHandler)
	})
	one, two := httptest.NewServer(hangUp), httptest.NewServer(hangUp)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	proxy := shortcutServer(t, one.Listener.Addr().String(), two.Listener.Addr().String())
	if res := get(t, http.MethodPost, proxy.URL); res.StatusCode != http.StatusBadGateway {
		t.Errorf("got %s", res.Status)
	}
	if n := len(requests); n != 1 {
		t.Errorf("the request reached upstreams %d times", n)
	}
}
