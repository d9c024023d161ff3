package authserver_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestWhichClientsAProviderCanVouchFor(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust)
	id := s.register()
	registered := s.program(request(http.MethodPost, "/register",
		`{"redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"client_secret_basic","grant_types":["authorization_code","`+oauth.GrantJWTBearer+`"]}`))
	if got := registered.fields["grant_types"]; !slices.Equal(got.([]any), []any{"authorization_code"}) {
		t.Errorf("a client has registered for %v", got)
	}
	confidential, secret := registered.text("client_id"), registered.text("client_secret")
	for rule, c := range map[string]struct {
		values url.Values
		status int
		code   string
	}{
		"no secret":                          {bearing(p.assertion(nil), "client_secret", "-"), 401, "invalid_client"},
		"a wrong secret":                     {bearing(p.assertion(nil), "client_secret", "wrong"), 401, "invalid_client"},
		"no client":                          {bearing(p.assertion(nil), "client_id", "-", "client_secret", "-"), 401, "invalid_client"},
		"nobody":                             {bearing(p.assertion(map[string]any{"client_id": "nobody"}), "client_id", "nobody", "client_secret", "-"), 401, "invalid_client"},
		"a client for other grants":          {bearing(p.assertion(map[string]any{"client_id": robotID}), "client_id", robotID, "client_secret", "robot-secret"), 400, "unauthorized_client"},
		"a client that registered":           {bearing(p.assertion(map[string]any{"client_id": id}), "client_id", id, "client_secret", "-"), 400, "unauthorized_client"},
		"a client that registered, a secret": {bearing(p.assertion(map[string]any{"client_id": confidential}), "client_id", confidential, "client_secret", secret), 400, "unauthorized_client"},
	} {
		t.Run(rule, func(t *testing.T) { s.token(c.values).refused(t, c.status, c.code) })
	}
	r := request(http.MethodPost, "/token", bearing(p.assertion(nil), "client_id", "-", "client_secret", "-", "scope", "mcp", "resource", resource))
	r.SetBasicAuth(agentID, agentPass)
	if a := s.program(r); a.StatusCode != http.StatusOK {
		t.Errorf("with HTTP Basic: %v", a.fields)
	}
}

// Registrations for the grant type cannot be made, and one that is there all the
// same is of no use.
func TestARegistrationIsNoGroundForAnAssertion(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust)
	id := s.register()
	key := "test/client/" + strings.TrimPrefix(id, "mcp_")
	rec, err := s.store.Inner().Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	rec.Value = []byte(strings.Replace(string(rec.Value), `"authorization_code"`, `"authorization_code","`+oauth.GrantJWTBearer+`"`, 1))
	if !strings.Contains(string(rec.Value), oauth.GrantJWTBearer) {
		t.Fatalf("the record is %s", rec.Value)
	}
	if err := s.store.Inner().Put(t.Context(), key, rec); err != nil {
		t.Fatal(err)
	}
	s.token(bearing(p.assertion(map[string]any{"client_id": id}), "client_id", id, "client_secret", "-")).refused(t, 400, "unauthorized_client")
}

// documented is a site with a provider and a client that nobody has allowed
// anything.
func documented(t *testing.T, p *idp, change map[string]any) (*site, *documents) {
	t.Helper()
	fields := map[string]any{"grant_types": []string{"authorization_code", oauth.GrantJWTBearer}}
	maps.Copy(fields, change)
	s, d, _ := newDocumentSite(t, fields, p.trust)
	return s, d
}

func TestAProviderVouchesForAClientWithADocument(t *testing.T) {
	p := newIDP(t)
	forDocument := map[string]any{"client_id": documentID}
	t.Run("without keys", func(t *testing.T) {
		s, d := documented(t, p, nil)
		a := s.issued(bearing(p.assertion(forDocument), "client_id", documentID, "client_secret", "-"))
		claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
		if err != nil || claims.ClientID != documentID {
			t.Errorf("the token is for %v, %v", claims, err)
		}
		// It is known from then on.
		d.setDown(true)
		s.issued(bearing(p.assertion(forDocument), "client_id", documentID, "client_secret", "-"))
	})
	t.Run("with keys", func(t *testing.T) {
		key := newKey(t)
		s, _ := documented(t, p, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": key.set()})
		form := url.Values{"grant_type": {oauth.GrantJWTBearer}, "assertion": {p.assertion(forDocument)}}
		s.token(with(maps.Clone(form), "client_id", documentID)).refused(t, 401, "invalid_client")
		s.token(newKey(t).assert(form, documentID, nil)).refused(t, 401, "invalid_client")
		s.issued(key.assert(form, documentID, nil))
	})
	t.Run("for nothing else", func(t *testing.T) {
		s, _ := documented(t, p, map[string]any{"grant_types": []string{oauth.GrantJWTBearer}, "redirect_uris": nil})
		s.issued(bearing(p.assertion(forDocument), "client_id", documentID, "client_secret", "-"))
		if page := s.browser().get("/authorize?" + authorization(documentID).Encode()); page.status != http.StatusBadRequest {
			t.Errorf("asking a person: %d", page.status)
		}
	})
	t.Run("that does not want it", func(t *testing.T) {
		s, _ := documented(t, p, map[string]any{"grant_types": []string{"authorization_code"}})
		s.token(bearing(p.assertion(forDocument), "client_id", documentID, "client_secret", "-")).refused(t, 400, "unauthorized_client")
	})
}

// Whoever has no word of the provider for it does not make the server fetch a
// document.
func TestStrangersMakeNobodyFetchDocumentsWithAssertions(t *testing.T) {
	p, stranger := newIDP(t), newIDP(t)
	s, d := documented(t, p, nil)
	asked := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.asked
	}
	for rule, c := range map[string]struct {
		raw, code string
	}{
		"none":                         {"", "invalid_request"},
		"junk":                         {"junk", "invalid_grant"},
		"a stranger's":                 {stranger.assertion(map[string]any{"client_id": documentID}), "invalid_grant"},
		"of another issuer":            {p.assertion(map[string]any{"client_id": documentID, "iss": "https://evil.example"}), "invalid_grant"},
		"for another server":           {p.assertion(map[string]any{"client_id": documentID, "aud": "https://other.example"}), "invalid_grant"},
		"for another client":           {p.assertion(nil), "invalid_client"},
		"for another client, document": {p.assertion(map[string]any{"client_id": documentID + "x"}), "invalid_client"},
	} {
		status := 400
		if c.code == "invalid_client" {
			status = 401
		}
		t.Run(rule, func(t *testing.T) {
			s.token(bearing(c.raw, "client_id", documentID, "client_secret", "-")).refused(t, status, c.code)
		})
	}
	if n := asked(); n != 0 {
		t.Errorf("%d documents were fetched", n)
	}
	s.issued(bearing(p.assertion(map[string]any{"client_id": documentID}), "client_id", documentID, "client_secret", "-"))
	if n := asked(); n != 1 {
		t.Errorf("%d documents were fetched for a good one", n)
	}
}
