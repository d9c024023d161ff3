package integration

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// endpointEvent is the first event of the recorder's streams as clients get it.
const endpointEvent = "event: endpoint\ndata: /messages?sessionid=abc\n"

// wantEnd reads a stream until the gateway ends it.
func (s *eventStream) wantEnd() {
	s.t.Helper()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, s.lines)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		s.t.Error("the stream goes on")
	}
}

// TestStreamsEndWithTheirGrant revokes a grant while two of its streams and one of another grant are open.
func TestStreamsEndWithTheirGrant(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\n}"})
	revoked, other := g.newGrant(t, nil), g.newGrant(t, nil)
	streams := []*eventStream{
		openStream(t, g.newClient(g.http1()), g.origin+"/sse", revoked.access),
		openStream(t, g.newClient(g.http2()), g.origin+"/sse", revoked.access),
	}
	kept := openStream(t, g.client, g.origin+"/sse", other.access)
	for _, s := range append(streams, kept) {
		s.want(endpointEvent)
	}
	revoked.revoke(t)
	for _, s := range streams {
		s.wantEnd()
	}
	wantStatus(t, "a stream of the other grant", g.call(t, g.client, "/mcp", other.access), http.StatusOK)
	kept.cancel()
}

// TestStopWithOpenStream ends a gateway while a client listens to a stream that never ends. Caddy alone would wait for
// it for ever.
func TestStopWithOpenStream(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\n}", patient: true})
	gr := g.newGrant(t, nil)
	stream := openStream(t, g.client, g.origin+"/sse", gr.access)
	stream.want(endpointEvent)
	g.proc.stop()
	if g.proc.err != nil {
		t.Errorf("Caddy ended with %v", g.proc.err)
	}
}
