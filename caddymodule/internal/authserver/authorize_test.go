package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// Until the redirect URI is known to be the client's, nothing is sent anywhere.
func TestARefusalBeforeTheRedirectURIIsKnownNeverRedirects(t *testing.T) {
	s := newSite(t)
	id := s.register()
	for _, c := range []struct {
		rule  string
		query string
		code  string
	}{
		{"no parameters at all", "", "invalid_request"},
		{"client_id is required", authorization("", "client_id", "-").Encode(), "invalid_request"},
		{"an empty client_id is none", authorization("").Encode(), "invalid_request"},
		{"a repeated client_id", repeated(authorization(id), "client_id").Encode(), "invalid_request"},
		{"a repeated redirect_uri", repeated(authorization(id), "redirect_uri").Encode(), "invalid_request"},
		{"an unknown client", authorization("mcp_unknown").Encode(), "invalid_client"},
		{"an unknown client of the right form", authorization("mcp_" + strings.Repeat("A", 26)).Encode(), "invalid_client"},
		{"a client with bytes that no id has", authorization("mcp_\x00\xff/../" + id).Encode(), "invalid_client"},
		{"a client that never signs people in", authorization(robotID).Encode(), "invalid_redirect_uri"},
		{"the redirect URI of nobody", authorization(id, "redirect_uri", "https://evil.example/cb").Encode(), "invalid_redirect_uri"},
		{"the redirect URI of another client", authorization(id, "redirect_uri", "https://app.example.net/cb").Encode(), "invalid_redirect_uri"},
		{"another path", authorization(id, "redirect_uri", callback+"/x").Encode(), "invalid_redirect_uri"},
		{"another query", authorization(id, "redirect_uri", callback+"?x=1").Encode(), "invalid_redirect_uri"},
		{"a fragment", authorization(id, "redirect_uri", callback+"#x").Encode(), "invalid_redirect_uri"},
		{"another loopback host", authorization(id, "redirect_uri", "http://localhost:6276/oauth/callback").Encode(), "invalid_redirect_uri"},
		{"user information", authorization(id, "redirect_uri", "http://127.0.0.1:6276@evil.example/oauth/callback").Encode(), "invalid_redirect_uri"},
		{"a line break", authorization(id, "redirect_uri", callback+"\r\nX: y").Encode(), "invalid_redirect_uri"},
		{"script", authorization(id, "redirect_uri", "javascript:alert(1)").Encode(), "invalid_redirect_uri"},
		{"a query that cannot be read", authorization(id).Encode() + "&%zz", "invalid_request"},
		{"semicolons", authorization(id).Encode() + ";a=b", "invalid_request"},
		{"a continuation that is junk", "continue=junk", "form_expired"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			p := s.browser().get("/authorize?" + c.query)
			if p.status != http.StatusBadRequest || p.header.Get("Location") != "" || p.problem() != c.code {
				t.Errorf("got %d %q to %q, want 400 %q", p.status, p.problem(), p.header.Get("Location"), c.code)
			}
			if strings.Contains(p.body, "evil.example") || strings.Contains(p.body, "http-equiv") {
				t.Error("the page repeats the address or refreshes")
			}
			r := request(http.MethodGet, "/authorize?"+c.query, nil)
			r.Header.Set("Accept", "application/json")
			a := s.program(r)
			a.refused(t, http.StatusBadRequest, c.code)
			if a.Header.Get("Location") != "" || a.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("the answer for programs has the headers %v", a.Header)
			}
		})
	}
}

func TestARefusalAfterwardsGoesToTheClient(t *testing.T) {
	s := newSite(t)
	id := s.register()
	for _, c := range []struct {
		rule   string
		values url.Values
		code   string
	}{
		{"response_type is required", authorization(id, "response_type", "-"), "invalid_request"},
		{"token is no response type", authorization(id, "response_type", "token"), "unsupported_response_type"},
		{"nor is a mixture", authorization(id, "response_type", "code token"), "unsupported_response_type"},
		{"a repeated response_type", repeated(authorization(id), "response_type"), "invalid_request"},
		{"a repeated scope", repeated(authorization(id), "scope"), "invalid_request"},
		{"a repeated state", repeated(authorization(id), "state"), "invalid_request"},
		{"a repeated challenge", repeated(authorization(id), "code_challenge"), "invalid_request"},
		{"a repeated resource", repeated(authorization(id), "resource"), "invalid_request"},
		{"fragments are not offered", authorization(id, "response_mode", "fragment"), "invalid_request"},
		{"nor are forms", authorization(id, "response_mode", "form_post"), "invalid_request"},
		{"request objects are not offered", authorization(id, "request", "x"), "request_not_supported"},
		{"nor are their addresses", authorization(id, "request_uri", "https://evil.example/r"), "request_uri_not_supported"},
		{"PKCE is required", authorization(id, "code_challenge", "-"), "invalid_request"},
		{"plain is refused", authorization(id, "code_challenge_method", "plain"), "invalid_request"},
		{"a method that is left out means plain", authorization(id, "code_challenge_method", "-"), "invalid_request"},
		{"methods are spelled exactly", authorization(id, "code_challenge_method", "s256"), "invalid_request"},
		{"a challenge that is too short", authorization(id, "code_challenge", "abc"), "invalid_request"},
		{"a challenge with padding", authorization(id, "code_challenge", oauth.S256(verifier)+"="), "invalid_request"},
		{"a challenge of other characters", authorization(id, "code_challenge", strings.Repeat("+", 43)), "invalid_request"},
		{"another server's resource", authorization(id, "resource", "https://evil.example/mcp"), "invalid_target"},
		{"a resource below one", authorization(id, "resource", resource+"/x"), "invalid_target"},
		{"a resource with a query", authorization(id, "resource", resource+"?a=b"), "invalid_target"},
		{"a resource that is relative", authorization(id, "resource", "/mcp"), "invalid_target"},
		{"no page may be shown", authorization(id, "prompt", "none"), "login_required"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := request(http.MethodGet, "/authorize?"+c.values.Encode(), nil)
			p := s.browser().send(r)
			location, err := url.Parse(p.header.Get("Location"))
			if err != nil || p.status != http.StatusSeeOther || !strings.HasPrefix(location.String(), callback+"?") {
				t.Fatalf("got %d to %q (%v)", p.status, location, err)
			}
			q := location.Query()
			if q.Get("error") != c.code || q.Get("state") != "xyz" || q.Get("iss") != issuer || q.Has("code") {
				t.Errorf("the client is told %v, want %s", q, c.code)
			}
			if h := p.header; h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers are %v", h)
			}
		})
	}
}

func TestPromptNoneNeverSkipsConsent(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	b.code(authorization(id))
	p := b.get("/authorize?" + authorization(id, "prompt", "none").Encode())
	if !strings.Contains(p.header.Get("Location"), "error=consent_required") {
		t.Errorf("got %d to %q", p.status, p.header.Get("Location"))
	}
}

func TestAStateComesBackByteForByte(t *testing.T) {
	for _, c := range []struct{ rule, state string }{
		{"one character", "x"},
		{"four kilobytes", strings.Repeat("0123456789abcdef", 256)},
		{"as long as it may be", strings.Repeat("s", 8192)},
		{"what URLs encode", "a b+c%20d&e=f#g?h/\"<>'\\"},
		{"other scripts", "状態 état 🙂"},
		{"bytes that are no UTF-8", "\xff\xfe\x00\x80\xc3("},
		{"control characters", "\r\nSet-Cookie: a=b\t\x00\x7f"},
		{"what looks like JSON", `"}{"c":"evil","s":"x"}`},
		{"control characters without end", strings.Repeat("\x01", 8192)},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t)
			id := s.register()
			b := s.browser()
			for _, decision := range []string{"deny", "allow"} {
				got := b.consent(authorization(id, "state", c.state)).submit("decision", decision).handedOff()
				if got.Get("state") != c.state {
					t.Errorf("after %s the state is %q", decision, got.Get("state"))
				}
			}
			p := b.get("/authorize?" + authorization(id, "state", c.state, "response_type", "x").Encode())
			if u, err := url.Parse(p.header.Get("Location")); err != nil || u.Query().Get("state") != c.state {
				t.Errorf("after an error the address is %q (%v)", p.header.Get("Location"), err)
			}
		})
	}
}

func TestARequestWithoutStateGetsNone(t *testing.T) {
	s := newSite(t)
	for _, state := range []string{"-", ""} {
		got := s.browser().consent(authorization(s.register(), "state", state)).submit("decision", "allow").handedOff()
		if got.Has("state") || got.Get("iss") != issuer || got.Get("code") == "" {
			t.Errorf("handed off %v", got)
		}
	}
}

func TestAStateThatIsTooLongIsRefusedWithoutIt(t *testing.T) {
	s := newSite(t)
	p := s.browser().get("/authorize?" + authorization(s.register(), "state", strings.Repeat("s", 8193)).Encode())
	u, err := url.Parse(p.header.Get("Location"))
	if err != nil || u.Query().Get("error") != "invalid_request" || u.Query().Has("state") {
		t.Errorf("got %d to %q", p.status, p.header.Get("Location"))
	}
}

// The sealed request goes back to /authorize in a query, and web servers bound
// the line it stands in.
func TestTheAddressAfterSignInFitsIntoARequestLine(t *testing.T) {
	s := newSite(t)
	v := authorization(s.register(), "state", strings.Repeat("\x01", 8192))
	b := s.browser()
	f := b.get("/authorize?" + v.Encode()).form("/login")
	f.values.Set("username", "alice")
	f.values.Set("password", password)
	if n := len(b.postOnce("/login", f.values).header.Get("Location")); n == 0 || n > 14<<10 {
		t.Errorf("the address has %d bytes", n)
	}
}

func TestTheResourceIsUnderstoodInItsSpellings(t *testing.T) {
	s := newSite(t)
	id := s.register()
	for _, c := range []struct{ rule, resource, audience string }{
		{"none is the first one", "-", resource},
		{"an empty one is none", "", resource},
		{"exactly", resource, resource},
		{"a trailing slash", resource + "/", resource},
		{"the origin", issuer, resource},
		{"the origin with a slash", issuer + "/", resource},
		{"the default port and upper case", "HTTPS://MCP.EXAMPLE.COM:443/mcp", resource},
		{"a sibling is a resource of its own", issuer + "/sse", issuer + "/sse"},
		{"another group", issuer + "/admin", issuer + "/admin"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			code := s.browser().code(authorization(id, "resource", c.resource, "scope", "-"))
			a := s.issued(redemption(id, code, "resource", c.resource))
			claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
			if err != nil || claims.Audience != c.audience {
				t.Errorf("claims are %+v, %v; want audience %s", claims, err, c.audience)
			}
		})
	}
}

func TestScopesAreNarrowedAndNeverRefused(t *testing.T) {
	s := newSite(t)
	id := s.register()
	for _, c := range []struct{ rule, scope, granted string }{
		{"none asks for the baseline", "-", "mcp"},
		{"unknown ones are dropped", "mcp openid profile", "mcp"},
		{"only unknown ones ask for the baseline", "openid email profile", "mcp"},
		{"an optional one that is asked for", "bugs:write", "bugs:write"},
		{"one of another resource is dropped", "mcp admin", "mcp"},
		{"offline_access is not a scope of a token", "mcp offline_access", "mcp"},
		{"repetitions count once", "mcp mcp mcp", "mcp"},
		{"thousands", strings.Repeat("x ", 3000) + "mcp", "mcp"},
		{"bytes that no scope has", "mcp \"\\\x00\xff", "mcp"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a := s.issued(redemption(id, s.browser().code(authorization(id, "scope", c.scope))))
			if a.text("scope") != c.granted {
				t.Errorf("granted %q, want %q", a.text("scope"), c.granted)
			}
		})
	}
}

func TestTheRedirectURIOfALoopbackClientHasAnyPort(t *testing.T) {
	s := newSite(t)
	id := s.register()
	const other = "http://127.0.0.1:51234/oauth/callback"
	code := s.browser().code(authorization(id, "redirect_uri", other))
	s.token(redemption(id, code)).refused(t, 400, "invalid_grant")
	s.issued(redemption(id, code, "redirect_uri", other))
}

func TestARedirectURICanBeLeftOutWhenThereIsOne(t *testing.T) {
	s := newSite(t)
	id := s.register()
	s.issued(redemption(id, s.browser().code(authorization(id, "redirect_uri", "-")), "redirect_uri", "-"))
	several := s.program(request(http.MethodPost, "/register", `{"redirect_uris":["cursor://x/cb","https://www.cursor.com/cb"]}`)).text("client_id")
	if p := s.browser().get("/authorize?" + authorization(several, "redirect_uri", "-").Encode()); p.status != http.StatusBadRequest || p.problem() != "invalid_request" {
		t.Errorf("got %d %q", p.status, p.problem())
	}
}

// Whatever a client may register gets a consent page and a way back.
func TestEveryKindOfRedirectURIGetsItsPage(t *testing.T) {
	for _, uri := range []string{
		"https://claude.ai/api/mcp/auth_callback", "https://app.example.net/cb?tenant=1", "https://app.example.net:8443/cb",
		"http://localhost/callback", "http://[::1]:7777/cb", "http://127.0.0.1/",
		"https://localhost:3000/cb", "https://127.0.0.1/cb", "https://[::1]/cb", "https://LOCALHOST/cb",
		"cursor://anysphere.cursor-mcp/oauth/callback", "com.example.app:/cb", "vscode://vscode.github-authentication/did-authenticate",
	} {
		for _, hosts := range [][]string{nil, {"claude.ai", "app.example.net", "localhost", "127.0.0.1", "::1", "cursor:", "com.example.app:", "vscode:"}} {
			s := newSite(t, func(c *authserver.Config) { c.Registration = client.HostPolicy{Hosts: hosts} })
			a := s.program(request(http.MethodPost, "/register", `{"redirect_uris":["`+uri+`"],"client_name":"App"}`))
			if a.StatusCode != http.StatusCreated {
				t.Errorf("%s with %q: not registered: %v", uri, hosts, a.fields)
				continue
			}
			id := a.text("client_id")
			code := s.browser().code(authorization(id, "redirect_uri", uri))
			s.issued(redemption(id, code, "redirect_uri", uri))
		}
	}
}

func TestGETChangesNothingInTheStore(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	b.code(authorization(id))
	before := len(s.store.Calls())
	for _, target := range []string{
		"/authorize?" + authorization(id).Encode(), "/authorize?" + authorization(id, "prompt", "none").Encode(),
		"/authorize?" + authorization("mcp_unknown").Encode(), "/account", "/logout", "/", "/health", "/jwks",
	} {
		b.get(target)
		s.browser().get(target)
	}
	for _, c := range s.store.Calls()[before:] {
		if !slices.Contains([]storetest.Method{storetest.Get, storetest.List}, c.Method) {
			t.Errorf("a GET made the call %v", c)
		}
	}
}

func TestPlainPKCEIsForThoseWhoSwitchItOn(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.PKCEPlain = true })
	id := s.register()
	code := s.browser().code(authorization(id, "code_challenge_method", "plain", "code_challenge", verifier))
	s.token(redemption(id, code, "code_verifier", oauth.S256(verifier))).refused(t, 400, "invalid_grant")
	s.issued(redemption(id, code))
	p := s.browser().get("/authorize?" + authorization(id, "code_challenge_method", "-", "code_challenge", verifier).Encode())
	if !strings.Contains(p.header.Get("Location"), "error=invalid_request") {
		t.Errorf("a method that is left out: %d to %q", p.status, p.header.Get("Location"))
	}
}

func TestPagesHaveOnlyTheirMethods(t *testing.T) {
	s := newSite(t)
	for path, allow := range map[string]string{
		"/authorize": "GET, POST", "/login": "POST", "/login/switch": "POST", "/logout": "GET, POST",
		"/account": "GET", "/account/revoke": "POST", "/health": "GET", "/": "GET",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
			w := s.serve(request(method, path, nil))
			known := strings.Contains(allow, method) || method == "HEAD" && strings.Contains(allow, "GET")
			if refused := w.StatusCode == http.StatusMethodNotAllowed; refused == known || refused && w.Header.Get("Allow") != allow {
				t.Errorf("%s %s: %d with Allow %q, want methods %s", method, path, w.StatusCode, w.Header.Get("Allow"), allow)
			}
			if w.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s is open to other origins", method, path)
			}
		}
	}
}
