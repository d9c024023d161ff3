package oidclogin_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

// delegate is a login that gives out the tokens of the provider.
func (f *fake) delegate(change ...func(*oidclogin.Config)) *oidclogin.Provider {
	cfg := oidclogin.Config{
		ID: "acme", Issuer: f.URL, ClientID: clientID, ClientSecret: secret, KeepTokens: true,
		Scopes: []string{"openid", "offline_access"},
	}
	for _, c := range change {
		c(&cfg)
	}
	return oidclogin.New(cfg)
}

func TestTokensComeWithTheIdentity(t *testing.T) {
	f := newFake(t)
	finish := func(l *oidclogin.Provider) (login.Identity, error) {
		return l.Finish(t.Context(), attempt(), url.Values{"code": {"c0de"}, "state": {"state"}})
	}
	got, err := finish(f.delegate())
	if err != nil {
		t.Fatal(err)
	}
	if got.Tokens == nil || got.Tokens.Access != "at" || time.Until(got.Tokens.Expires) > time.Minute {
		t.Errorf("the tokens are %+v", got.Tokens)
	}
	if got, err := finish(f.login()); err != nil || got.Tokens != nil {
		t.Errorf("a login that keeps none gives %+v, %v", got.Tokens, err)
	}
	for name, answer := range map[string]string{
		"no bearer token": `"access_token":"at","token_type":"DPoP"`,
		"a line break":    `"access_token":"at\r\nX-Admin: 1","token_type":"Bearer"`,
		"a long token":    `"access_token":"` + long(17<<10) + `","token_type":"Bearer"`,
	} {
		f.set(func(f *fake) {
			f.answer, f.only = reply(200, `{`+answer+`,"id_token":"`+f.idToken()+`"}`), "/token"
		})
		if got, err := finish(f.delegate()); err == nil || errors.Is(err, login.ErrUnreachable) {
			t.Errorf("%s: %+v, %v", name, got.Tokens, err)
		}
	}
}

func TestRenew(t *testing.T) {
	for _, tt := range []struct {
		rule, answer string
		status       int
		want         login.Tokens
		fault        error // nil for any, when there are no tokens
	}{
		{"another refresh token", `{"access_token":"at2","refresh_token":"rt2","token_type":"bearer"}`, 200, login.Tokens{Access: "at2", Refresh: "rt2"}, nil},
		{"no other refresh token", `{"access_token":"at2","token_type":"Bearer"}`, 200, login.Tokens{Access: "at2"}, nil},
		{"the same refresh token", `{"access_token":"at2","refresh_token":"rt1","token_type":"Bearer"}`, 200, login.Tokens{Access: "at2"}, nil},
		{"the refresh token is not accepted", `{"error":"invalid_grant"}`, 400, login.Tokens{}, login.ErrDenied},
		{"the person has to be there", `{"error":"interaction_required"}`, 400, login.Tokens{}, login.ErrDenied},
		{"the person has to agree again", `{"error":"consent_required"}`, 400, login.Tokens{}, login.ErrDenied},
		{"our own secret is wrong", `{"error":"invalid_client"}`, 401, login.Tokens{}, nil},
		{"the provider is overloaded", `{}`, 429, login.Tokens{}, login.ErrUnreachable},
		{"the provider is down", `{}`, 503, login.Tokens{}, login.ErrUnreachable},
		{"no token", `{"token_type":"Bearer"}`, 200, login.Tokens{}, nil},
		{"a token of another type", `{"access_token":"at2","token_type":"mac"}`, 200, login.Tokens{}, nil},
	} {
		f := newFake(t)
		f.set(func(f *fake) {
			f.only = "/token"
			f.answer = func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				if r.PostForm.Get("grant_type") != "refresh_token" || r.PostForm.Get("refresh_token") != "rt1" {
					t.Errorf("the request is %v", r.PostForm)
				}
				reply(tt.status, tt.answer)(w, r)
			}
		})
		got, err := f.delegate().Renew(t.Context(), "acme:248289761001", "rt1")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.rule, diff)
		}
		if (err == nil) != (got.Access != "") || !errors.Is(err, tt.fault) && tt.fault != nil {
			t.Errorf("%s: %v, want %v", tt.rule, err, tt.fault)
		}
		if err != nil && tt.fault == nil && (errors.Is(err, login.ErrDenied) || errors.Is(err, login.ErrUnreachable)) {
			t.Errorf("%s: %v is another kind of fault", tt.rule, err)
		}
		if err != nil && strings.Contains(err.Error(), "rt1") {
			t.Errorf("%s: the error holds the token: %v", tt.rule, err)
		}
	}
	f := newFake(t)
	l := f.delegate()
	if _, err := l.Begin(t.Context(), attempt()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := l.Renew(t.Context(), "acme:248289761001", "rt1"); !errors.Is(err, login.ErrUnreachable) {
		t.Errorf("a provider that is gone: %v", err)
	}
}

// Renewed tokens are those of the person who has signed in (OpenID Connect Core
// section 12.2).
func TestRenewedTokensAreOfTheSamePerson(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		change func(*fake)
		good   bool
	}{
		{"the same person", func(*fake) {}, true},
		{"without a nonce, and some time ago", func(f *fake) { f.claims["nonce"], f.claims["exp"] = nil, 1 }, true},
		{"keys that are not published any more", func(f *fake) { f.keys = nil }, true},
		{"another person", func(f *fake) { f.claims["sub"] = "248289761002" }, false},
		{"nobody", func(f *fake) { f.claims["sub"] = nil }, false},
		{"another issuer", func(f *fake) { f.claims["iss"] = "https://other.example" }, false},
		{"another client", func(f *fake) { f.claims["aud"] = "other" }, false},
		{"no JWT", func(f *fake) { f.raw = "x" }, false},
	} {
		f := newFake(t)
		f.set(tt.change)
		got, err := f.delegate().Renew(t.Context(), "acme:248289761001", "rt1")
		if tt.good != (err == nil && got.Access == "at") || !tt.good && !errors.Is(err, login.ErrDenied) {
			t.Errorf("%s: %+v, %v", tt.rule, got, err)
		}
	}
}

func TestPrompt(t *testing.T) {
	f := newFake(t)
	for _, tt := range []struct{ configured, requested, want string }{
		{"", "", ""},
		{"consent", "", "consent"},
		{"consent", "login", "consent login"},
		{"consent login", "login", "consent login"},
		{"", "select_account", "select_account"},
	} {
		a := attempt()
		a.Prompt = tt.requested
		address, err := f.delegate(func(c *oidclogin.Config) { c.Prompt = tt.configured }).Begin(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil || u.Query().Get("prompt") != tt.want || u.Query().Has("access_type") {
			t.Errorf("%q and %q: %s, %v", tt.configured, tt.requested, address, err)
		}
	}
}

// rewriting sends all requests to another server.
type rewriting struct{ to string }

func (rt rewriting) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := url.Parse(rt.to + r.URL.Path)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL, r.Host = u, u.Host
	return http.DefaultTransport.RoundTrip(r)
}

// Google gives refresh tokens in a way of its own.
func TestGoogleIsAskedForRefreshTokens(t *testing.T) {
	f := newFake(t)
	const google = "https://accounts.google.com"
	f.discovery = map[string]any{
		"issuer": google, "authorization_endpoint": google + "/auth", "token_endpoint": google + "/token", "jwks_uri": google + "/keys",
	}
	for _, keep := range []bool{true, false} {
		l := f.delegate(func(c *oidclogin.Config) {
			c.Issuer, c.KeepTokens, c.Transport = google, keep, rewriting{f.URL}
		})
		address, err := l.Begin(t.Context(), attempt())
		if err != nil {
			t.Fatal(err)
		}
		asked := strings.Contains(address, "access_type=offline") && strings.Contains(address, "prompt=consent")
		if asked != keep || !keep && (strings.Contains(address, "access_type") || strings.Contains(address, "prompt")) {
			t.Errorf("tokens are kept: %v, and the browser is sent to %s", keep, address)
		}
	}
}
