package integration

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes spans as OpenTelemetry's collector does.
type collector struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	spans []*tracev1.Span
	raw   strings.Builder // all that came
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t}
	srv := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	data := &tracev1.TracesData{} // has the form of an export request
	if err == nil {
		err = proto.Unmarshal(body, data)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, resource := range data.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// env makes Caddy send its spans here soon.
func (c *collector) env() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=50"}
}

// trace waits for the spans of a trace, by their names.
func (c *collector) trace(id string, count int) map[string]*tracev1.Span {
	c.t.Helper()
	found := map[string]*tracev1.Span{}
	eventually(c.t, "the spans arrive", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, span := range c.spans {
			if hex.EncodeToString(span.GetTraceId()) == id {
				found[span.GetName()] = span
			}
		}
		return len(found) >= count
	})
	return found
}

// ours are the attributes that the gateway has added.
func ours(span *tracev1.Span) map[string]any {
	out := map[string]any{}
	for _, kv := range span.GetAttributes() {
		for _, prefix := range []string{"mcp.", "mcp_auth.", "gen_ai."} {
			if strings.HasPrefix(kv.GetKey(), prefix) {
				out[kv.GetKey()] = kv.GetValue().GetStringValue()
				if b, ok := kv.GetValue().GetValue().(*commonv1.AnyValue_BoolValue); ok {
					out[kv.GetKey()] = b.BoolValue
				}
			}
		}
	}
	return out
}

// TestTracing lets Caddy's tracing handler export spans, and looks at what the gateway adds to them.
func TestTracing(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{
		env:  c.env(),
		site: "tracing {\nspan mcp\n}\nmcp_auth " + rec.address + " {\n" + userLine + "\n}",
	})
	gr := g.newGrant(t, nil)
	const session = "session-id-of-the-test"
	begin(t, g, gr.access, session)
	gr.renew(t) // for a token that has to be checked
	call := func(id, token string, more ...string) *answer {
		t.Helper()
		headers := append([]string{"Traceparent", "00-" + id + "-00f067aa0ba902b7-01", "Mcp-Session-Id", session}, more...)
		if token != "" {
			headers = append(headers, "Authorization", "Bearer "+token)
		}
		return send(t, g.client, http.MethodPost, g.origin+"/mcp", toolsCall, headers...)
	}

	const first, second, refused, refresh = "4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737",
		"4bf92f3577b34da6a3ce929d0e0e4738", "4bf92f3577b34da6a3ce929d0e0e4739"
	wantStatus(t, "a call", call(first, gr.access, "Mcp-Method", "tools/call", "Mcp-Name", "search", "Mcp-Protocol-Version", "2025-11-25"), http.StatusOK)
	parent := rec.last(t).Header.Get("Traceparent")
	spans := c.trace(first, 2)
	check, main := spans["mcp_auth check"], spans["mcp"]
	if main == nil || check == nil || string(check.GetParentSpanId()) != string(main.GetSpanId()) {
		t.Fatalf("the spans are %v", spans)
	}
	want := map[string]any{
		"mcp.method.name": "tools/call", "gen_ai.tool.name": "search", "mcp.protocol.version": "2025-11-25",
		"mcp_auth.transport": "streamable_http", "mcp_auth.session": true, "mcp_auth.result": "ok",
	}
	if diff := cmp.Diff(want, ours(main)); diff != "" {
		t.Errorf("the span of a call (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(parent, "00-"+first+"-"+hex.EncodeToString(main.GetSpanId())) {
		t.Errorf("the upstream gets traceparent %s, the span is %x", parent, main.GetSpanId())
	}

	wantStatus(t, "a call without a token", call(refused, "", "Mcp-Method", "tools/call"), http.StatusUnauthorized)
	if diff := cmp.Diff(map[string]any{"mcp_auth.result": "missing"}, ours(c.trace(refused, 1)["mcp"])); diff != "" {
		t.Errorf("the span of a refusal (-want +got):\n%s", diff)
	}

	a := send(t, g.client, http.MethodPost, g.origin+"/token", "grant_type=refresh_token&client_id="+gr.clientID+"&refresh_token="+gr.refresh,
		"Content-Type", formType, "Traceparent", "00-"+refresh+"-00f067aa0ba902b7-01")
	old := gr.refresh
	gr.take(t, a)
	g.keepSecret(gr.access, gr.refresh)
	if spans := c.trace(refresh, 2); spans["mcp_auth /token"] == nil {
		t.Errorf("the spans of a token request are %v", spans)
	}
	wantStatus(t, "another call", call(second, gr.access), http.StatusOK)
	c.trace(second, 1)

	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range []string{gr.access, gr.refresh, old, gr.clientID, session, userName, userPassword} {
		if strings.Contains(c.raw.String(), secret) {
			t.Errorf("the traces tell %.12s…", secret)
		}
	}
}

// TestTraceparentPassesUntouched is about gateways without tracing: the client and the upstream share a trace all the same.
func TestTraceparentPassesUntouched(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\nbearer_token a-static-token-of-the-test\n}"})
	headers := map[string]string{
		"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate": "vendor=1,other=2", "Baggage": "a=b",
	}
	pairs := []string{"Authorization", "Bearer a-static-token-of-the-test"}
	for name, value := range headers {
		pairs = append(pairs, name, value)
	}
	wantStatus(t, "a call", send(t, g.client, http.MethodPost, g.origin+"/mcp", toolsCall, pairs...), http.StatusOK)
	arrived := rec.last(t).Header
	for name, value := range headers {
		if got := arrived.Get(name); got != value {
			t.Errorf("the upstream gets %s: %q, want %q", name, got, value)
		}
	}
}
