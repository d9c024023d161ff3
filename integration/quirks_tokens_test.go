package integration

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// postBasic posts to the token endpoint with HTTP Basic, both parts encoded as RFC 6749 wants it.
func (g *gateway) postBasic(t *testing.T, form url.Values, id, secret string) *answer {
	t.Helper()
	req := newRequest(t, g.origin+"/token", strings.NewReader(form.Encode()))
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	a := send(t, g.client, "POST", g.origin+"/token", form.Encode(), "Content-Type", formType, "Authorization", req.Header.Get("Authorization"))
	if a.status == http.StatusOK {
		g.keepSecret(a.field(t, "access_token"), a.field(t, "refresh_token"))
	}
	return a
}

// basicWithEmptySecret redeems and refreshes as the Go SDK does for clients without a secret: its first try is HTTP Basic
// with an empty password.
func basicWithEmptySecret(t *testing.T, s *ground) {
	for what, id := range map[string]string{"a registered client": s.registerAt(t, redirectURI), "a client with a document": s.document} {
		tokens := s.postBasic(t, with(s.codeFor(t, s.newVisitor(t), id, nil), "client_id", ""), id, "")
		wantStatus(t, what+" with a code", tokens, http.StatusOK)
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.field(t, "refresh_token")}}
		wantStatus(t, what+" with a refresh token", s.postBasic(t, refresh, id, ""), http.StatusOK)
	}
}

// codesThatClientsActOn wants the very errors at which clients throw away what does not work any more: their registration
// for invalid_client, their tokens for invalid_grant. An error 500 would make them try for ever.
func codesThatClientsActOn(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	gone := s.newGrant(t, nil)
	gone.revoke(t)
	for _, unknown := range []string{"mcp_ABCDEFGHIJKLMNOPQRSTUVWXYZ", "mcp_x", "nobody", "https://client.example/gone.json"} {
		for _, grant := range []string{"authorization_code", "refresh_token", "client_credentials"} {
			form := url.Values{"grant_type": {grant}, "client_id": {unknown}, "code": {"x"}, "code_verifier": {strings.Repeat("v", 43)}, "refresh_token": {gr.refresh}}
			wantError(t, unknown+" with "+grant, s.postForm(t, "/token", form), "invalid_client")
		}
	}
	wantError(t, "a revoked refresh token", s.refresh(t, gone.clientID, gone.refresh), "invalid_grant")
	wantError(t, "junk for a refresh token", s.refresh(t, gr.clientID, "x"), "invalid_grant")
	wantError(t, "the refresh token of another client", s.refresh(t, gr.clientID, gone.refresh), "invalid_grant")
	gr.renew(t)
}

// scopesOfOtherServers asks as clients do that know nothing of this server: it drops what it does not know and grants what
// it gives by default.
func scopesOfOtherServers(t *testing.T, s *ground) {
	for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"} {
		if len(s.metadata(t, path).ScopesSupported) == 0 {
			t.Errorf("%s lists no scopes, so clients would ask for those of OpenID", path)
		}
	}
	for asked, want := range map[string]string{
		"claudeai": "bugs:read", "openid profile email": "bugs:read", "offline_access": "bugs:read",
		"cases:write openid": "cases:write", "bugs:read mcp:tools cases:write": "bugs:read cases:write",
	} {
		if got := s.scopeOf(t, url.Values{"scope": {asked}}); got != want {
			t.Errorf("who asks for %q gets %q, want %q", asked, got, want)
		}
	}
}

// scopeOf lets a person agree and returns the scope that the client gets, which it is told and can refresh, whatever it
// has asked for.
func (s *ground) scopeOf(t *testing.T, request url.Values) string {
	t.Helper()
	id := s.registerAt(t, redirectURI)
	tokens := s.postForm(t, "/token", s.codeFor(t, s.newVisitor(t), id, request))
	wantStatus(t, "redeeming", tokens, http.StatusOK)
	again := s.refresh(t, id, tokens.field(t, "refresh_token"))
	wantStatus(t, "refreshing", again, http.StatusOK)
	if first, second := tokens.field(t, "scope"), again.field(t, "scope"); first != second {
		t.Errorf("the scope is %q first and %q after a refresh", first, second)
	}
	return tokens.field(t, "scope")
}

// scopeInEveryAnswer wants the scope to be named even where it is the one that was asked for: the second generation of the
// TypeScript SDK would ask the person again.
func scopeInEveryAnswer(t *testing.T, s *ground) {
	if got := s.scopeOf(t, nil); got != "bugs:read" {
		t.Errorf("who asks for no scope is told %q", got)
	}
	if got := s.scopeOf(t, url.Values{"scope": {"bugs:read"}}); got != "bugs:read" {
		t.Errorf("who asks for the default scope is told %q", got)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"report"}, "client_secret": {groundSecret}}
	if got := s.postForm(t, "/token", form).field(t, "scope"); got != "bugs:read" {
		t.Errorf("a service account is told %q", got)
	}
}

// lifetimesAndRaces wants access tokens that live longer than the margin of any client, and instances that share a refresh
// token to stay together when they race for the next one.
func lifetimesAndRaces(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID}}
	next := map[string]bool{}
	for _, a := range s.postAtOnce(t, 8, form) {
		wantStatus(t, "a refresh in a race", a, http.StatusOK)
		s.keepSecret(a.field(t, "access_token"), a.field(t, "refresh_token"))
		next[a.field(t, "refresh_token")] = true
		if !strings.Contains(a.body, `"expires_in":3600`) {
			t.Errorf("the access token lives for something else than an hour: %s", a.body)
		}
	}
	if len(next) != 1 {
		t.Errorf("the race has %d different refresh tokens", len(next))
	}
	short := newGateway(t, gatewayConfig{site: "mcp_auth localhost:1 {\n" + userLine + "\naccess_token_lifetime 4m\n}"})
	if _, stderr, err := short.caddy("validate", "--config", short.file()); err == nil || !strings.Contains(stderr, "access_token_lifetime") {
		t.Errorf("a lifetime of four minutes is accepted: %v: %s", err, stderr)
	}
}

// audiencesOfAssertions signs assertions for the audiences that clients write there.
func audiencesOfAssertions(t *testing.T, s *ground) {
	for name, tt := range map[string]struct {
		audience any
		good     bool
	}{
		"the issuer":                       {s.origin, true},
		"the token endpoint":               {s.origin + "/token", true},
		"a list with the issuer":           {[]string{s.origin}, true},
		"another server":                   {"https://evil.example", false},
		"the issuer and another server":    {[]string{s.origin, "https://evil.example"}, false},
		"the issuer with a slash too much": {s.origin + "//", false},
		"nobody":                           {[]string{}, false},
	} {
		a := s.postForm(t, "/token", url.Values{
			"grant_type": {"client_credentials"}, "client_assertion": {s.assertion(t, tt.audience)},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		})
		if tt.good {
			wantStatus(t, name, a, http.StatusOK)
		} else {
			wantError(t, name, a, "invalid_client")
		}
	}
}

// assertion is one that the client robot has signed.
func (s *ground) assertion(t *testing.T, audience any) string {
	t.Helper()
	block, _ := pem.Decode([]byte(s.key))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signed, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": "robot", "sub": "robot", "aud": audience, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	s.keepSecret(signed)
	return signed
}

// emptyParameterIsAbsent sends parameters without a value, as the Go SDK does in some grants.
func emptyParameterIsAbsent(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	request := s.authorizeURL(id, nil) + "&scope=&resource=&prompt=&request=&response_mode="
	wantStatus(t, "an authorization request", send(t, s.client, "GET", request, ""), http.StatusOK)
	form := s.codeFor(t, s.newVisitor(t), id, nil)
	for _, name := range []string{"client_secret", "scope", "resource", "refresh_token", "redirect_uri", "client_assertion", "client_assertion_type"} {
		form.Set(name, "")
	}
	tokens := s.postForm(t, "/token", form)
	wantStatus(t, "a code", tokens, http.StatusOK)
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.field(t, "refresh_token")}, "client_id": {id}, "code": {""}, "scope": {""}, "resource": {""}}
	wantStatus(t, "a refresh token", s.postForm(t, "/token", refresh), http.StatusOK)
}
