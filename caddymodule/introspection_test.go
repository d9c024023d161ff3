package caddymodule

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhichTokensAClientMayAskAbout(t *testing.T) {
	const two = "auth.example.com {\nmcp_auth {\n" + alice + "resource /admin\nresource /mcp\nclient rs {\nsecret robot-secret-1234\nINTROSPECT\n}\n}\n}\n" +
		"mcp.example.com {\nmcp_auth {\nissuer https://auth.example.com\n}\n}"
	for lines, want := range map[string][]string{
		"introspect": {
			"https://auth.example.com/admin", "https://auth.example.com/mcp",
			"https://mcp.example.com/mcp", "https://mcp.example.com/sse", "https://mcp.example.com/messages",
		},
		"introspect /mcp":                                        {"https://auth.example.com/mcp"},
		"introspect /mcp\nintrospect /admin":                     {"https://auth.example.com/mcp", "https://auth.example.com/admin"},
		"introspect https://auth.example.com/admin/":             {"https://auth.example.com/admin"},
		"introspect https://mcp.example.com/messages /admin":     {"https://mcp.example.com/mcp", "https://mcp.example.com/sse", "https://mcp.example.com/messages", "https://auth.example.com/admin"},
		"scopes mcp\ngrant_types client_credentials\nintrospect": {"https://auth.example.com/admin", "https://auth.example.com/mcp", "https://mcp.example.com/mcp", "https://mcp.example.com/sse", "https://mcp.example.com/messages"},
		"name X": nil,
	} {
		b, err := decided(t, strings.ReplaceAll(two, "INTROSPECT", lines))
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		home := b.sites[0]
		resources, _ := b.sharedResources(home)
		if diff := cmp.Diff(want, home.options.Clients[0].introspects(home.issuerURL(), resources)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", lines, diff)
		}
	}
	for _, word := range []string{"/sse", "/mcp/x", "https://mcp.example.com", "https://other.example.com/x"} {
		_, err := decided(t, strings.ReplaceAll(two, "INTROSPECT", "introspect /mcp "+word))
		want := "the client rs has the line 'introspect " + word + "', which is no resource of this issuer. Write, of these: introspect " +
			"https://auth.example.com/admin https://auth.example.com/mcp https://mcp.example.com/mcp https://mcp.example.com/sse https://mcp.example.com/messages"
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}
