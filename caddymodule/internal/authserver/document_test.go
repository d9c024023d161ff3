package authserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks/jwkstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	documentID = "https://app.example.net/client.json"
	webURI     = "https://app.example.net/cb"
)

// documents is the web with metadata documents, which can be down.
type documents struct {
	mu     sync.Mutex
	bodies map[string]string
	down   bool
	asked  int
}

// RoundTrip implements http.RoundTripper.
func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	body, ok := d.bodies[r.URL.String()]
	status := http.StatusOK
	if !ok || d.down {
		status = http.StatusServiceUnavailable
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

func (d *documents) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// put publishes a document that is fine but for the changes.
func (d *documents) put(t *testing.T, id string, change map[string]any) {
	t.Helper()
	fields := map[string]any{"client_id": id, "client_name": "App", "redirect_uris": []string{callback, webURI, "cursor://app/cb"}}
	maps.Copy(fields, change)
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bodies[id] = string(data)
}

// forget makes the next look-up of a document go to the store or the web, as
// after a restart.
func (s *site) forget(d *documents) {
	s.web = client.NewWebWith(outbound.NewWith(outbound.Options{Transport: d}))
}

// newDocumentSite makes a server with a web that has a document.
func newDocumentSite(t *testing.T, change map[string]any, configure ...func(*authserver.Config)) (*site, *documents, authserver.Config) {
	t.Helper()
	d := &documents{bodies: map[string]string{}}
	d.put(t, documentID, change)
	s := newSite(t)
	s.forget(d)
	return s, d, s.reopen(configure...)
}

func TestAClientWithADocumentGoesTheWholeWay(t *testing.T) {
	s, d, cfg := newDocumentSite(t, nil)
	b := s.browser()
	code := b.code(authorization(documentID))
	tokens := s.issued(redemption(documentID, code))
	tokens = s.issued(renewal(documentID, tokens.text("refresh_token")))

	// The document cannot be fetched any more, and the server starts anew.
	d.setDown(true)
	s.forget(d)
	s.open(cfg)
	tokens = s.issued(renewal(documentID, tokens.text("refresh_token")))
	tokens = s.issued(renewal("-", tokens.text("refresh_token")))
	s.issued(redemption(documentID, s.browser().code(authorization(documentID))))
	if p := b.get("/account"); p.status != http.StatusOK || !strings.Contains(p.body, "App") {
		t.Errorf("the account page: %d", p.status)
	}
	if resp := s.serve(request(http.MethodPost, "/revoke", url.Values{"client_id": {documentID}, "token": {tokens.text("refresh_token")}})); resp.StatusCode != http.StatusOK {
		t.Errorf("revoking: %d", resp.StatusCode)
	}
	if s.good(tokens.text("access_token")) {
		t.Error("the access token is still good")
	}
	s.token(renewal(documentID, tokens.text("refresh_token"))).refused(t, 400, "invalid_grant")
}

// Some clients spell "none" as Basic with an empty password, and the colons of
// their id percent-encoded.
func TestAnEmptySecretInTheHeaderMeansAClientWithADocument(t *testing.T) {
	s, _, _ := newDocumentSite(t, nil)
	code := s.browser().code(authorization(documentID))
	s.issued(redemption(documentID, code, "client_id", "-"), url.QueryEscape(documentID), "")
}

func TestThePageSaysWhatADocumentVouchesFor(t *testing.T) {
	const elsewhere = "https://elsewhere.example/cb"
	s, _, _ := newDocumentSite(t, map[string]any{
		"client_name": "Claude", "redirect_uris": []string{webURI, callback, "cursor://app/cb", elsewhere, "https://app.example.net:8443/cb", "https://localhost/cb"},
	})
	for uri, want := range map[string]string{
		webURI:                            "Confirmed: this request is from app.example.net",
		callback:                          "An app on this computer, named by",
		"cursor://app/cb":                 "An app on this computer, named by",
		"https://localhost/cb":            "An app on this computer, named by",
		elsewhere:                         "Unconfirmed website:",
		"https://app.example.net:8443/cb": "Unconfirmed website:",
	} {
		p := s.browser().consent(authorization(documentID, "redirect_uri", uri))
		if !strings.Contains(textOf(p), want) {
			t.Errorf("%s: the page lacks %q:\n%s", uri, want, textOf(p))
		}
	}
}

func TestEveryFaultOfADocumentLooksTheSame(t *testing.T) {
	s, d, _ := newDocumentSite(t, nil)
	d.put(t, "https://app.example.net/secret.json", map[string]any{"client_secret": "x"})
	d.put(t, "https://app.example.net/other.json", map[string]any{"client_id": documentID})
	var first string
	for _, id := range []string{
		"https://app.example.net/missing", "https://app.example.net/secret.json", "https://app.example.net/other.json",
		"https://app.example.net", "https://127.0.0.1/x", "https://10.0.0.1/x", "http://app.example.net/client.json", documentID + "#a",
	} {
		a := s.program(accept(request(http.MethodGet, "/authorize?"+authorization(id).Encode(), nil), "application/json"))
		a.refused(t, 400, "invalid_client")
		if first == "" {
			first = a.text("error_description")
		}
		if got := a.text("error_description"); got != first || got == "" {
			t.Errorf("%s: %q, and another one %q", id, got, first)
		}
		s.token(redemption(id, "junk")).refused(t, 401, "invalid_client")
	}
	p := s.browser().get("/authorize?" + authorization(documentID, "redirect_uri", "https://evil.example/cb").Encode())
	if p.status != http.StatusBadRequest || p.header.Get("Location") != "" {
		t.Errorf("a redirect URI that is not in the document: %d to %q", p.status, p.header.Get("Location"))
	}
}

// One address cannot use up the fetches that there are for all.
func TestAnAddressMakesTheServerFetchSoManyDocuments(t *testing.T) {
	s, d, _ := newDocumentSite(t, nil)
	var last string
	for i := range 30 {
		last = fmt.Sprintf("https://h%d.example.net/client.json", i)
		d.put(t, last, nil)
		s.browser().get("/authorize?" + authorization(last).Encode())
	}
	if p := s.browser().get("/authorize?" + authorization(last).Encode()); p.status != http.StatusBadRequest {
		t.Errorf("the thirtieth document: %d", p.status)
	}
	other := s.browser()
	other.peer = "198.51.100.1:1"
	if p := other.get("/authorize?" + authorization(last).Encode()); p.status != http.StatusOK {
		t.Errorf("the same from another address: %d", p.status)
	}
}

func TestNobodyBehindADocumentGetsTokensWithoutAPerson(t *testing.T) {
	key := newKey(t)
	s, _, _ := newDocumentSite(t, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "jwks": key.set(), "grant_types": []string{"authorization_code", "client_credentials"},
	})
	form := url.Values{"grant_type": {"client_credentials"}}
	s.token(with(key.assert(form, documentID, nil))).refused(t, 401, "invalid_client") // a stranger
	s.browser().code(authorization(documentID))
	s.token(with(key.assert(form, documentID, nil))).refused(t, 400, "unauthorized_client")
}

// key is the key of a client.
type key struct {
	t       *testing.T
	private *ecdsa.PrivateKey
}

func newKey(t *testing.T) *key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key{t, private}
}

func (k *key) set() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.private.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
}

// assert returns the form with an assertion in it.
func (k *key) assert(form url.Values, id string, change map[string]any) url.Values {
	k.t.Helper()
	now := time.Now()
	claims := map[string]any{"iss": id, "sub": id, "aud": issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	maps.Copy(claims, change)
	out := maps.Clone(form)
	out.Set("client_assertion", jwkstest.Sign(k.t, jose.JSONWebKey{Key: k.private, KeyID: "k", Algorithm: "ES256"}, nil, claims))
	out.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	return out
}

// The flow of TestAStoreFaultIsA503AndTheStepCanBeRepeated, for a client that
// nobody registers.
func TestAStoreFaultIsA503ForClientsWithADocument(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s, _, _ := newDocumentSite(t, nil)
		f := &flow{site: s, browser: s.browser(), clientID: documentID}
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		for _, step := range flowSteps[1:] {
			if !f.survives(step, n, when) {
				break
			}
		}
		return s.store.Calls()[before:]
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}
