package integration

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// newGrantByDocument lets a person agree to a client that has a metadata document.
func (g *gateway) newGrantByDocument(t *testing.T, clientID string) (*grant, *page) {
	t.Helper()
	out := &grant{g: g, clientID: clientID, visitor: g.newVisitor(t)}
	verifier := rand.Text() + rand.Text()
	consent := out.visitor.get(g.origin + "/authorize?" + authorizeRequest(clientID, verifier).Encode()).signIn()
	callback := consent.submit("allow", nil).callback()
	out.take(t, g.postForm(t, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "client_id": {clientID},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}))
	return out, consent
}

// TestClientWithDocument wants a client with a metadata document to live on while its document cannot be fetched.
func TestClientWithDocument(t *testing.T) {
	t.Parallel()
	docs := newDocumentServer(t)
	id := docs.publishClient(t, "/client.json", "Journey")
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n" + onLoopback + "\n}", env: docs.trust()})
	wantStatus(t, "the metadata", send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-authorization-server", ""), http.StatusOK)

	gr, consent := g.newGrantByDocument(t, id)
	if !strings.Contains(consent.body, "127.0.0.1") || !strings.Contains(consent.body, "named by") || strings.Contains(consent.body, "“Journey”") {
		t.Errorf("the page does not say who vouches for the name:\n%s", tail(consent.body, 4000))
	}
	gr.renew(t)
	if got := docs.count(); got != 1 {
		t.Errorf("the document was fetched %d times, want once", got)
	}

	docs.answerWith(http.StatusInternalServerError)
	gr.renew(t)
	g.restart(true)
	gr.renew(t)
	wantTools(t, "a call", g.call(t, g.client, "/mcp", gr.access))
	second, _ := g.newGrantByDocument(t, id)
	second.renew(t)
	gr.revoke(t)
	if a := g.call(t, g.client, "/mcp", gr.access); a.status != http.StatusUnauthorized {
		t.Errorf("a revoked token gets %d", a.status)
	}
	for what, line := range map[string]string{"metadata_documents_on_loopback is on": "a warning", "127.0.0.1": "the address of the client"} {
		if !strings.Contains(g.proc.output.String(), what) {
			t.Errorf("the log lacks %s", line)
		}
	}
}

// TestDocumentsThatAreNotFetched wants the gateway not to be a way into networks that only it can reach.
func TestDocumentsThatAreNotFetched(t *testing.T) {
	t.Parallel()
	docs := newDocumentServer(t)
	id := docs.publishClient(t, "/client.json", "Journey")
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}", env: docs.trust()})
	_, port, _ := strings.Cut(strings.TrimPrefix(docs.URL, "https://"), ":")
	var first string
	for _, clientID := range []string{
		id, "https://localhost:" + port + "/client.json", "https://[::1]:" + port + "/client.json",
		"https://[::ffff:127.0.0.1]:" + port + "/client.json", "https://2130706433:" + port + "/client.json", "https://127.1:" + port + "/client.json",
		"http://127.0.0.1:" + port + "/client.json", "https://169.254.169.254/latest/meta-data/", "https://10.0.0.1/client.json",
		"https://user@client.example/client.json", "https://client.invalid/client.json", "https://client.invalid/a/../client.json",
	} {
		request := authorizeRequest(clientID, rand.Text()+rand.Text())
		a := send(t, g.client, http.MethodGet, g.origin+"/authorize?"+request.Encode(), "", "Accept", "application/json")
		wantStatus(t, clientID, a, http.StatusBadRequest)
		if first == "" {
			first = a.body
		}
		if a.body != first || a.header.Get("Location") != "" {
			t.Errorf("%s: %s, and another one %s", clientID, a.body, first)
		}
		form := url.Values{"grant_type": {"authorization_code"}, "code": {"junk"}, "client_id": {clientID}, "code_verifier": {rand.Text() + rand.Text()}}
		if a := g.postForm(t, "/token", form); a.status != http.StatusUnauthorized || a.field(t, "error") != "invalid_client" {
			t.Errorf("%s at /token: %d %s", clientID, a.status, a.body)
		}
	}
	if got := docs.count(); got != 0 {
		t.Errorf("the server on loopback was reached %d times", got)
	}
}
