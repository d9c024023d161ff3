package authserver_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	askerID   = "bugs-server"
	askerPass = "asker-secret"
)

// asking lets two servers ask about tokens: one about those of /mcp and its
// siblings, one about those of /admin.
func asking(c *authserver.Config) {
	c.Clients = append(c.Clients,
		&client.Client{ID: askerID, Name: "Bugs", Secret: plainSecret(askerPass), Introspects: []string{resource, issuer + "/sse", issuer + "/messages"}},
		&client.Client{ID: "admin-server", Name: "Admin", Secret: plainSecret("admin-secret"), Introspects: []string{issuer + "/admin"}})
}

func (s *site) introspect(presented string, pairs ...string) answer {
	s.t.Helper()
	form := url.Values{"client_id": {askerID}, "client_secret": {askerPass}, "token": {presented}}
	return s.program(request(http.MethodPost, "/introspect", with(form, pairs...)))
}

// inactive checks for the one answer about tokens that are no use to whoever asks.
func (a answer) inactive(t *testing.T, what string) {
	t.Helper()
	if a.StatusCode != http.StatusOK || !maps.Equal(a.fields, map[string]any{"active": false}) {
		t.Errorf("%s: %d %v", what, a.StatusCode, a.fields)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s: Cache-Control is %q", what, got)
	}
}

func TestWhatAServerLearnsAboutATokenForIt(t *testing.T) {
	s := newSite(t, asking)
	id := s.register()
	person := s.tokens(id).text("access_token")
	robot := s.issued(url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {"robot-secret"}}).text("access_token")
	for _, c := range []struct {
		presented string
		want      map[string]any
	}{
		{person, map[string]any{"active": true, "scope": "mcp", "client_id": id, "username": "alice@example.com", "sub": "alice"}},
		{robot, map[string]any{"active": true, "scope": "mcp", "client_id": robotID, "sub": robotID}},
	} {
		claims, err := s.verifier.Verify(t.Context(), c.presented)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(c.want, map[string]any{
			"token_type": "Bearer", "exp": float64(claims.Expires), "iat": float64(claims.IssuedAt),
			"aud": resource, "iss": issuer, "jti": claims.ID,
		})
		got := s.introspect(c.presented, "token_type_hint", "refresh_token")
		if got.StatusCode != http.StatusOK || !maps.Equal(got.fields, c.want) {
			t.Errorf("got %d %v, want %v", got.StatusCode, got.fields, c.want)
		}
		if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("headers are %v", got.Header)
		}
	}
}

func TestEveryOtherTokenIsNotActiveAndNothingElse(t *testing.T) {
	s := newSite(t, asking)
	id := s.register()
	good := s.tokens(id)
	revoked := s.tokens(id)
	s.revoke(id, revoked.text("refresh_token"))
	admin := s.issued(redemption(id, s.browser().code(authorization(id, "resource", issuer+"/admin", "scope", "admin")), "resource", "-"))
	access := good.text("access_token")
	parts := strings.Split(access, ".")
	for what, presented := range map[string]string{
		"revoked":                 revoked.text("access_token"),
		"a refresh token":         good.text("refresh_token"),
		"a revoked refresh token": revoked.text("refresh_token"),
		"a code":                  s.browser().code(authorization(id)),
		"for another resource":    admin.text("access_token"),
		"changed":                 parts[0] + "." + flip(parts[1]) + "." + parts[2],
		"another signature":       parts[0] + "." + parts[1] + "." + strings.Split(admin.text("access_token"), ".")[2],
		"no signature":            parts[0] + "." + parts[1] + ".",
		"without a key":           "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + ".",
		"with a line break":       access + "\n",
		"junk":                    "junk",
		"a static token":          "dev_token_12345",
		"a client id":             id,
		"longer than any token":   strings.Repeat("a.", 10000),
		"a key of this store":     "test/keys",
		"the secret of who asks":  askerPass,
		"bytes that are no text":  "\xff\xfe\x00",
	} {
		s.introspect(presented).inactive(t, what)
	}
	if got := s.introspect(admin.text("access_token"), "client_id", "admin-server", "client_secret", "admin-secret"); got.fields["active"] != true {
		t.Errorf("the server that it is for: %v", got.fields)
	}
	if got := s.introspect(access); got.fields["active"] != true {
		t.Errorf("a good one at the end: %v", got.fields)
	}
}

func TestATokenIsActiveUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, asking)
		access := s.tokens(s.register()).text("access_token")
		time.Sleep(time.Hour - time.Second)
		if got := s.introspect(access); got.fields["active"] != true {
			t.Errorf("before: %v", got.fields)
		}
		time.Sleep(time.Second)
		s.introspect(access).inactive(t, "afterwards")
	})
}

// The store knows of a revocation before the node that is asked does.
func TestWhatAnotherNodeHasRevokedIsNotActive(t *testing.T) {
	s := newSite(t, asking)
	access := s.tokens(s.register()).text("access_token")
	claims, err := s.verifier.Verify(t.Context(), access)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Inner().Put(t.Context(), "test/revoked/"+claims.GrantID, store.Record{Value: []byte{}}); err != nil {
		t.Fatal(err)
	}
	if !s.good(access) {
		t.Fatal("this node has heard of it, so the test shows nothing")
	}
	s.introspect(access).inactive(t, "revoked elsewhere")
}

// A client that another node has removed takes its tokens along, those of before.
func TestTokensOfClientsThatAnotherNodeHasRemovedAreNotActive(t *testing.T) {
	s := newSite(t, asking)
	id := s.register()
	access := s.tokens(id).text("access_token")
	elsewhere, err := token.OpenRevocations(t.Context(), s.store.Inner(), "test/", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.AddClient(t.Context(), id, time.Now().Add(-time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := s.introspect(access); got.fields["active"] != true {
		t.Errorf("a token of afterwards: %v", got.fields)
	}
	if err := elsewhere.AddClient(t.Context(), id, time.Time{}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if !s.good(access) {
		t.Fatal("this node has heard of it, so the test shows nothing")
	}
	s.introspect(access).inactive(t, "removed elsewhere")
}

func TestOnlyServersOfTheConfigurationMayAsk(t *testing.T) {
	s := newSite(t, asking)
	public := s.register()
	registered := s.program(request(http.MethodPost, "/register",
		`{"redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"client_secret_basic"}`))
	good := s.tokens(public).text("access_token")
	for _, presented := range []string{good, "junk"} {
		for _, c := range []struct {
			rule   string
			pairs  []string
			status int
			code   string
		}{
			{"nobody", []string{"client_id", "-", "client_secret", "-"}, 401, "invalid_client"},
			{"no secret", []string{"client_secret", "-"}, 401, "invalid_client"},
			{"a wrong secret", []string{"client_secret", "wrong"}, 401, "invalid_client"},
			{"somebody unknown", []string{"client_id", "mcp_unknown"}, 401, "invalid_client"},
			{"a public client", []string{"client_id", public, "client_secret", "-"}, 400, "unauthorized_client"},
			{"a client that registered itself", []string{"client_id", registered.text("client_id"), "client_secret", registered.text("client_secret")}, 400, "unauthorized_client"},
			{"another client of the configuration", []string{"client_id", robotID, "client_secret", "robot-secret"}, 400, "unauthorized_client"},
		} {
			t.Run(c.rule, func(t *testing.T) { s.introspect(presented, c.pairs...).refused(t, c.status, c.code) })
		}
	}
}

func TestAServerWithAKeyMayAsk(t *testing.T) {
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
		c.Clients = append(c.Clients, &client.Client{ID: askerID, Keys: keys, Introspects: []string{resource}})
	})
	form := url.Values{"token": {s.tokens(s.register()).text("access_token")}}
	for _, aud := range []string{issuer, issuer + "/token", issuer + "/introspect"} {
		if got := s.program(request(http.MethodPost, "/introspect", key.assert(form, askerID, map[string]any{"aud": aud}))); got.fields["active"] != true {
			t.Errorf("an assertion for %s: %d %v", aud, got.StatusCode, got.fields)
		}
	}
}

func TestARequestToIntrospectIsRefusedLikeATokenRequest(t *testing.T) {
	s := newSite(t, asking)
	access := s.tokens(s.register()).text("access_token")
	form := url.Values{"client_id": {askerID}, "client_secret": {askerPass}}
	s.introspect(access, "token", "-").refused(t, 400, "invalid_request")
	s.introspect("").refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/introspect", repeated(with(maps.Clone(form), "token", access), "token"))).refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/introspect?token="+access, form)).refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/introspect", "{}")).refused(t, 400, "invalid_request")
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodOptions, http.MethodDelete} {
		got := s.program(request(method, "/introspect?token="+access, nil))
		got.refused(t, 405, "invalid_request")
		if got.Header.Get("Allow") != "POST" || got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: headers are %v", method, got.Header)
		}
	}
	// Guesses of a secret count together, wherever they are made.
	for range 20 {
		s.introspect(access, "client_secret", "guess").refused(t, 401, "invalid_client")
	}
	s.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {askerID}, "client_secret": {askerPass}}).refused(t, 429, "temporarily_unavailable")
}

func TestWhileTheStoreIsDownNothingIsActive(t *testing.T) {
	s := newSite(t, asking)
	access := s.tokens(s.register()).text("access_token")
	s.store.FailMethods(storetest.Before)
	got := s.introspect(access)
	got.refused(t, 503, "temporarily_unavailable")
	if got.Header.Get("Retry-After") == "" {
		t.Error("the answer does not say when to come back")
	}
	s.store.Heal()
	if got := s.introspect(access); got.fields["active"] != true {
		t.Errorf("afterwards: %v", got.fields)
	}
}

func TestIntrospectionIsThereForThoseOfTheConfigurationOnly(t *testing.T) {
	for _, on := range []bool{false, true} {
		s := newSite(t, func(c *authserver.Config) {
			if on {
				asking(c)
			}
		})
		if _, there := s.Endpoint("/introspect"); there != on {
			t.Errorf("on is %v, and that the endpoint is there is %v", on, there)
		}
		var m oauth.AuthorizationServerMetadata
		if err := json.NewDecoder(s.serve(request(http.MethodGet, oauth.WellKnownServer, nil)).Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		published := m.IntrospectionEndpoint == issuer+"/introspect" &&
			slices.Equal(m.IntrospectionEndpointAuthMethodsSupported, []string{"client_secret_post", "client_secret_basic", "private_key_jwt"}) &&
			slices.Equal(m.IntrospectionEndpointAuthSigningAlgValues, assertion.AlgorithmNames())
		if published != on || !on && (m.IntrospectionEndpointAuthMethodsSupported != nil || m.IntrospectionEndpointAuthSigningAlgValues != nil) {
			t.Errorf("on is %v, and the metadata says %+v", on, m)
		}
	}
}
