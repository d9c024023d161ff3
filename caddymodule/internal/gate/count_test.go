package gate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

func TestChecksAreCountedByTheirOutcome(t *testing.T) {
	m := metrics.New()
	counts := func(c *gate.Config) { c.Metrics = m }
	d := newDoor(t, counts)
	failing := func(err error) *door {
		return newDoor(t, counts, func(c *gate.Config) { c.Verifier = &others{err: err} })
	}
	revoked := d.mint("/mcp", "mcp", func(c *oauth.AccessTokenClaims) { c.GrantID = "revoked" })
	if err := d.revocations.Add(t.Context(), "revoked", time.Hour); err != nil {
		t.Fatal(err)
	}
	post := func(token string, header ...string) *http.Request {
		return request("POST", "/mcp", append(header, "Authorization", "Bearer "+token)...)
	}
	for _, c := range []struct {
		door   *door
		r      *http.Request
		result string // "" when nothing is checked
	}{
		{d, post(d.mint("/mcp", "mcp")), "ok"},
		{d, post(staticToken), "ok"},
		{d, request("POST", "/mcp"), "missing"},
		{d, post("junk"), "malformed"},
		{d, request("POST", "/mcp", "Authorization", "Basic x", "Authorization", "Bearer x"), "malformed"},
		{failing(token.ErrExpired), post("x"), "expired"},
		{d, post(revoked), "revoked"},
		{d, post(d.mint("/mcp/admin", "mcp")), "audience"},
		{d, post(d.mint("/mcp", "other")), "scope"},
		{d, post(staticToken, "Origin", "https://evil.example"), "origin"},
		{failing(fmt.Errorf("%w: timeout", token.ErrUnavailable)), post("x"), "unavailable"},
		{d, request("POST", "/other"), ""},
		{d, request("OPTIONS", "/mcp", "Origin", issuer, "Access-Control-Request-Method", "POST"), ""},
		{newDoor(t, counts, func(c *gate.Config) { c.Omit = true }), request("POST", "/mcp"), ""},
	} {
		before := metricstest.Read(t, m)
		c.door.Check(httptest.NewRecorder(), c.r, c.r.URL.Path)
		want := metricstest.Values{}
		if c.result != "" {
			want = metricstest.Values{"token_validations_total result=" + c.result: 1, "token_validation_duration_seconds": 1}
		}
		if diff := cmp.Diff(want, metricstest.Read(t, m).Since(before)); diff != "" {
			t.Errorf("%s, want %q (-want +got):\n%s", c.r.URL.Path, c.result, diff)
		}
	}
}

func TestStreamsAreCountedByTransport(t *testing.T) {
	streams := gate.NewStreams()
	g := gate.New(gate.Config{Resources: []*oauth.Resource{{Origin: "https://h.example", Path: "/mcp"}, {Origin: "https://h.example", Path: "/sse"}}, Streams: streams})
	open := func(method, path, contentType string) *gate.Answer {
		a, r := g.Answer(httptest.NewRecorder(), request(method, path), path, gate.Pass{})
		r.Method = "PATCH" // what handlers make of the request does not matter
		a.Header().Set("Content-Type", contentType)
		a.WriteHeader(http.StatusOK)
		return a
	}
	answers := []*gate.Answer{
		open("GET", "/mcp", "text/event-stream"), open("POST", "/mcp", "text/event-stream"), open("GET", "/sse", "text/event-stream"),
		open("POST", "/mcp", "application/json"),
	}
	if streamable, sse := streams.Len(); streamable != 2 || sse != 1 {
		t.Errorf("%d and %d streams are open, want 2 and 1", streamable, sse)
	}
	for _, a := range answers {
		a.Close()
	}
	if streamable, sse := streams.Len(); streamable != 0 || sse != 0 {
		t.Errorf("%d and %d streams are open in the end", streamable, sse)
	}
}

func TestCallsOfToolsAreCountedByTheWordsOfTheConfiguration(t *testing.T) {
	m := metrics.New()
	d, _ := ruledDoor(t, func(c *gate.Config) { c.Metrics = m })
	token := d.mint("/mcp", "mcp")
	for _, tool := range []string{"get_bug", "get_" + strings.Repeat("x", 500), "create_case", "drop_tables", "fire"} {
		d.check(rpc("/mcp", token, call(tool)))
	}
	d.check(rpc("/mcp", token, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	want := metricstest.Values{
		"tool_calls_total result=allowed tool=get_*": 2, "tool_calls_total result=lacking tool=create_case": 1,
		"tool_calls_total result=denied tool=other": 1, "tool_calls_total result=denied tool=fire": 1,
		"token_validations_total result=ok": 6, "token_validation_duration_seconds": 6,
	}
	if diff := cmp.Diff(want, metricstest.Read(t, m).Since(metricstest.Read(t, metrics.New()))); diff != "" {
		t.Errorf("unexpected counts (-want +got):\n%s", diff)
	}
}
