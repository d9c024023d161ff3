package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func TestTheCodeFlowGivesTokensThatVerify(t *testing.T) {
	s := newSite(t)
	id := s.register()
	a := s.tokens(id)
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != "alice" || claims.ClientID != id || claims.Audience != resource || claims.Scope != "mcp" {
		t.Errorf("claims are %+v", claims.AccessTokenClaims)
	}
	next := s.issued(renewal(id, a.text("refresh_token")))
	if next.text("refresh_token") == a.text("refresh_token") {
		t.Error("the refresh token was not rotated")
	}
	again := s.issued(renewal(id, a.text("refresh_token")))
	if again.text("refresh_token") != next.text("refresh_token") {
		t.Error("a replay within the grace window got another successor")
	}
}

// The refused requests use up nothing: the code is good afterwards.
func TestARefusedCodeRequestHasTheCodeOfTheRFC(t *testing.T) {
	s := newSite(t)
	id, other := s.register(), s.register()
	code := s.browser().code(authorization(id))
	for _, c := range []struct {
		rule   string
		values url.Values
		auth   []string
		status int
		code   string
	}{
		{"grant_type is required", redemption(id, code, "grant_type", "-"), nil, 400, "invalid_request"},
		{"an unknown grant type", redemption(id, code, "grant_type", "password"), nil, 400, "unsupported_grant_type"},
		{"code is required", redemption(id, code, "code", "-"), nil, 400, "invalid_request"},
		{"an empty parameter is an absent one", redemption(id, code, "code", ""), nil, 400, "invalid_request"},
		{"code_verifier is required", redemption(id, code, "code_verifier", "-"), nil, 400, "invalid_request"},
		{"client_id is required", redemption(id, code, "client_id", "-"), nil, 401, "invalid_client"},
		{"an unknown client", redemption("mcp_unknown", code), nil, 401, "invalid_client"},
		{"a client id of the right form that nobody has", redemption(strings.Repeat("A", 2048), code), nil, 401, "invalid_client"},
		{"a client id that is too long", redemption(strings.Repeat("A", 2049), code), nil, 401, "invalid_client"},
		{"another client", redemption(other, code), nil, 400, "invalid_grant"},
		{"junk for a code", redemption(id, "junk"), nil, 400, "invalid_grant"},
		{"a code that was changed", redemption(id, flip(code)), nil, 400, "invalid_grant"},
		{"another verifier", redemption(id, code, "code_verifier", strings.Repeat("a", 43)), nil, 400, "invalid_grant"},
		{"a verifier that is too short", redemption(id, code, "code_verifier", "short"), nil, 400, "invalid_grant"},
		{"another redirect URI", redemption(id, code, "redirect_uri", "http://127.0.0.1:1/oauth/callback"), nil, 400, "invalid_grant"},
		{"another resource", redemption(id, code, "resource", issuer+"/admin"), nil, 400, "invalid_target"},
		{"an unknown resource", redemption(id, code, "resource", "https://evil.example/mcp"), nil, 400, "invalid_target"},
		{"a resource that is no URL", redemption(id, code, "resource", "mcp"), nil, 400, "invalid_target"},
		{"a repeated code", repeated(redemption(id, code), "code"), nil, 400, "invalid_request"},
		{"a repeated client_id", repeated(redemption(id, code), "client_id"), nil, 400, "invalid_request"},
		{"a repeated resource", repeated(redemption(id, code), "resource"), nil, 400, "invalid_request"},
		{"a repeated grant_type", repeated(redemption(id, code), "grant_type"), nil, 400, "invalid_request"},
		{"a public client has no secret", redemption(id, code, "client_secret", "guess"), nil, 401, "invalid_client"},
		{"nor one in the header", redemption(id, code), []string{id, "guess"}, 401, "invalid_client"},
		{"a public client cannot act for itself", redemption(id, code, "grant_type", "client_credentials"), nil, 400, "unauthorized_client"},
	} {
		t.Run(c.rule, func(t *testing.T) { s.token(c.values, c.auth...).refused(t, c.status, c.code) })
	}
	s.issued(redemption(id, code))
}

// flip changes the last character of a secret.
func flip(s string) string {
	last := "A"
	if strings.HasSuffix(s, last) {
		last = "B"
	}
	return s[:len(s)-1] + last
}

func repeated(v url.Values, name string) url.Values {
	v[name] = append(v[name], v[name]...)
	return v
}

func TestOnlyAFormInTheBodyIsReadAtTheTokenEndpoint(t *testing.T) {
	s := newSite(t)
	id := s.register()
	values := redemption(id, s.browser().code(authorization(id)))
	for _, c := range []struct {
		rule   string
		r      *http.Request
		status int
		code   string
	}{
		{"JSON is not understood", request(http.MethodPost, "/token", `{"grant_type":"authorization_code"}`), 400, "invalid_request"},
		{"parameters in the query are not looked at", request(http.MethodPost, "/token?"+values.Encode(), url.Values{}), 400, "invalid_request"},
		{"not even client credentials", request(http.MethodPost, "/token?client_id="+id, with(values, "client_id", "-")), 401, "invalid_client"},
		{"a body without a type", typed(request(http.MethodPost, "/token", values), ""), 400, "invalid_request"},
		{"a type that cannot be read", typed(request(http.MethodPost, "/token", values), "a/b;;;"), 400, "invalid_request"},
		{"a body that is too long", request(http.MethodPost, "/token", url.Values{"x": {strings.Repeat("x", 70000)}}), 400, "invalid_request"},
		{"GET", request(http.MethodGet, "/token?"+values.Encode(), nil), 405, "invalid_request"},
		{"PUT", request(http.MethodPut, "/token", values), 405, "invalid_request"},
		{"an unknown method", request("BREW", "/token", values), 405, "invalid_request"},
	} {
		t.Run(c.rule, func(t *testing.T) { s.program(c.r).refused(t, c.status, c.code) })
	}
}

func typed(r *http.Request, contentType string) *http.Request {
	r.Header.Set("Content-Type", contentType)
	return r
}

func TestARefusalThatLeavesABodyUnreadClosesTheConnection(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.Registration.Off = true })
	for _, c := range []struct {
		rule  string
		r     *http.Request
		close bool
	}{
		{"a body of the wrong type", request(http.MethodPost, "/token", "{}"), true},
		{"a method that is not there", request(http.MethodPut, "/token", url.Values{"a": {"b"}}), true},
		{"registration that is off", request(http.MethodPost, "/register", "{}"), true},
		{"a body where none belongs", request(http.MethodPost, "/health", url.Values{"a": {"b"}}), true},
		{"a preflight with a body", request(http.MethodOptions, "/token", url.Values{"a": {"b"}}), true},
		{"a body that was read", request(http.MethodPost, "/token", url.Values{"a": {"b"}}), false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := s.serve(c.r).Header.Get("Connection") == "close"; got != c.close {
				t.Errorf("closed is %v, want %v", got, c.close)
			}
		})
	}
}

func TestARefusedRefreshHasTheCodeOfTheRFC(t *testing.T) {
	s := newSite(t)
	id, other := s.register(), s.register()
	first := s.tokens(id)
	refresh := first.text("refresh_token")
	for _, c := range []struct {
		rule   string
		values url.Values
		status int
		code   string
	}{
		{"refresh_token is required", renewal(id, "-"), 400, "invalid_request"},
		{"even without a client", renewal("-", "-"), 400, "invalid_request"},
		{"junk", renewal(id, "junk"), 400, "invalid_grant"},
		{"junk without a client", renewal("-", "junk"), 400, "invalid_grant"},
		{"a token that was changed", renewal(id, flip(refresh)), 400, "invalid_grant"},
		{"an access token", renewal(id, first.text("access_token")), 400, "invalid_grant"},
		{"another client", renewal(other, refresh), 400, "invalid_grant"},
		{"another resource", renewal(id, refresh, "resource", issuer+"/admin"), 400, "invalid_target"},
		{"no scope that was granted", renewal(id, refresh, "scope", "admin"), 400, "invalid_scope"},
		{"a repeated token", repeated(renewal(id, refresh), "refresh_token"), 400, "invalid_request"},
		{"a repeated scope", repeated(renewal(id, refresh, "scope", "mcp"), "scope"), 400, "invalid_request"},
	} {
		t.Run(c.rule, func(t *testing.T) { s.token(c.values).refused(t, c.status, c.code) })
	}
	s.issued(renewal(id, refresh))
}

func TestARefreshNarrowsTheAccessTokenAndNotTheGrant(t *testing.T) {
	s := newSite(t)
	id := s.register()
	code := s.browser().code(authorization(id, "scope", "mcp bugs:write"))
	a := s.issued(redemption(id, code))
	if a.text("scope") != "mcp bugs:write" {
		t.Fatalf("granted %q", a.text("scope"))
	}
	a = s.issued(renewal(id, a.text("refresh_token"), "scope", "mcp admin"))
	if a.text("scope") != "mcp" {
		t.Errorf("narrowed to %q", a.text("scope"))
	}
	a = s.issued(renewal(id, a.text("refresh_token")))
	if a.text("scope") != "mcp bugs:write" {
		t.Errorf("the grant was narrowed to %q", a.text("scope"))
	}
}

func TestAReplayRevokesTheGrantWithItsAccessTokens(t *testing.T) {
	for _, c := range []struct {
		rule   string
		replay func(s *site, id, code string, first answer) answer
	}{
		{"a code that was redeemed", func(s *site, id, code string, _ answer) answer {
			return s.token(redemption(id, code))
		}},
		{"a refresh token after the grace window", func(s *site, id, _ string, first answer) answer {
			s.issued(renewal(id, first.text("refresh_token")))
			time.Sleep(3 * time.Minute)
			return s.token(renewal(id, first.text("refresh_token")))
		}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				id := s.register()
				code := s.browser().code(authorization(id))
				first := s.issued(redemption(id, code))
				c.replay(s, id, code, first).refused(t, 400, "invalid_grant")
				if _, err := s.verifier.Verify(t.Context(), first.text("access_token")); err != token.ErrRevoked {
					t.Errorf("the access token: %v, want revoked", err)
				}
				s.token(renewal(id, first.text("refresh_token"))).refused(t, 400, "invalid_grant")
			})
		})
	}
}

func TestAReplayedCodeWithTheWrongVerifierRevokesNothing(t *testing.T) {
	s := newSite(t)
	id := s.register()
	code := s.browser().code(authorization(id))
	first := s.issued(redemption(id, code))
	s.token(redemption(id, code, "code_verifier", strings.Repeat("b", 43))).refused(t, 400, "invalid_grant")
	s.issued(renewal(id, first.text("refresh_token")))
}

func TestOneOfManyParallelRedemptionsWins(t *testing.T) {
	s := newSite(t)
	id := s.register()
	code := s.browser().code(authorization(id))
	var wins sync.Map
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if a := s.program(request(http.MethodPost, "/token", redemption(id, code))); a.StatusCode == http.StatusOK {
				wins.Store(i, a)
			}
		})
	}
	wg.Wait()
	n := 0
	wins.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d redemptions of one code succeeded", n)
	}
}

func TestACodeIsGoodForItsLifetime(t *testing.T) {
	for _, c := range []struct {
		rule string
		wait time.Duration
		good bool
	}{
		{"just before its end", time.Minute - time.Second, true},
		{"at its end", time.Minute, false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				id := s.register()
				code := s.browser().code(authorization(id))
				time.Sleep(c.wait)
				if a := s.token(redemption(id, code)); !c.good {
					a.refused(t, 400, "invalid_grant")
				} else if a.StatusCode != http.StatusOK {
					t.Errorf("refused: %v", a.fields)
				}
			})
		})
	}
}

func TestWhoeverCannotSignInAnyMoreGetsNoNewTokens(t *testing.T) {
	for _, c := range []struct {
		rule   string
		change func(map[string]login.Identity)
	}{
		{"a removed user", func(known map[string]login.Identity) { delete(known, "alice") }},
		{"a changed password", func(known map[string]login.Identity) {
			known["alice"] = login.Identity{Subject: "alice", Provider: "local", Stamp: "2"}
		}},
		{"another provider's user of the same name", func(known map[string]login.Identity) {
			known["alice"] = login.Identity{Subject: "alice", Provider: "header", Stamp: "1"}
		}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t)
			id := s.register()
			b := s.browser()
			first := s.issued(redemption(id, b.code(authorization(id))))
			code := b.code(authorization(id))
			s.users.change(c.change)
			s.token(renewal(id, first.text("refresh_token"))).refused(t, 400, "invalid_grant")
			s.token(redemption(id, code)).refused(t, 400, "invalid_grant")
			if !b.get("/account").has("/login") {
				t.Error("the session goes on")
			}
			s.users.change(func(known map[string]login.Identity) { known["alice"] = newUsers().known["alice"] })
			s.issued(renewal(id, first.text("refresh_token")))
			s.issued(redemption(id, code))
		})
	}
}

func TestAClientOfTheConfigurationActsForItself(t *testing.T) {
	s := newSite(t)
	values := func(pairs ...string) url.Values {
		return with(url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {"robot-secret"}}, pairs...)
	}
	a := s.issued(values("scope", "openid", "resource", issuer+"/"))
	if a.text("scope") != "mcp" || a.text("refresh_token") != "" {
		t.Errorf("got scope %q and refresh token %q", a.text("scope"), a.text("refresh_token"))
	}
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil || claims.Subject != robotID || claims.Audience != resource {
		t.Errorf("claims are %+v, %v", claims, err)
	}
	s.token(values("client_secret", "-")).refused(t, 401, "invalid_client")
	s.token(values("resource", "https://evil.example")).refused(t, 400, "invalid_target")
	s.token(values("client_id", webID, "client_secret", webPass)).refused(t, 400, "unauthorized_client")
	s.token(values("grant_type", "authorization_code", "code", "x", "code_verifier", verifier)).refused(t, 400, "unauthorized_client")
}

func TestAClientWithoutASecretNeverActsForItself(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) {
		c.Clients = []*client.Client{{ID: "app", Name: "App", GrantTypes: []string{oauth.GrantClientCredentials}}}
	})
	s.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}}).refused(t, 400, "unauthorized_client")
}

func TestScopesThatAClientHasLostAreNotIssuedAgain(t *testing.T) {
	s := newSite(t)
	web := &client.Client{ID: "app", Name: "App", RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantAuthorizationCode}}
	s.reopen(func(cfg *authserver.Config) { cfg.Clients = []*client.Client{web} })
	a := s.issued(redemption("app", s.browser().code(authorization("app", "scope", "mcp bugs:write"))))
	web.Scopes = oauth.Scopes{"mcp"}
	a = s.issued(renewal("app", a.text("refresh_token")))
	if a.text("scope") != "mcp" {
		t.Errorf("got %q", a.text("scope"))
	}
	s.token(renewal("app", a.text("refresh_token"), "scope", "bugs:write")).refused(t, 400, "invalid_scope")
	s.issued(renewal("app", a.text("refresh_token")))
	web.Scopes = oauth.Scopes{}
	s.token(renewal("app", a.text("refresh_token"))).refused(t, 400, "invalid_grant")
}
