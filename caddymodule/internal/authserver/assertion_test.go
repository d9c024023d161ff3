package authserver_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestAClientWithAKeyAuthenticatesWithAnAssertion(t *testing.T) {
	key, stranger := newKey(t), newKey(t)
	s, d, cfg := newDocumentSite(t, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": key.set()})
	code := s.browser().code(authorization(documentID))
	form := redemption(documentID, code)
	good := key.assert(form, documentID, nil)
	for _, c := range []struct {
		rule   string
		values url.Values
		header string
		status int
		code   string
	}{
		{"no assertion", form, "", 401, "invalid_client"},
		{"an empty assertion", with(key.assert(form, documentID, nil), "client_assertion", ""), "", 401, "invalid_client"},
		{"no type", with(key.assert(form, documentID, nil), "client_assertion_type", "-"), "", 401, "invalid_client"},
		{"another type", with(key.assert(form, documentID, nil), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), "", 401, "invalid_client"},
		{"another audience", key.assert(form, documentID, map[string]any{"aud": "https://other.example"}), "", 401, "invalid_client"},
		{"two audiences", key.assert(form, documentID, map[string]any{"aud": []string{issuer, "https://other.example"}}), "", 401, "invalid_client"},
		{"another client's", key.assert(form, "https://app.example.net/other.json", nil), "", 401, "invalid_client"},
		{"a stranger's key", stranger.assert(form, documentID, nil), "", 401, "invalid_client"},
		{"a secret", with(maps.Clone(form), "client_secret", "x"), "", 401, "invalid_client"},
		{"a secret beside it", with(key.assert(form, documentID, nil), "client_secret", "x"), "", 400, "invalid_request"},
		{"Basic beside it", with(key.assert(form, documentID, nil), "client_id", "-"), basic(documentID, ""), 400, "invalid_request"},
		{"Basic in place of it", with(maps.Clone(form), "client_id", "-"), basic(url.QueryEscape(documentID), ""), 401, "invalid_client"},
		{"two of them", url.Values{"grant_type": form["grant_type"], "client_assertion": {"a", "b"}}, "", 400, "invalid_request"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := request(http.MethodPost, "/token", c.values)
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
			s.program(r).refused(t, c.status, c.code)
		})
	}
	refresh := s.issued(good).text("refresh_token")
	s.token(with(good, "grant_type", "refresh_token", "refresh_token", refresh)).refused(t, 401, "invalid_client") // a replay
	s.token(renewal("-", refresh)).refused(t, 401, "invalid_client")

	// Nothing was used up by all that, and the sub is name enough.
	d.setDown(true)
	s.forget(d)
	s.open(cfg)
	refresh = s.issued(key.assert(renewal("-", refresh), documentID, map[string]any{"aud": issuer + "/token"})).text("refresh_token")
	refresh = s.issued(key.assert(renewal(documentID, refresh), documentID, map[string]any{"aud": []string{issuer + "/token"}})).text("refresh_token")

	revocation := url.Values{"token": {refresh}}
	s.program(request(http.MethodPost, "/revoke", with(maps.Clone(revocation), "client_id", documentID))).refused(t, 401, "invalid_client")
	if resp := s.serve(request(http.MethodPost, "/revoke", key.assert(revocation, documentID, map[string]any{"aud": issuer + "/revoke"}))); resp.StatusCode != 200 {
		t.Errorf("revoking: %d", resp.StatusCode)
	}
	s.token(key.assert(renewal(documentID, refresh), documentID, nil)).refused(t, 400, "invalid_grant")
}

func TestOtherClientsHaveNoUseForAnAssertion(t *testing.T) {
	key := newKey(t)
	s := newSite(t)
	id := s.register()
	s.token(key.assert(renewal(id, "junk"), id, nil)).refused(t, 401, "invalid_client")
	s.token(key.assert(url.Values{"grant_type": {"client_credentials"}}, robotID, nil)).refused(t, 401, "invalid_client")
	s.token(key.assert(renewal("-", "junk"), "nobody", nil)).refused(t, 401, "invalid_client")
	s.token(key.assert(renewal("-", "junk"), "", nil)).refused(t, 401, "invalid_client")
}

func TestAServiceAccountOfTheConfigurationCanHaveAKey(t *testing.T) {
	key := newKey(t)
	data, err := json.Marshal(key.set())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := client.ParseKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *authserver.Config) {
		c.Clients = append(c.Clients, &client.Client{ID: "signer", Name: "Signer", GrantTypes: []string{oauth.GrantClientCredentials}, Keys: keys})
	})
	form := url.Values{"grant_type": {"client_credentials"}}
	s.issued(key.assert(form, "signer", nil))
	s.token(with(maps.Clone(form), "client_id", "signer")).refused(t, 401, "invalid_client")
}

// Each assertion that is accepted leaves a mark in the store, so those whom nobody
// has allowed anything do not get to make as many as they like.
func TestStrangersWithAKeyUseUpFewAssertions(t *testing.T) {
	key := newKey(t)
	s, _, _ := newDocumentSite(t, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": key.set()})
	marks := func() (n int) {
		for k := range s.keys() {
			if strings.Contains(k, "assertion/") {
				n++
			}
		}
		return n
	}
	b := s.browser()
	b.get("/authorize?" + authorization(documentID).Encode()) // makes the document known
	for range 200 {
		s.token(key.assert(redemption(documentID, "junk"), documentID, nil))
		s.program(request(http.MethodPost, "/revoke", key.assert(url.Values{"token": {"junk"}}, documentID, nil)))
	}
	if n := marks(); n == 0 || n > 60 {
		t.Errorf("a stranger has left %d marks", n)
	}
	s.token(key.assert(redemption(documentID, "junk"), documentID, nil)).refused(t, 429, "temporarily_unavailable")

	// Whoever a person has allowed something is no stranger, also at that address.
	refresh := s.issued(key.assert(redemption(documentID, b.code(authorization(documentID))), documentID, nil)).text("refresh_token")
	for range 100 {
		refresh = s.issued(key.assert(renewal(documentID, refresh), documentID, nil)).text("refresh_token")
	}
}

// textOf is what a page says, without its tags.
func textOf(p *page) string {
	var out []string
	for n := range p.document.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			out = append(out, strings.TrimSpace(n.Data))
		}
	}
	return strings.Join(out, " ")
}
