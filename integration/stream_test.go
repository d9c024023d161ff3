package integration

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestStreamsAreNotHeldBack reads the first event of a stream while the upstream waits with the second: over each
// version of HTTP, what the upstream has written is there at once.
func TestStreamsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: forwardingSite(rec.address)})
	gr := g.newGrant(t, nil)
	for protocol, client := range protocolClients(g) {
		t.Run(protocol, func(t *testing.T) {
			stream := openStream(t, client, g.origin+"/sse", gr.access)
			stream.want(endpointEvent)
			for _, event := range []string{`{"n":2}`, `{"n":3}`} {
				rec.proceed <- struct{}{}
				stream.want("event: message\ndata: " + event + "\n")
			}
			wantStatus(t, "posting to the address of the event", g.call(t, client, "/messages?sessionid=abc", gr.access), http.StatusOK)
			stream.cancel()
		})
	}
}

// TestEndpointEventNamesPublicPath puts an upstream of the old transport below a path of the site. It tells its
// clients where to post, and does not know that path.
func TestEndpointEventNamesPublicPath(t *testing.T) {
	t.Parallel()
	rec, other := startRecorder(t), startRecorder(t)
	g := startGateway(t, gatewayConfig{site: twoResources(rec.address, other.address)})
	gr := g.newGrant(t, url.Values{"resource": {g.origin + "/github/sse"}})
	stream := openStream(t, g.client, g.origin+"/github/sse", gr.access)
	stream.want("event: endpoint\ndata: /github/messages?sessionid=abc\n")
	rec.proceed <- struct{}{}
	stream.want("event: message\ndata: {\"n\":2}\n")
}

// TestClosedStreamEndsUpstream closes a stream at the client: for 2026-07-28 that is how a call is cancelled.
func TestClosedStreamEndsUpstream(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: forwardingSite(rec.address)})
	gr := g.newGrant(t, nil)
	for protocol, client := range protocolClients(g) {
		t.Run(protocol, func(t *testing.T) {
			stream := openStream(t, client, g.origin+"/sse", gr.access)
			stream.want(endpointEvent)
			ended := rec.ended.Load()
			stream.cancel()
			eventually(t, "the stream ends at the upstream", func() bool { return rec.ended.Load() > ended })
		})
	}
}

// eventStream is an open stream of events.
type eventStream struct {
	t      *testing.T
	cancel context.CancelFunc
	lines  *bufio.Reader
	header http.Header
}

// openStream opens a stream that ends with the test at the latest. The client's limit of time is for whole answers,
// which this one never becomes.
func openStream(t *testing.T, client *http.Client, address, token string) *eventStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+token)
	unlimited := *client
	unlimited.Timeout = 0
	resp, err := unlimited.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("no stream but %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &eventStream{t, cancel, bufio.NewReader(resp.Body), resp.Header}
}

// want reads the next event and fails the test when it is another one.
func (s *eventStream) want(event string) {
	s.t.Helper()
	if got := s.next(); got != event {
		s.t.Fatalf("the event is %q, want %q", got, event)
	}
}

// next reads the next event. A stream that is held back ends with an error.
func (s *eventStream) next() string {
	s.t.Helper()
	defer time.AfterFunc(patience, s.cancel).Stop()
	var got strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			s.t.Fatalf("the stream ended after %q: %v", got.String(), err)
		}
		if line == "\n" {
			return got.String()
		}
		got.WriteString(line)
	}
}
