package caddymodule

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
)

func TestCallAttributes(t *testing.T) {
	none := []policy.Call(nil)
	for _, tt := range []struct {
		rule, path string
		header     http.Header
		calls      []policy.Call
		want       map[string]string
	}{
		{"a call", "/mcp", http.Header{
			"Mcp-Method": {"tools/call"}, "Mcp-Name": {"search"}, "Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Session-Id": {"secret"},
		}, none, map[string]string{
			"mcp.method.name": "tools/call", "gen_ai.tool.name": "search", "mcp.protocol.version": "2026-07-28",
			"mcp_auth.transport": "streamable_http", "mcp_auth.session": "true",
		}},
		{"a prompt", "/mcp", http.Header{"Mcp-Method": {"prompts/get"}, "Mcp-Name": {"greet"}}, none, map[string]string{
			"mcp.method.name": "prompts/get", "gen_ai.prompt.name": "greet", "mcp_auth.transport": "streamable_http", "mcp_auth.session": "false",
		}},
		{"the address of a resource is not told", "/mcp", http.Header{"Mcp-Method": {"resources/read"}, "Mcp-Name": {"file:///home/alice"}}, none, map[string]string{
			"mcp.method.name": "resources/read", "mcp_auth.transport": "streamable_http", "mcp_auth.session": "false",
		}},
		{"an old client", "/x/messages", http.Header{}, none, map[string]string{"mcp_auth.transport": "sse", "mcp_auth.session": "false"}},
		{"an old client where bodies are looked at", "/mcp", http.Header{}, []policy.Call{{Method: "tools/call", Tool: "search"}}, map[string]string{
			"mcp.method.name": "tools/call", "gen_ai.tool.name": "search", "mcp_auth.transport": "streamable_http", "mcp_auth.session": "false",
		}},
		{"a batch has no name", "/mcp", http.Header{}, []policy.Call{{Method: "ping"}, {Method: "tools/call", Tool: "search"}}, map[string]string{
			"mcp_auth.transport": "streamable_http", "mcp_auth.session": "false",
		}},
		{"junk", "/mcp", http.Header{
			"Mcp-Method": {strings.Repeat("a", 129)}, "Mcp-Name": {"x"}, "Mcp-Protocol-Version": {"2026\x00"},
		}, none, map[string]string{"mcp_auth.transport": "streamable_http", "mcp_auth.session": "false"}},
	} {
		got := map[string]string{}
		for _, kv := range callAttributes(tt.header, tt.path, tt.calls) {
			got[string(kv.Key)] = kv.Value.String()
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.rule, diff)
		}
	}
}
