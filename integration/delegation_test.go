package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// borrowed is the token of the provider that the upstream got last.
func (rec *recorder) borrowed(t testing.TB, g *gateway) string {
	t.Helper()
	token, ok := strings.CutPrefix(rec.last(t).Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		t.Fatal("the upstream gets no token")
	}
	g.keepSecret(token)
	return token
}

// wantOwner asks the provider whose a token is.
func (p *openidProvider) wantOwner(t testing.TB, token, want string) {
	t.Helper()
	a := send(t, http.DefaultClient, http.MethodGet, p.issuer()+"/me", "", "Authorization", "Bearer "+token)
	var info struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal([]byte(a.body), &info); err != nil || info.Subject != want {
		t.Errorf("the provider knows the token as %d %s", a.status, a.body)
	}
}

// connect registers a client and lets the person sign in at the provider and agree.
func (p *openidProvider) connect(t testing.TB, g *gateway, v *visitor, name string) *grant {
	t.Helper()
	address, clientID, verifier := g.request(t)
	page := v.get(address)
	if page.form("allow") == nil {
		page = v.get(page.leave().atProvider(person(name)))
	}
	gr := &grant{g: g, clientID: clientID, visitor: v}
	gr.take(t, g.postForm(t, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {page.submit("allow", nil).callback().Get("code")}, "client_id": {clientID},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}))
	return gr
}

// TestUpstreamWithTokensOfProvider calls an upstream on behalf of people, with what a certified provider gives for them:
// renewals, an outage, the end of the tokens at the provider, and people who have none.
func TestUpstreamWithTokensOfProvider(t *testing.T) {
	t.Parallel()
	idp := newOpenIDProvider(t)
	idp.seconds = "32" // the gateway renews 30 seconds before
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{
		env: []string{"OIDC_SECRET=" + providerSecret},
		site: "mcp_auth " + rec.address + ` {
		login oidc acme {
			issuer ` + idp.issuer() + `
			client_id mcp
			client_secret {env.OIDC_SECRET}
			scopes openid profile email offline_access
			prompt consent
		}
		` + userLine + `
		upstream_credential login acme
	}`,
	})
	g.keepSecret(providerSecret)
	idp.callback = g.origin + "/callback"
	idp.start()
	v := g.newVisitor(t)
	gr := idp.connect(t, g, v, "carol")
	call := func(what string, status int) {
		t.Helper()
		wantStatus(t, what, g.call(t, g.client, "/mcp", gr.access), status)
	}

	call("the first call", http.StatusOK)
	first := rec.borrowed(t, g)
	idp.wantOwner(t, first, "carol")
	if first == gr.access {
		t.Error("the upstream gets the client's own token")
	}
	g.restart(true)
	call("after a crash", http.StatusOK)
	time.Sleep(2 * time.Second)
	call("when the token is about to end", http.StatusOK)
	second := rec.borrowed(t, g)
	idp.wantOwner(t, second, "carol")
	if second == first {
		t.Error("the token has not been renewed")
	}
	wantStatus(t, "an upstream that refuses the token", g.call(t, g.client, "/mcp/status/401", gr.access), http.StatusBadGateway)
	call("the next call", http.StatusOK)
	third := rec.borrowed(t, g)
	idp.wantOwner(t, third, "carol")
	if third == second {
		t.Error("the token that the upstream has refused is used again")
	}
	data, err := os.ReadFile(filepath.Join(g.dataDir(), "mcp_auth", "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), third) {
		t.Error("the store has the token in clear")
	}

	t.Run("people of other logins", func(t *testing.T) {
		alice := g.newGrant(t, nil)
		a := g.call(t, g.client, "/mcp", alice.access)
		wantStatus(t, "a local user", a, http.StatusForbidden)
		if a.header.Get("WWW-Authenticate") != "" || a.field(t, "error") != "sign_in_required" {
			t.Errorf("the refusal is %v %s", a.header, a.body)
		}
		alice.renew(t)
	})

	idp.proc.stop()
	time.Sleep(2 * time.Second)
	down := g.call(t, g.client, "/mcp", gr.access)
	wantStatus(t, "while the provider is down", down, http.StatusServiceUnavailable)
	if down.header.Get("Retry-After") == "" || down.header.Get("WWW-Authenticate") != "" {
		t.Errorf("the answer is %v", down.header)
	}
	gr.renew(t)

	idp.start() // which has forgotten everything
	var ended *answer
	eventually(t, "the provider answers", func() bool {
		ended = g.call(t, g.client, "/mcp", gr.access)
		return ended.status != http.StatusServiceUnavailable
	})
	wantStatus(t, "when the provider has ended its tokens", ended, http.StatusUnauthorized)
	if challenge := ended.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) || !strings.Contains(challenge, "resource_metadata=") {
		t.Errorf("the challenge is %s", challenge)
	}
	wantError(t, "the refresh token", g.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
	gr = idp.connect(t, g, v, "carol")
	call("after another sign-in", http.StatusOK)
	idp.wantOwner(t, rec.borrowed(t, g), "carol")
}
