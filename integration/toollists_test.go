package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// startPagingServer runs an MCP server of the Go SDK whose list of tools has pages of two. It answers with event streams, or
// in JSON where a request says so, and speaks the old transport at /sse.
func startPagingServer(t *testing.T) string {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "pages", Version: "1"}, &mcp.ServerOptions{PageSize: 2})
	for _, name := range []string{"get_a", "create_case", "get_b", "x", "y", "z", "get_c"} {
		tool := &mcp.Tool{Name: name, Description: `"name": "get_a" }, ] ` + name, InputSchema: map[string]any{"type": "object"}}
		s.AddTool(tool, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
	}
	get := func(*http.Request) *mcp.Server { return s }
	events := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true})
	documents := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	old := mcp.NewSSEHandler(get, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/sse":
			old.ServeHTTP(w, r)
		case r.Header.Get("X-Answer") == "json":
			documents.ServeHTTP(w, r)
		default:
			events.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return srv.Listener.Addr().String()
}

// TestListsOfTools compares each page of a list through the gateway with the upstream's own, in both eras of the protocol,
// in JSON and in event streams.
func TestListsOfTools(t *testing.T) {
	t.Parallel()
	upstream := startPagingServer(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + upstream + " {\n" + userLine + toolScopes + "\n}"})
	gr := g.newGrant(t, nil)
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		for _, kind := range []string{"json", "event-stream"} {
			t.Run(version+" "+kind, func(t *testing.T) {
				cursor := ""
				for page := 1; ; page++ {
					request := listRequest(version, cursor)
					direct := send(t, http.DefaultClient, http.MethodPost, "http://"+upstream+"/mcp", request, listHeaders(version, kind)...)
					through := send(t, g.client, http.MethodPost, g.origin+"/mcp", request, append(listHeaders(version, kind), "Authorization", "Bearer "+gr.access)...)
					want, got := messageOf(t, direct, kind), messageOf(t, through, kind)
					result := want["result"].(map[string]any)
					result["tools"] = slices.DeleteFunc(result["tools"].([]any), func(tool any) bool {
						return !strings.HasPrefix(tool.(map[string]any)["name"].(string), "get_")
					})
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("page %d (-want +got):\n%s", page, diff)
					}
					if cursor, _ = result["nextCursor"].(string); cursor == "" {
						if page != 4 {
							t.Errorf("the list has %d pages, want 4, of which the third one is empty", page)
						}
						return
					}
				}
			})
		}
	}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version+" Go SDK", func(t *testing.T) {
			transport := &mcp.StreamableClientTransport{Endpoint: g.origin + "/mcp", HTTPClient: &http.Client{Transport: withToken{g.http2(), gr.access}}}
			wantReadTools(t, transport, version)
		})
	}
	t.Run("the old transport", func(t *testing.T) {
		transport := &mcp.SSEClientTransport{Endpoint: g.origin + "/sse", HTTPClient: &http.Client{Transport: withToken{g.http2(), gr.access}}}
		wantReadTools(t, transport, "2025-11-25")
	})
}

func listRequest(version, cursor string) string {
	params := map[string]any{}
	if cursor != "" {
		params["cursor"] = cursor
	}
	if version >= "2026" {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": map[string]any{},
			"io.modelcontextprotocol/clientInfo": map[string]any{"name": "integration", "version": "1"},
		}
	}
	body, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": params})
	return string(body)
}

func listHeaders(version, kind string) []string {
	headers := []string{
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Accept-Encoding", "gzip",
		"X-Answer", kind, "MCP-Protocol-Version", version,
	}
	if version >= "2026" {
		headers = append(headers, "Mcp-Method", "tools/list")
	}
	return headers
}

// messageOf is the one message of an answer.
func messageOf(t *testing.T, a *answer, kind string) map[string]any {
	t.Helper()
	wantStatus(t, "a page", a, http.StatusOK)
	if !strings.HasSuffix(strings.TrimSpace(strings.Split(a.header.Get("Content-Type"), ";")[0]), kind) {
		t.Errorf("the answer is %s, want %s", a.header.Get("Content-Type"), kind)
	}
	body := a.body
	if kind == "event-stream" {
		for line := range strings.Lines(a.body) {
			if data, ok := strings.CutPrefix(line, "data: "); ok && strings.HasPrefix(data, "{") {
				body = data
			}
		}
	}
	var message map[string]any
	if err := json.Unmarshal([]byte(body), &message); err != nil {
		t.Fatalf("no message: %v: %s", err, a.body)
	}
	if message["result"] == nil {
		t.Fatalf("no result: %s", a.body)
	}
	return message
}

// wantReadTools lists all tools with the Go SDK.
func wantReadTools(t *testing.T, transport mcp.Transport, version string) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "integration", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var names []string
	for tool, err := range session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	if got := fmt.Sprint(names); got != "[get_a get_b get_c]" {
		t.Errorf("the tools are %s", got)
	}
}

// withToken adds a token to every request.
type withToken struct {
	base  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return w.base.RoundTrip(r)
}
