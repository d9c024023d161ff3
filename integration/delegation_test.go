package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// connect registers a client and lets the person sign in at the provider and agree. extra are parameters of the
// authorization request besides the usual ones.
func (p *openidProvider) connect(t testing.TB, g *gateway, v *visitor, name string, extra url.Values) *grant {
	t.Helper()
	address, clientID, verifier := g.request(t)
	address += "&" + extra.Encode()
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

// lending is a gateway that lends the tokens of a certified provider to an upstream, on behalf of carol.
type lending struct {
	g   *gateway
	idp *openidProvider
	rec *recorder
	v   *visitor
	gr  *grant
}

func startLending(t *testing.T) *lending {
	l := &lending{idp: newOpenIDProvider(t), rec: startRecorder(t)}
	l.idp.seconds = "32" // the gateway renews 30 seconds before
	l.g = startGateway(t, gatewayConfig{
		env: []string{"OIDC_SECRET=" + providerSecret},
		site: "mcp_auth " + l.rec.address + ` {
		login oidc acme {
			issuer ` + l.idp.issuer() + `
			client_id mcp
			client_secret {env.OIDC_SECRET}
			scopes openid profile email offline_access
			prompt consent
		}
		` + userLine + `
		upstream_credential login acme
	}`,
	})
	l.g.keepSecret(providerSecret)
	l.idp.callback = l.g.origin + "/callback"
	l.idp.start()
	l.v = l.g.newVisitor(t)
	l.gr = l.idp.connect(t, l.g, l.v, "carol", nil)
	return l
}

func (l *lending) call(t *testing.T) *answer {
	t.Helper()
	return l.g.call(t, l.g.client, "/mcp", l.gr.access)
}

// borrow calls the upstream and returns the token that it gets, which has to be carol's.
func (l *lending) borrow(t *testing.T, what string) string {
	t.Helper()
	wantStatus(t, what, l.call(t), http.StatusOK)
	token := l.rec.borrowed(t, l.g)
	l.idp.wantOwner(t, token, "carol")
	return token
}

// TestUpstreamWithTokensOfProvider calls an upstream on behalf of people, with what a certified provider gives for them.
func TestUpstreamWithTokensOfProvider(t *testing.T) {
	t.Parallel()
	l := startLending(t)
	t.Run("tokens are renewed", l.renews)
	t.Run("people are kept apart", l.keepsPeopleApart)
	t.Run("people of other logins have none", l.hasNoneForLocalUsers)
	t.Run("an outage of the provider", l.survivesOutage)
	t.Run("the end of the tokens at the provider", l.endsWithProvider)
}

func (l *lending) renews(t *testing.T) {
	first := l.borrow(t, "the first call")
	if first == l.gr.access {
		t.Error("the upstream gets the client's own token")
	}
	l.g.restart(true)
	l.borrow(t, "after a crash")
	time.Sleep(2 * time.Second)
	second := l.borrow(t, "when the token is about to end")
	if second == first {
		t.Error("the token has not been renewed")
	}
	wantStatus(t, "an upstream that refuses the token", l.g.call(t, l.g.client, "/mcp/status/401", l.gr.access), http.StatusBadGateway)
	third := l.borrow(t, "the next call")
	if third == second {
		t.Error("the token that the upstream has refused is used again")
	}
	data, err := os.ReadFile(filepath.Join(l.g.dataDir(), "mcp_auth", "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), third) {
		t.Error("the store has the token in clear")
	}
}

// keepsPeopleApart has carol and dave call at once, when the tokens of both have to be renewed. The provider ends all
// tokens of somebody whose refresh token comes twice.
func (l *lending) keepsPeopleApart(t *testing.T) {
	dave := l.idp.connect(t, l.g, l.g.newVisitor(t), "dave", nil)
	l.borrow(t, "the call before")
	time.Sleep(2 * time.Second)
	l.rec.reset()
	var calls sync.WaitGroup
	for range 8 {
		for name, token := range map[string]string{"carol": l.gr.access, "dave": dave.access} {
			calls.Go(func() {
				a, err := trySend(t.Context(), l.g.client, http.MethodPost, l.g.origin+"/mcp", toolsCall, "Authorization", "Bearer "+token, "X-Name", name)
				if err != nil || a.status != http.StatusOK {
					t.Errorf("a call of %s: %+v, %v", name, a, err)
				}
			})
		}
	}
	calls.Wait()
	for _, r := range l.rec.seen() {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		l.g.keepSecret(token)
		l.idp.wantOwner(t, token, r.Header.Get("X-Name"))
	}
}

func (l *lending) hasNoneForLocalUsers(t *testing.T) {
	alice := l.g.newGrant(t, nil)
	a := l.g.call(t, l.g.client, "/mcp", alice.access)
	wantStatus(t, "a local user", a, http.StatusForbidden)
	if a.header.Get("WWW-Authenticate") != "" || a.field(t, "error") != "sign_in_required" {
		t.Errorf("the refusal is %v %s", a.header, a.body)
	}
	alice.renew(t)
}

func (l *lending) survivesOutage(t *testing.T) {
	l.idp.proc.stop()
	time.Sleep(2 * time.Second)
	down := l.call(t)
	wantStatus(t, "while the provider is down", down, http.StatusServiceUnavailable)
	if down.header.Get("Retry-After") == "" || down.header.Get("WWW-Authenticate") != "" {
		t.Errorf("the answer is %v", down.header)
	}
	l.gr.renew(t)
}

func (l *lending) endsWithProvider(t *testing.T) {
	l.idp.start() // which has forgotten everything
	var ended *answer
	eventually(t, "the provider answers", func() bool {
		ended = l.call(t)
		return ended.status != http.StatusServiceUnavailable
	})
	wantStatus(t, "when the provider has ended its tokens", ended, http.StatusUnauthorized)
	if challenge := ended.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) || !strings.Contains(challenge, "resource_metadata=") {
		t.Errorf("the challenge is %s", challenge)
	}
	wantError(t, "the refresh token", l.g.refresh(t, l.gr.clientID, l.gr.refresh), "invalid_grant")
	l.gr = l.idp.connect(t, l.g, l.v, "carol", nil)
	l.borrow(t, "after another sign-in")
}
