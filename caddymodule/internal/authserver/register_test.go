package authserver_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
)

// Bodies that clients in the field send.
const (
	mcpRemoteBody = `{"redirect_uris":["http://localhost:21033/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP CLI Client","client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.15.1","scope":"mcp:tools","application_type":"native"}`
	inspectorBody = `{"redirect_uris":["http://127.0.0.1:6276/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP Inspector","application_type":"native"}`
	vsCodeBody    = `{"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://127.0.0.1/","http://127.0.0.1:33418/"],"token_endpoint_auth_method":"none","application_type":"native"}`
	cursorBody    = `{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback","https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`
	goBody        = `{"redirect_uris":["http://localhost:3142/"],"client_name":"Go","application_type":"native","logo_uri":null,"contacts":["a@example.com"],"jwks":{"keys":[]},"unknown":{"a":[1]}}`
)

func TestRegistrationsOfRealClientsAreAccepted(t *testing.T) {
	for name, body := range map[string]string{"mcp-remote": mcpRemoteBody, "Inspector": inspectorBody, "VS Code": vsCodeBody, "Cursor": cursorBody, "Go SDK": goBody} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			a := s.program(request(http.MethodPost, "/register", body))
			if a.StatusCode != http.StatusCreated || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %v %v", a.StatusCode, a.Header, a.fields)
			}
			if a.text("token_endpoint_auth_method") != "none" || a.fields["client_secret"] != nil || !strings.HasPrefix(a.text("client_id"), "mcp_") {
				t.Errorf("not a public client: %v", a.fields)
			}
			if issued, _ := a.fields["client_id_issued_at"].(float64); issued < 1.7e9 {
				t.Errorf("client_id_issued_at is %v", a.fields["client_id_issued_at"])
			}
			for field, value := range a.fields {
				if value == nil || reflect.ValueOf(value).IsZero() {
					t.Errorf("%s is empty", field)
				}
			}
			uris, _ := a.fields["redirect_uris"].([]any)
			for _, uri := range uris {
				s.browser().consent(authorization(a.text("client_id"), "redirect_uri", fmt.Sprint(uri)))
			}
			if want := strings.Count(body, "://") - strings.Count(body, `_uri":"`); len(uris) != want {
				t.Errorf("%d redirect URIs of %d", len(uris), want)
			}
		})
	}
}

func TestARegistrationThatCannotBeIsRefused(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct{ rule, body, code string }{
		{"no JSON", `redirect_uris=x`, "invalid_client_metadata"},
		{"no object", `["x"]`, "invalid_client_metadata"},
		{"null", `null`, "invalid_client_metadata"},
		{"more than one value", `{"redirect_uris":["` + callback + `"]}{}`, "invalid_client_metadata"},
		{"too long", `{"a":"` + strings.Repeat("x", 40<<10) + `"}`, "invalid_client_metadata"},
		{"a field of another type", `{"redirect_uris":"` + callback + `"}`, "invalid_client_metadata"},
		{"no redirect URI", `{"client_name":"x"}`, "invalid_redirect_uri"},
		{"fields in another case", `{"Redirect_URIs":["` + callback + `"]}`, "invalid_redirect_uri"},
		{"script", `{"redirect_uris":["javascript:alert(1)"]}`, "invalid_redirect_uri"},
		{"plain http elsewhere", `{"redirect_uris":["http://evil.example/cb"]}`, "invalid_redirect_uri"},
		{"a wildcard", `{"redirect_uris":["https://*.example.com/cb"]}`, "invalid_redirect_uri"},
		{"one bad among good ones", `{"redirect_uris":["` + callback + `","data:text/html,x"]}`, "invalid_redirect_uri"},
		{"an unknown grant type only", `{"redirect_uris":["` + callback + `"],"grant_types":["implicit"]}`, "invalid_client_metadata"},
		{"an unknown response type only", `{"redirect_uris":["` + callback + `"],"response_types":["token"]}`, "invalid_client_metadata"},
		{"an unknown method", `{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"tls_client_auth"}`, "invalid_client_metadata"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s.program(request(http.MethodPost, "/register", c.body)).refused(t, 400, c.code)
		})
	}
	s.program(typed(request(http.MethodPost, "/register", inspectorBody), "text/plain")).refused(t, 400, "invalid_client_metadata")
	s.program(request(http.MethodGet, "/register", nil)).refused(t, 405, "invalid_request")
}

func TestTheNumberOfABadRedirectURIIsNamed(t *testing.T) {
	s := newSite(t)
	a := s.program(request(http.MethodPost, "/register", `{"redirect_uris":["`+callback+`","http://evil.example/"]}`))
	if got := a.text("error_description"); !strings.Contains(got, "redirect_uris[1]") || strings.Contains(got, "evil") {
		t.Errorf("the description is %q", got)
	}
}

func TestOnlyListedHostsMayRegister(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) {
		c.Registration = client.HostPolicy{Hosts: []string{"claude.ai", "localhost", "cursor:"}}
	})
	for uri, ok := range map[string]bool{
		"https://claude.ai/api/mcp/auth_callback": true, "https://CLAUDE.AI/x": true, "http://localhost:1/": true,
		"http://127.0.0.1/": true, "http://[::1]/": true, "cursor://anysphere.cursor-mcp/oauth/callback": true,
		"https://claude.ai.evil.example/": false, "https://evil.example/claude.ai": false, "https://sub.claude.ai/": false,
		"vscode://x/y": false,
	} {
		a := s.program(request(http.MethodPost, "/register", `{"redirect_uris":["`+uri+`"]}`))
		if ok != (a.StatusCode == http.StatusCreated) {
			t.Errorf("%s: %d %v", uri, a.StatusCode, a.fields)
		}
		if !ok {
			a.refused(t, 400, "invalid_redirect_uri")
		}
	}
}

func TestRegistrationCanBeOff(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.Registration.Off = true })
	s.program(request(http.MethodPost, "/register", inspectorBody)).refused(t, 403, "access_denied")
}

// Otherwise anybody could register, get a token and call the upstream without
// that a person ever agreed.
func TestServiceAccountsNeedAnInitialAccessToken(t *testing.T) {
	bodies := []string{
		`{"grant_types":["client_credentials"],"client_name":"CI"}`,
		`{"grant_types":["authorization_code","client_credentials"],"redirect_uris":["` + callback + `"]}`,
	}
	for _, c := range []struct {
		rule          string
		authorization []string
		open          bool
		ok            bool
	}{
		{"no token", nil, false, false},
		{"a wrong token", []string{"Bearer wrong"}, false, false},
		{"the token in another scheme", []string{"Basic initial-access-token"}, false, false},
		{"the token twice", []string{"Bearer initial-access-token", "Bearer initial-access-token"}, false, false},
		{"the token", []string{"Bearer initial-access-token"}, false, true},
		{"registration is open", nil, true, true},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t, func(cfg *authserver.Config) { cfg.OpenServiceAccounts = c.open })
			for _, body := range bodies {
				r := request(http.MethodPost, "/register", body)
				r.Header["Authorization"] = c.authorization
				a := s.program(r)
				if !c.ok {
					a.refused(t, 401, "invalid_token")
					if got := a.Header.Get("WWW-Authenticate"); got != `Bearer realm="mcp.example.com"` {
						t.Errorf("WWW-Authenticate is %q", got)
					}
					continue
				}
				if a.StatusCode != http.StatusCreated {
					t.Fatalf("%s: %d %v", body, a.StatusCode, a.fields)
				}
				if expires, ok := a.fields["client_secret_expires_at"].(float64); !ok || expires != 0 {
					t.Errorf("client_secret_expires_at is %v", a.fields["client_secret_expires_at"])
				}
				id, secret := a.text("client_id"), a.text("client_secret")
				s.issued(map[string][]string{"grant_type": {"client_credentials"}}, id, secret)
				s.token(map[string][]string{"grant_type": {"client_credentials"}, "client_id": {id}}).refused(t, 401, "invalid_client")
			}
		})
	}
}

func TestAPublicClientIsNoServiceAccount(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.OpenServiceAccounts = true })
	a := s.program(request(http.MethodPost, "/register", `{"grant_types":["client_credentials"],"token_endpoint_auth_method":"none"}`))
	a.refused(t, 400, "invalid_client_metadata")
}

// A token that some scopes or one resource bound must not become a service account
// that nothing bounds.
func TestALimitedTokenMakesNoServiceAccounts(t *testing.T) {
	s := newSite(t)
	r := request(http.MethodPost, "/register", `{"grant_types":["client_credentials"]}`)
	r.Header.Set("Authorization", "Bearer limited-access-token")
	a := s.program(r)
	a.refused(t, 403, "insufficient_scope")
	if got := a.Header.Get("WWW-Authenticate"); got != `Bearer error="insufficient_scope"` {
		t.Errorf("WWW-Authenticate is %q", got)
	}
}

func TestRegistrationCanNeedAnInitialAccessToken(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.ProtectedRegistration, c.OpenServiceAccounts = true, true })
	for _, c := range []struct {
		rule, authorization string
		status              int
	}{
		{"no token", "", http.StatusUnauthorized},
		{"a wrong token", "Bearer wrong", http.StatusUnauthorized},
		{"a limited token", "Bearer limited-access-token", http.StatusCreated},
		{"a token", "Bearer initial-access-token", http.StatusCreated},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := request(http.MethodPost, "/register", inspectorBody)
			if c.authorization != "" {
				r.Header.Set("Authorization", c.authorization)
			}
			a := s.program(r)
			if c.status == http.StatusCreated {
				if a.StatusCode != c.status {
					t.Errorf("%d %v", a.StatusCode, a.fields)
				}
				return
			}
			a.refused(t, c.status, "invalid_token")
			if got := a.Header.Get("WWW-Authenticate"); got != `Bearer realm="mcp.example.com"` {
				t.Errorf("WWW-Authenticate is %q", got)
			}
			if got := a.text("error_description"); !strings.Contains(got, "ask whoever runs this server for one") {
				t.Errorf("the description is %q", got)
			}
		})
	}
	// Service accounts come in by the same door.
	s.program(request(http.MethodPost, "/register", `{"grant_types":["client_credentials"]}`)).refused(t, 401, "invalid_token")
}
