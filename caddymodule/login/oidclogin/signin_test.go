package oidclogin_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func TestBeginLeadsToTheProvider(t *testing.T) {
	f := newFake(t)
	a := attempt()
	hour := time.Hour
	a.Prompt, a.MaxAge, a.Hint = "login", &hour, "alice@example.com"
	address, err := f.login().Begin(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, f.URL+"/auth?") {
		t.Fatalf("the browser is sent to %s, %v", address, err)
	}
	want := url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callback}, "scope": {"openid profile email"},
		"state": {"state"}, "nonce": {nonce}, "code_challenge_method": {"S256"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"},
		"prompt":         {"login"}, "max_age": {"3600"}, "login_hint": {"alice@example.com"},
	}
	if diff := cmp.Diff(want, u.Query()); diff != "" {
		t.Errorf("unexpected request (-want +got):\n%s", diff)
	}
}

// object is claims or what the userinfo endpoint says.
type object = map[string]any

func TestFinishReturnsWhoSignedIn(t *testing.T) {
	alone := login.Identity{Subject: "acme:248289761001"}
	for _, tt := range []struct {
		name              string
		idToken, userinfo object
		want              login.Identity // without provider and stamp
	}{
		{"nothing but the subject", nil, nil, alone},
		{"everything", object{"email": "a@example.com", "email_verified": true, "name": "Alice", "groups": []string{"x", "y"}},
			nil, login.Identity{Subject: alone.Subject, Email: "a@example.com", Name: "Alice", Groups: []string{"x", "y"}}},
		{"an address that is verified as a string does not count", object{"email": "a@example.com", "email_verified": "true"}, nil, alone},
		{"nor as a number", object{"email": "a@example.com", "email_verified": 1}, nil, alone},
		{"nor one that is not verified", object{"email": "a@example.com", "email_verified": false}, nil, alone},
		{"nor one of which nothing is said", object{"email": "a@example.com"}, nil, alone},
		{"nor one with two @", object{"email": "a@evil.example@example.com", "email_verified": true}, nil, alone},
		{"values with control characters are dropped", object{"email": "a@example.com\r\nX: y", "email_verified": true, "name": "A\x00", "groups": []string{"a\nb", "c"}},
			nil, login.Identity{Subject: alone.Subject, Groups: []string{"c"}}},
		{"and those of other types", object{"name": 7, "groups": []any{1, "a", []string{"b"}, nil, ""}},
			nil, login.Identity{Subject: alone.Subject, Groups: []string{"a"}}},
		{"groups are a list", object{"groups": "admins"}, nil, alone},
		{"long values are dropped", object{"name": long(300), "groups": []string{long(300), "a"}},
			nil, login.Identity{Subject: alone.Subject, Groups: []string{"a"}}},
		{"many groups are cut off", object{"groups": many(5000, "g")}, nil,
			login.Identity{Subject: alone.Subject, Groups: many(500, "g")}},
		{"the userinfo endpoint knows more", object{"name": "Alice"},
			object{"sub": "248289761001", "name": "Bob", "email": "a@example.com", "email_verified": true, "groups": []string{"g"}},
			login.Identity{Subject: alone.Subject, Email: "a@example.com", Name: "Alice", Groups: []string{"g"}}},
		{"but cannot vouch for what the ID token does not", object{"email": "a@example.com", "email_verified": false},
			object{"sub": "248289761001", "email": "a@example.com", "email_verified": true}, alone},
		{"verified as a string there", nil, object{"sub": "248289761001", "email": "a@example.com", "email_verified": "true"}, alone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.claims, f.userinfo = tt.idToken, tt.userinfo
			got, err := f.signIn()
			if err != nil {
				t.Fatal(err)
			}
			if !f.login().Recognizes(got) {
				t.Error("the login does not recognize its own user")
			}
			got.Provider, got.Stamp = "", ""
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("unexpected identity (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFinishAcceptsTokens(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*fake)
	}{
		{"ES256", func(f *fake) { f.sign(jose.ES256, ecKey, ecKey.Public()) }},
		{"PS256", func(f *fake) { f.sign(jose.PS256, rsaKey, rsaKey.Public()) }},
		{"EdDSA", func(f *fake) { f.sign(jose.EdDSA, edKey, edKey.Public()) }},
		{"for several audiences with azp", func(f *fake) {
			f.claims = map[string]any{"aud": []string{clientID, "other"}, "azp": clientID}
		}},
		{"at_hash", func(f *fake) { f.claims = map[string]any{"at_hash": halfHash("at")} }},
		{"a clock that is some seconds off", func(f *fake) {
			f.claims = map[string]any{"exp": time.Now().Add(-10 * time.Second).Unix()}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			tt.change(f)
			if got, err := f.signIn(); err != nil || got.Subject != "acme:248289761001" {
				t.Errorf("got %+v, %v", got, err)
			}
			if f.form.Get("code_verifier") != verifier || f.form.Get("redirect_uri") != callback || f.form.Get("code") != "c0de" {
				t.Errorf("the code was redeemed with %v", f.form)
			}
		})
	}
}

// sign makes the provider use another key.
func (f *fake) sign(alg jose.SignatureAlgorithm, private, public any) {
	f.key = jose.SigningKey{Algorithm: alg, Key: private}
	f.keys = []jose.JSONWebKey{{Key: public, KeyID: f.kid, Use: "sig"}}
}

func TestFinishRefusesTokens(t *testing.T) {
	claim := func(name string, value any) func(*fake) {
		return func(f *fake) { f.claims = map[string]any{name: value} }
	}
	tests := []struct {
		name   string
		change func(*fake)
		want   string // in the error
	}{
		{"another nonce", claim("nonce", "other"), "nonce"},
		{"no nonce", claim("nonce", nil), "nonce"},
		{"another issuer", claim("iss", "https://evil.example"), "different provider"},
		{"another audience", claim("aud", "other"), "audience"},
		{"azp of another client", claim("azp", "other"), "another client"},
		{"empty azp", claim("azp", ""), "another client"},
		{"azp of another type", claim("azp", 1), "cannot be read"},
		{"several audiences without azp", claim("aud", []string{clientID, "other"}), "another client"},
		{"expired", claim("exp", time.Now().Add(-2*time.Minute).Unix()), "expired"},
		{"no expiry", claim("exp", nil), "expired"},
		{"not yet good", claim("nbf", time.Now().Add(time.Hour).Unix()), "nbf"},
		{"hash of another access token", claim("at_hash", halfHash("other")), "access token"},
		{"no subject", claim("sub", nil), "subject"},
		{"a long subject", claim("sub", long(256)), "subject"},
		{"a subject with a line break", claim("sub", "a\r\nX-Admin: 1"), "subject"},
		{"a subject that is not ASCII", claim("sub", "аlice"), "subject"},
		{"a subject that ends in a space", claim("sub", "alice "), "subject"},
		{"a subject that is a number", claim("sub", 7), "refused"},
		{"HS256 with the client secret", func(f *fake) {
			f.key = jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret + secret)}
		}, "refused"},
		{"HS256 with a published key", func(f *fake) {
			f.key = jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret + secret)}
			f.keys = []jose.JSONWebKey{{Key: []byte(secret + secret), KeyID: "1"}}
		}, "refused"},
		{"RS512, which is not in the list", func(f *fake) { f.sign(jose.RS512, rsaKey, rsaKey.Public()) }, "refused"},
		{"no signature", func(f *fake) {
			f.raw = unsigned(map[string]any{"iss": f.URL, "aud": clientID, "sub": "a", "exp": time.Now().Add(time.Hour).Unix(), "nonce": nonce})
		}, "refused"},
		{"an unknown key", func(f *fake) { f.key.Key, f.kid = otherRSA, "2" }, "refused"},
		{"another key under a known name", func(f *fake) { f.key.Key = otherRSA }, "refused"},
		{"a token that is too long", func(f *fake) { f.claims = map[string]any{"x": long(70 << 10)} }, "too long"},
		{"no token", func(f *fake) { f.answer, f.only = reply(200, `{"access_token":"at","token_type":"Bearer"}`), "/token" }, "no ID token"},
		{"userinfo about somebody else", func(f *fake) { f.userinfo = map[string]any{"sub": "other"} }, "somebody else"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			tt.change(f)
			got, err := f.signIn()
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, login.ErrUnreachable) {
				t.Errorf("got %+v, %v; want an error with %q that is no outage", got, err, tt.want)
			}
		})
	}
}

func TestFinishReadsTheAnswer(t *testing.T) {
	f := newFake(t)
	announced := newFake(t)
	announced.discovery["authorization_response_iss_parameter_supported"] = true
	tests := []struct {
		name   string
		f      *fake
		answer url.Values
		want   string // in the error; "" for none
		is     error
	}{
		{"a code", f, url.Values{"code": {"c"}}, "", nil},
		{"with the right issuer", f, url.Values{"code": {"c"}, "iss": {f.URL}}, "", nil},
		{"with the announced issuer", announced, url.Values{"code": {"c"}, "iss": {announced.URL}}, "", nil},
		{"without the announced issuer", announced, url.Values{"code": {"c"}}, "name its issuer", nil},
		{"with another issuer", f, url.Values{"code": {"c"}, "iss": {"https://evil.example"}}, "another issuer", nil},
		{"with an empty issuer", f, url.Values{"code": {"c"}, "iss": {""}}, "another issuer", nil},
		{"with two issuers", f, url.Values{"code": {"c"}, "iss": {f.URL, f.URL}}, "twice", nil},
		{"with two codes", f, url.Values{"code": {"c", "d"}}, "twice", nil},
		{"nothing", f, url.Values{}, "no code", nil},
		{"cancelled", f, url.Values{"error": {"access_denied"}}, "", login.ErrCancelled},
		{"cancelled by somebody else", announced, url.Values{"error": {"access_denied"}}, "name its issuer", nil},
		{"out of order", f, url.Values{"error": {"temporarily_unavailable"}}, "", login.ErrUnreachable},
		{"an error", f, url.Values{"error": {"invalid_scope"}, "code": {"c"}}, "invalid_scope", nil},
		{"an error for the log", f, url.Values{"error": {"\x1b[31m"}}, "unknown kind", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.f.login().Finish(t.Context(), attempt(), tt.answer)
			switch {
			case tt.is != nil && !errors.Is(err, tt.is), tt.is == nil && tt.want == "" && err != nil:
				t.Errorf("got %v, want %v", err, tt.is)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, login.ErrCancelled)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	for _, tt := range []struct {
		name    string
		methods any
		basic   bool
	}{
		{"nothing said", nil, true},
		{"both", []string{"client_secret_post", "client_secret_basic"}, true},
		{"in the form", []string{"client_secret_post"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			if tt.methods != nil {
				f.discovery["token_endpoint_auth_methods_supported"] = tt.methods
			}
			if _, err := f.signIn(); err != nil {
				t.Fatal(err)
			}
			if f.basic != tt.basic || (f.form.Get("client_secret") == secret) == tt.basic || f.requests("/token") != 1 {
				t.Errorf("credentials in the header: %t, in the form: %v, requests: %d", f.basic, f.form, f.requests("/token"))
			}
		})
	}
}

func TestMaxAge(t *testing.T) {
	minute := time.Minute
	a := attempt()
	a.MaxAge = &minute
	for _, tt := range []struct {
		name string
		at   any
		good bool
	}{
		{"just now", time.Now().Unix(), true},
		{"long ago", time.Now().Add(-time.Hour).Unix(), false},
		{"unknown to the provider", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.claims["auth_time"] = tt.at
			if _, err := f.login().Finish(t.Context(), a, url.Values{"code": {"c"}}); (err == nil) != tt.good {
				t.Errorf("got %v", err)
			}
		})
	}
}
