package gate_test

import (
	"maps"
	"net/http/httptest"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
)

// BenchmarkCheck is what the gate costs a request whose token is known.
func BenchmarkCheck(b *testing.B) {
	d := newDoor(b, func(c *gate.Config) { c.Metrics = metrics.New() })
	r := request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "mcp"), "Content-Type", "application/json",
		"Accept", "application/json, text/event-stream", "Mcp-Session-Id", "1234", "User-Agent", "bench", "Cookie", "a=b; __Host-mcp_session=c")
	header := r.Header.Clone()
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		maps.Copy(r.Header, header)
		if gate.AmbiguousPath(r.URL) || d.Metadata(w, r, r.URL.Path) {
			b.Fatal("the path is taken for another")
		}
		if _, refused := d.Check(w, r, r.URL.Path); refused != nil {
			b.Fatal(refused.Reason)
		}
		a, r := d.Answer(w, r, r.URL.Path, gate.Pass{})
		d.Strip(r)
		a.Close()
	}
}
