package integration

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// request is a new authorization request of a new client.
func (g *gateway) request(t testing.TB) (address, clientID, verifier string) {
	t.Helper()
	verifier = rand.Text() + rand.Text()
	clientID = g.register(t, map[string]any{
		"client_name": "Test client", "redirect_uris": []string{redirectURI}, "token_endpoint_auth_method": "none",
	})
	return g.origin + "/authorize?" + authorizeRequest(clientID, verifier).Encode(), clientID, verifier
}

// hasSession reports whether the visitor is signed in.
func (v *visitor) hasSession() bool {
	v.t.Helper()
	u, err := url.Parse(v.g.origin)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range v.client.Jar.Cookies(u) {
		if strings.HasSuffix(c.Name, "mcp_session") {
			return true
		}
	}
	return false
}

// wantProblem fails the test when a page does not show a problem.
func wantProblem(t *testing.T, what string, p *page, status int, problem string) {
	t.Helper()
	if p.status != status || !strings.Contains(p.body, "<code>"+problem+"</code>") {
		t.Errorf("%s: got %v, want %d and %s:\n%s", what, p, status, problem, tail(p.body, 1500))
	}
}

// TestSignInAtProvider goes the whole way with a certified provider: to it, back, consent, tokens, and what the upstream
// learns of the person.
func TestSignInAtProvider(t *testing.T) {
	t.Parallel()
	idp := newOpenIDProvider(t)
	rec := startRecorder(t)
	g := idp.siteOfProvider(rec.address, userLine+"\n")
	idp.start()
	address, clientID, verifier := g.request(t)
	v := g.newVisitor(t)
	first := v.get(address)
	if !strings.Contains(first.body, "Test client") || first.form("password") == nil {
		t.Errorf("the sign-in page does not say who asks, or has no form for local users:\n%s", tail(first.body, 2000))
	}
	back := first.leave().atProvider(person("carol"))
	consent := v.get(back)
	if !strings.Contains(consent.body, "carol@example.com") || consent.form("allow") == nil {
		t.Fatalf("no consent page: %v\n%s", consent, tail(consent.body, 2000))
	}
	gr := &grant{g: g, clientID: clientID, visitor: v}
	gr.take(t, g.postForm(t, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {consent.submit("allow", nil).callback().Get("code")}, "client_id": {clientID},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}))
	gr.renew(t)
	wantStatus(t, "a call", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	header := rec.last(t).Header
	for name, want := range map[string]string{
		"X-Mcp-User": "acme:carol", "X-Caller-Email": "carol@example.com", "X-Caller-Groups": "staff,mcp-users",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("the upstream gets %s: %q, want %q", name, got, want)
		}
	}

	t.Run("a replayed callback", func(t *testing.T) {
		wantProblem(t, "the same browser", v.during(t).get(back), http.StatusBadRequest, "request_expired")
	})
	t.Run("an address that is not verified", func(t *testing.T) {
		other := g.newVisitor(t)
		p := other.get(other.get(address).leave().atProvider(person("dave")))
		if !strings.Contains(p.body, "Dave") || strings.Contains(p.body, "dave@example.com") {
			t.Errorf("the page shows the address, or not the name:\n%s", tail(p.body, 2000))
		}
	})
	t.Run("the login is taken away", func(t *testing.T) {
		if err := g.reload(gatewayConfig{site: forwardingSite(rec.address)}); err != nil {
			t.Fatal(err)
		}
		a := g.postForm(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {clientID}})
		if a.status != http.StatusBadRequest || a.field(t, "error") != "invalid_grant" {
			t.Errorf("the refresh token is answered %d %s", a.status, a.body)
		}
		if p := v.during(t).get(g.origin + "/account"); p.form("password") == nil {
			t.Errorf("the session goes on: %v", p)
		}
	})
}

// TestCallbackOfProvider plays an attacker with the address at which the browser comes back.
func TestCallbackOfProvider(t *testing.T) {
	t.Parallel()
	idp := newOpenIDProvider(t)
	g := idp.siteOfProvider(startRecorder(t).address, "")
	idp.start()
	address, _, _ := g.request(t)

	attacker, victim := g.newVisitor(t), g.newVisitor(t)
	back := attacker.get(address).leave().atProvider(person("mallory"))
	wantProblem(t, "a browser without a cookie", victim.get(back), http.StatusBadRequest, "other_browser")
	victim.get(address)
	wantProblem(t, "a browser with a request of its own", victim.get(back), http.StatusBadRequest, "other_browser")
	if victim.hasSession() {
		t.Error("the victim is signed in as the attacker")
	}
	u, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(name, value string) string {
		q := u.Query()
		q.Set(name, value)
		return g.origin + "/callback?" + q.Encode()
	}
	wantProblem(t, "another state", attacker.get(changed("state", "x"+u.Query().Get("state"))), http.StatusBadRequest, "form_expired")
	wantProblem(t, "another issuer", attacker.get(changed("iss", "https://evil.example")), http.StatusForbidden, "login_failed")
	wantProblem(t, "no issuer", attacker.get(strings.Replace(back, "iss=", "x=", 1)), http.StatusForbidden, "login_failed")
	wantProblem(t, "a code of somebody else", attacker.get(changed("code", strings.Repeat("a", 43))), http.StatusForbidden, "login_failed")
	if attacker.hasSession() {
		t.Error("one of them has signed in")
	}
	for _, method := range []string{http.MethodPost, http.MethodHead} {
		wantStatus(t, method, send(t, g.client, method, back, ""), http.StatusMethodNotAllowed)
	}
	if p := attacker.get(back); p.form("allow") == nil {
		t.Errorf("the browser that began cannot go on: %v", p)
	}

	cancelled := g.newVisitor(t)
	p := cancelled.get(cancelled.get(address).leave().atProvider(url.Values{"cancel": {"1"}}))
	if q := p.callback(); q.Get("error") != "access_denied" || q.Get("iss") != g.origin {
		t.Errorf("after cancelling at the provider, the client gets %v", q)
	}
}

// TestProviderOutage takes the provider away and gives it back, with other keys.
func TestProviderOutage(t *testing.T) {
	t.Parallel()
	idp := newOpenIDProvider(t)
	g := idp.siteOfProvider(startRecorder(t).address, userLine+"\n")
	address, _, _ := g.request(t)
	signIn := func(v *visitor) *page { return v.get(v.get(address).leave().atProvider(person("carol"))) }
	down := func(what string) {
		t.Helper()
		v := g.newVisitor(t)
		p := v.get(address).leave()
		if p.status != http.StatusServiceUnavailable || !strings.Contains(p.body, "Acme SSO does not answer") || p.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %v\n%s", what, p, tail(p.body, 2000))
		}
		if p = p.signIn(); p.form("allow") == nil {
			t.Errorf("%s: a local user cannot get in from that page: %v", what, p)
		}
	}
	down("a provider that was never there")
	idp.start()
	eventually(t, "people can sign in when the provider is there", func() bool {
		p := g.newVisitor(t).get(address).leave()
		return p.next != ""
	})
	if p := signIn(g.newVisitor(t)); p.form("allow") == nil {
		t.Fatalf("cannot sign in: %v", p)
	}

	v := g.newVisitor(t)
	back := v.get(address).leave().atProvider(person("carol"))
	idp.proc.stop()
	if p := v.get(back); p.status != http.StatusServiceUnavailable || v.hasSession() {
		t.Errorf("the provider goes away on the way back: %v", p)
	}
	idp.start() // with a new key
	if p := signIn(g.newVisitor(t)); p.form("allow") == nil {
		t.Errorf("the new key of the provider is not accepted: %v\n%s", p, tail(p.body, 2000))
	}
}

// TestAllow lets in some of those whom the provider knows.
func TestAllow(t *testing.T) {
	t.Parallel()
	idp := newOpenIDProvider(t)
	rec := startRecorder(t)
	g := idp.siteOfProvider(rec.address, userLine+"\nallow domain example.com\n")
	idp.start()
	address, _, _ := g.request(t)
	for name, want := range map[string]bool{"carol": true, "dave": false, "mallory": false} {
		t.Run(name, func(t *testing.T) {
			v := g.newVisitor(t)
			p := v.get(v.get(address).leave().atProvider(person(name)))
			if !want {
				wantProblem(t, name, p, http.StatusForbidden, "access_denied")
			}
			if v.hasSession() != want {
				t.Errorf("signed in: %t", v.hasSession())
			}
			if !want {
				if p = p.submit("/login/switch", nil); providerLink.FindString(p.body) == "" {
					t.Errorf("no way to another account: %v", p)
				}
			}
		})
	}
	if p := g.newVisitor(t).get(address).signIn(); p.form("allow") == nil {
		t.Errorf("the local user has an address of the domain: %v", p)
	}
}
