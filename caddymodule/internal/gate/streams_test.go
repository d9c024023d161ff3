package gate_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// streamOf lets a request of a grant through whose answer has the content type,
// and returns whether the request was ended from outside.
func streamOf(t *testing.T, g *gate.Gate, grantID, contentType string) (ended <-chan struct{}, finish func()) {
	t.Helper()
	claims := &token.Claims{AccessTokenClaims: oauth.AccessTokenClaims{GrantID: grantID}}
	a, r := g.Answer(httptest.NewRecorder(), request("GET", "/mcp"), "/mcp", gate.Pass{Claims: claims})
	a.Header().Set("Content-Type", contentType)
	a.WriteHeader(http.StatusOK)
	return r.Context().Done(), a.Close
}

func isClosed(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	case <-time.After(10 * time.Millisecond):
		return false
	}
}

func TestRevokingAGrantEndsItsStreamsOnly(t *testing.T) {
	streams := gate.NewStreams()
	g := gate.New(gate.Config{Resources: []*oauth.Resource{{Origin: "https://h.example", Path: "/mcp"}}, Streams: streams})
	first, finishFirst := streamOf(t, g, "one", "text/event-stream")
	second, finishSecond := streamOf(t, g, "one", "Text/Event-Stream; charset=utf-8")
	other, finishOther := streamOf(t, g, "two", "text/event-stream")
	plain, finishPlain := streamOf(t, g, "one", "application/json")
	if n, sse := streams.Len(); n != 3 || sse != 0 {
		t.Errorf("%d and %d streams are known, want 3 and none", n, sse)
	}
	streams.Close("one")
	streams.Close("nobody's")
	if !isClosed(first) || !isClosed(second) {
		t.Error("a stream of the revoked grant goes on")
	}
	if isClosed(other) || isClosed(plain) {
		t.Error("an answer of another kind or grant was ended")
	}
	streams.CloseAll()
	if !isClosed(other) {
		t.Error("a stream goes on after all were ended")
	}
	for _, finish := range []func(){finishFirst, finishSecond, finishOther, finishPlain} {
		finish()
	}
	if n, sse := streams.Len(); n != 0 || sse != 0 {
		t.Errorf("%d and %d streams are still known", n, sse)
	}
}

func TestRemovingAClientEndsItsStreamsOnly(t *testing.T) {
	streams := gate.NewStreams()
	g := gate.New(gate.Config{Resources: []*oauth.Resource{{Origin: "https://h.example", Path: "/mcp"}}, Streams: streams})
	gone, finishGone := streamOf(t, g, "of the client", "text/event-stream")
	other, finishOther := streamOf(t, g, "of another", "text/event-stream")
	static, finishStatic := streamOf(t, g, "", "text/event-stream")
	defer finishGone()
	defer finishOther()
	defer finishStatic()
	streams.CloseRefused(func(c *token.Claims) bool { return c.GrantID != "of another" })
	if !isClosed(gone) {
		t.Error("a stream of the client goes on")
	}
	if isClosed(other) || isClosed(static) {
		t.Error("a stream of somebody else was ended")
	}
}
