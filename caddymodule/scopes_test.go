package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestScopesThatNobodyCouldUseAreRefused(t *testing.T) {
	for name, tt := range map[string]struct{ caddyfile, want string }{
		"tools": {oneSite("scope mcp \"All\" {\ntools *\n}\n"), ""},
		"methods and no tools": {
			oneSite("scope mcp \"All\"\nscope files \"Files\" {\nmethods resources/*\n}\n"),
			`scopes of /mcp name methods and no tools, so no tool can be called there. Name them in a scope, for example: scope mcp "Use all tools" { tools * }`,
		},
		"tools of another resource": {
			oneSite("scope a \"A\" {\nmethods resources/*\n}\nscope b \"B\" {\ntools *\n}\nresource /a {\nscopes a\n}\nresource /b {\nscopes b\n}\n"),
			`scopes of /a name methods and no tools, so no tool can be called there. Name them in a scope, for example: scope mcp "Use all tools" { tools * }`,
		},
		"a static token with a scope of others": {
			oneSite("scope mcp \"All\"\nscope admin \"Admin\" {\nallow group admins\n}\nbearer_token dev_token_12345 mcp admin\n"),
			"a bearer_token has the scope 'admin', which its 'allow' lines keep for others. Add to the scope: allow client bearer",
		},
		"a static token that the rule names": {oneSite("scope admin \"Admin\" {\nallow group admins\nallow client bearer\n}\nbearer_token dev_token_12345 admin\n"), ""},
		"a static token with all scopes":     {oneSite("scope mcp \"All\"\nscope admin \"Admin\" {\nallow group admins\n}\nbearer_token dev_token_12345\n"), ""},
		"sites of one issuer that differ": {
			shared("scope admin \"Admin\" {\nallow group admins\n}\n", "scope admin \"Admin\" {\nallow group others\n}\n"),
			"the scope 'admin': two sites of one issuer define it with different lines 'implies' or 'allow'. Move it into the global options: mcp_auth { scope admin … }",
		},
		"sites of one issuer with tools of their own": {
			shared("scope mcp \"All\" {\ntools a_*\nallow group a\n}\n", "scope mcp \"All\" {\ntools b_*\nallow group a\n}\n"), "",
		},
		"sites of several issuers": {
			"a.example.com {\nmcp_auth {\n" + alice + "scope mcp \"All\" {\nallow group a\n}\n}\n}\nb.example.com {\nmcp_auth {\n" + alice + "scope mcp \"All\" {\nallow group b\n}\n}\n}\n", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decided(t, tt.caddyfile)
			if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
				t.Errorf("got the error\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// oneSite is a site with lines.
func oneSite(lines string) string { return "mcp.example.com {\nmcp_auth {\n" + lines + "}\n}" }

// shared are two sites of one issuer.
func shared(a, b string) string {
	return "{\nmcp_auth {\nissuer https://a.example.com\n" + alice + "}\n}\na.example.com {\nmcp_auth {\n" + a + "}\n}\nb.example.com {\nmcp_auth {\n" + b + "}\n}\n"
}

func TestThereAreNotMoreScopesThanATokenCanHave(t *testing.T) {
	var o Options
	for i := range 65 {
		o.Scopes = append(o.Scopes, Scope{Name: fmt.Sprint("s", i), Description: "S"})
	}
	if err := o.validate(); err != nil {
		t.Errorf("without rules: %v", err)
	}
	o.Scopes[64].Tools = []string{"*"}
	if err := o.validate(); err == nil || !strings.Contains(err.Error(), "there are 65 scopes, and no token can have more than 64. Take a line away") {
		t.Errorf("with rules: %v", err)
	}
}

func TestPlaceholdersOfTheRulesOfScopes(t *testing.T) {
	t.Setenv("ADMINS", "mcp-admins")
	b, err := decided(t, oneSite("scope mcp \"All\" {\nallow group {env.ADMINS}\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := b.sites[0]
	if got := s.options.Scopes[0].Allow.Groups; len(got) != 1 || got[0] != "mcp-admins" {
		t.Errorf("the groups are %q", got)
	}
	if got := s.handler.Options.Scopes[0].Allow.Groups; len(got) != 1 || got[0] != "{env.ADMINS}" {
		t.Errorf("the configuration has %q", got)
	}
}

// TestScopesDecideAboutTools sends calls of service accounts with scopes, and of
// one whose scope its rule takes away, through a whole site.
func TestScopesDecideAboutTools(t *testing.T) {
	m := newMachine(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_bug"},{"name":"create_case"},{"name":"drop"}]}}`)
	}))
	t.Cleanup(backend.Close)
	m.mustLoad("", `http://mcp.localhost:%[1]d {
		mcp_auth `+backend.Listener.Addr().String()+` {
			client reader {
				secret robot-secret-1234
				scopes mcp:read
			}
			client writer {
				secret robot-secret-1234
			}
			scope mcp:read "Read" {
				tools get_*
			}
			scope mcp:write "Write" {
				tools create_case
				implies mcp:read
				allow client writer nobody
			}
		}
	}`)
	origin := m.url("mcp.localhost", 1)
	token := func(client, scope string) string {
		r := m.request(origin+"/token", "", url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
		r.SetBasicAuth(client, "robot-secret-1234")
		access, _ := m.do(r).json(t, "access_token").(string)
		return access
	}
	call := func(access, body string) reply {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, origin+"/mcp", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer " + access}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
		return m.do(r)
	}
	const get, create, list = `{"id":1,"method":"tools/call","params":{"name":"get_bug"}}`, `{"id":1,"method":"tools/call","params":{"name":"create_case"}}`, `{"id":1,"method":"tools/list"}`
	for _, tt := range []struct {
		client, scope, body string
		status              int
		want                string // in the answer
	}{
		{"reader", "mcp:read mcp:write", get, 200, "result"},
		{"reader", "mcp:read mcp:write", create, 200, `"code":-32602`}, // it can never have the scope
		{"reader", "mcp:read", list, 200, `"tools":[{"name":"get_bug"}]`},
		{"writer", "mcp:read", create, 403, `"code":403`},
		{"writer", "mcp:write", create, 200, "result"},
		{"writer", "mcp:write", get, 200, "result"},
		{"writer", "mcp:write", list, 200, `"tools":[{"name":"get_bug"},{"name":"create_case"}]`},
		{"writer", "mcp:write", strings.Replace(get, "get_bug", "drop", 1), 200, `"code":-32602`},
		{"writer", "mcp:write", get + get, 400, `"code":-32700`},
	} {
		a := call(token(tt.client, tt.scope), tt.body)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s with %s sends %s: %d %s, want %d with %s", tt.client, tt.scope, tt.body, a.status, a.body, tt.status, tt.want)
		}
	}
	if got := m.logs(); !strings.Contains(got, `"tool":"create_case"`) || !strings.Contains(got, `"event":"request.refuse","outcome":"refused"`) {
		t.Error("the log does not tell of the tool")
	}
}
