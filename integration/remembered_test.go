package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestRememberedConsent asks once about a website that the configuration names, and each time about a client that has
// registered itself with the same address. An app that was removed is asked about again.
func TestRememberedConsent(t *testing.T) {
	t.Parallel()
	const callback = "https://app.example/callback"
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "client app {\n name \"The App\"\n redirect_uris "+callback+"\n}")})
	registered := g.register(t, map[string]any{"client_name": "The App", "redirect_uris": []string{callback}})
	for id, remembered := range map[string]bool{"app": true, registered: false} {
		v := g.newVisitor(t)
		verifier := strings.Repeat("v", 43)
		request := authorizeRequest(id, verifier)
		request.Set("redirect_uri", callback)
		connect := g.origin + "/authorize?" + request.Encode()
		grant := &grant{g: g, clientID: id}
		grant.take(t, g.postForm(t, "/token", url.Values{
			"grant_type": {"authorization_code"}, "code": {v.authorize(connect).Get("code")}, "client_id": {id}, "code_verifier": {verifier},
		}))

		again := v.get(connect)
		if remembered {
			for _, client := range protocolClients(g) { // the answer has a code, which must not show in the log
				v.client.Transport = client.Transport
				v.get(connect).callback()
			}
		}
		if code := strings.HasPrefix(again.next, callback+"?code="); code != remembered || (again.form("allow") != nil) == remembered {
			t.Errorf("client %s: the second request leads to %q and %v", id, again.next, again)
		}
		if p := v.get(connect + "&prompt=consent"); p.status != http.StatusOK || p.form("allow") == nil || p.next != "" {
			t.Errorf("client %s: prompt=consent yields %v and leads to %q", id, p, p.next)
		}
		v.get(g.origin+"/account").submit("/account/revoke", nil)
		wantStatus(t, "a call after the app was removed", g.call(t, g.client, "/mcp", grant.access), http.StatusUnauthorized)
		if p := v.get(connect); p.form("allow") == nil || p.next != "" {
			t.Errorf("client %s: after it was removed the request yields %v and leads to %q", id, p, p.next)
		}
	}
}
