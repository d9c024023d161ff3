package authserver_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// registration is a client that holds a registration access token.
type registration struct {
	*site
	id, token, uri, secret string
}

// registered makes one.
func (s *site) registered(body string, header ...string) *registration {
	s.t.Helper()
	r := request(http.MethodPost, "/register", body)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a := s.program(r)
	out := &registration{
		site: s, id: a.text("client_id"), token: a.text("registration_access_token"), uri: a.text("registration_client_uri"),
		secret: a.text("client_secret"),
	}
	if a.StatusCode != http.StatusCreated || len(out.token) < 26 || out.uri != issuer+"/register/"+out.id {
		s.t.Fatalf("registering: %d %v", a.StatusCode, a.fields)
	}
	return out
}

// manage sends a request to the client's address.
func (r *registration) manage(method, body, token string) answer {
	r.t.Helper()
	var sent any
	if body != "" {
		sent = body
	}
	req := request(method, strings.TrimPrefix(r.uri, issuer), sent)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	a := answer{Response: r.serve(req)}
	if err := json.NewDecoder(a.Body).Decode(&a.fields); err != nil && a.StatusCode != http.StatusNoContent {
		r.t.Fatalf("%s: %d with a body that is no JSON: %v", method, a.StatusCode, err)
	}
	return a
}

// update is a body that replaces the metadata.
func (r *registration) update(change map[string]any) string {
	r.t.Helper()
	fields := map[string]any{"client_id": r.id, "redirect_uris": []string{callback}, "client_name": "New name"}
	maps.Copy(fields, change)
	data, err := json.Marshal(fields)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

const secretClientBody = `{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"client_secret_post"}`

func TestARegistrationIsReadReplacedAndEnded(t *testing.T) {
	s := newSite(t)
	r := s.registered(inspectorBody)
	read := r.manage(http.MethodGet, "", r.token)
	if read.StatusCode != http.StatusOK || read.text("client_name") != "MCP Inspector" || read.text("client_id") != r.id ||
		read.text("registration_access_token") != r.token || read.text("registration_client_uri") != r.uri {
		t.Errorf("reading: %d %v", read.StatusCode, read.fields)
	}
	replaced := r.manage(http.MethodPut, r.update(map[string]any{"redirect_uris": []string{"https://new.example/cb"}}), r.token)
	if replaced.StatusCode != http.StatusOK || replaced.text("client_name") != "New name" || replaced.text("software_id") != "" ||
		replaced.text("registration_access_token") != r.token || replaced.fields["client_secret"] != nil {
		t.Errorf("replacing: %d %v", replaced.StatusCode, replaced.fields)
	}
	s.browser().consent(authorization(r.id, "redirect_uri", "https://new.example/cb"))
	if p := s.browser().get("/authorize?" + authorization(r.id).Encode()); p.status != http.StatusBadRequest {
		t.Errorf("a redirect URI of before: %d", p.status)
	}
	if ended := r.manage(http.MethodDelete, "", r.token); ended.StatusCode != http.StatusNoContent {
		t.Errorf("ending: %d %v", ended.StatusCode, ended.fields)
	}
	r.manage(http.MethodGet, "", r.token).refused(t, 401, "invalid_token")
	for _, a := range []answer{read, replaced} {
		if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("headers: %v", a.Header)
		}
	}
}

// Whoever has no token learns neither whether there is the client nor what is wrong.
func TestARegistrationIsManagedWithItsTokenOnly(t *testing.T) {
	s := newSite(t)
	r, other := s.registered(inspectorBody), s.registered(inspectorBody)
	unknown := &registration{site: s, uri: issuer + "/register/mcp_" + strings.Repeat("A", 26)}
	odd := &registration{site: s, uri: issuer + "/register/x/y"}
	configured := &registration{site: s, uri: issuer + "/register/" + webID}
	var texts []string
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		for _, tc := range []struct {
			rule  string
			of    *registration
			token string
		}{
			{"no token", r, ""},
			{"the token of another client", r, other.token},
			{"the token in another case", r, strings.ToLower(r.token)},
			{"a part of the token", r, r.token[1:]},
			{"an initial access token", r, "initial-access-token"},
			{"an unknown client", unknown, r.token},
			{"no id at all", odd, r.token},
			{"a client of the configuration", configured, webPass},
		} {
			a := tc.of.manage(method, "not even JSON", tc.token)
			a.refused(t, 401, "invalid_token")
			challenge := `Bearer error="invalid_token"`
			if tc.token == "" {
				challenge = `Bearer realm="mcp.example.com"`
			}
			if got := a.Header.Get("WWW-Authenticate"); got != challenge {
				t.Errorf("%s, %s: the challenge is %q", method, tc.rule, got)
			}
			texts = append(texts, a.text("error_description"))
		}
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("the answers differ: %q and %q", text, texts[0])
		}
	}
	if got := r.manage(http.MethodGet, "", r.token); got.StatusCode != http.StatusOK {
		t.Errorf("the client is gone: %d", got.StatusCode)
	}
}

func TestAReplacementIsHeldToTheRulesOfRegistrations(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.Registration = client.HostPolicy{Hosts: []string{"localhost"}} })
	r := s.registered(secretClientBody)
	for _, tc := range []struct {
		rule   string
		change map[string]any
		code   string
	}{
		{"no id", map[string]any{"client_id": nil}, "invalid_client_metadata"},
		{"another id", map[string]any{"client_id": "mcp_x"}, "invalid_client_metadata"},
		{"another secret", map[string]any{"client_secret": "of my own"}, "invalid_client_metadata"},
		{"the token", map[string]any{"registration_access_token": r.token}, "invalid_client_metadata"},
		{"no redirect URI", map[string]any{"redirect_uris": nil}, "invalid_redirect_uri"},
		{"script", map[string]any{"redirect_uris": []string{"javascript:alert(1)"}}, "invalid_redirect_uri"},
		{"a host that may not register", map[string]any{"redirect_uris": []string{"https://evil.example/cb"}}, "invalid_redirect_uri"},
		{"a service account", map[string]any{"grant_types": []string{"authorization_code", "client_credentials"}, "token_endpoint_auth_method": "client_secret_post"}, "invalid_client_metadata"},
		{"an unknown method", map[string]any{"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			r.manage(http.MethodPut, r.update(tc.change), r.token).refused(t, 400, tc.code)
		})
	}
	long := r.manage(http.MethodPut, r.update(map[string]any{"x": strings.Repeat("x", 40<<10)}), r.token)
	long.refused(t, 400, "invalid_client_metadata")
	if got := r.manage(http.MethodGet, "", r.token); got.text("client_name") != "" || got.text("token_endpoint_auth_method") != "client_secret_post" {
		t.Errorf("a refused request has changed something: %v", got.fields)
	}
	if got := r.manage(http.MethodPut, r.update(map[string]any{"client_secret": r.secret, "token_endpoint_auth_method": "client_secret_basic"}), r.token); got.StatusCode != http.StatusOK || got.fields["client_secret"] != nil {
		t.Errorf("with the right secret: %d %v", got.StatusCode, got.fields)
	}
}

func TestReplacingIsOffWithRegistrationAndEndingIsNot(t *testing.T) {
	s := newSite(t)
	r := s.registered(inspectorBody)
	cfg := defaultConfig()
	cfg.Password, cfg.Log, cfg.Registration.Off = s.users, nopLog, true
	s.open(cfg)
	r.manage(http.MethodPut, r.update(nil), r.token).refused(t, 403, "access_denied")
	if got := r.manage(http.MethodGet, "", r.token); got.StatusCode != http.StatusOK {
		t.Errorf("reading: %d", got.StatusCode)
	}
	if got := r.manage(http.MethodDelete, "", r.token); got.StatusCode != http.StatusNoContent {
		t.Errorf("ending: %d", got.StatusCode)
	}
}

func TestAClientThatBeginsToAuthenticateGetsASecret(t *testing.T) {
	s := newSite(t)
	r := s.registered(inspectorBody)
	tokens := s.tokens(r.id)
	got := r.manage(http.MethodPut, r.update(map[string]any{"token_endpoint_auth_method": "client_secret_post"}), r.token)
	secret := got.text("client_secret")
	if got.StatusCode != http.StatusOK || secret == "" || got.fields["client_secret_expires_at"] != 0.0 {
		t.Fatalf("replacing: %d %v", got.StatusCode, got.fields)
	}
	s.token(renewal(r.id, tokens.text("refresh_token"))).refused(t, 401, "invalid_client")
	tokens = s.issued(renewal(r.id, tokens.text("refresh_token"), "client_secret", secret))
	// And back again: the secret is of no use any more.
	if got := r.manage(http.MethodPut, r.update(map[string]any{"token_endpoint_auth_method": "none"}), r.token); got.StatusCode != http.StatusOK {
		t.Fatalf("replacing: %d %v", got.StatusCode, got.fields)
	}
	s.token(renewal(r.id, tokens.text("refresh_token"), "client_secret", secret)).refused(t, 401, "invalid_client")
	s.issued(renewal(r.id, tokens.text("refresh_token")))
}

func TestTheEndOfAClientEndsItsTokens(t *testing.T) {
	s := newSite(t)
	person := s.registered(inspectorBody)
	machine := s.registered(`{"grant_types":["client_credentials"]}`, "Authorization", "Bearer initial-access-token")
	untouched := s.tokens(s.register())
	tokens := s.tokens(person.id)
	ofMachine := s.issued(url.Values{"grant_type": {"client_credentials"}}, machine.id, machine.secret)
	for _, r := range []*registration{person, machine} {
		if got := r.manage(http.MethodDelete, "", r.token); got.StatusCode != http.StatusNoContent {
			t.Fatalf("ending: %d %v", got.StatusCode, got.fields)
		}
	}
	if s.good(tokens.text("access_token")) || s.good(ofMachine.text("access_token")) {
		t.Error("an access token of a client that is gone is still good")
	}
	if !s.good(untouched.text("access_token")) {
		t.Error("an access token of another client is gone")
	}
	s.token(renewal(person.id, tokens.text("refresh_token"))).refused(t, 401, "invalid_client")
	s.token(url.Values{"grant_type": {"client_credentials"}}, machine.id, machine.secret).refused(t, 401, "invalid_client")
	if n := s.revocations(); n != 2 {
		t.Errorf("%d revocations, want one for each client", n)
	}
}

// Strangers can register and leave as often as they like.
func TestClientsThatNobodyHasUsedLeaveNothingBehind(t *testing.T) {
	s := newSite(t)
	for range 20 {
		r := s.registered(inspectorBody)
		s.browser().consent(authorization(r.id)) // which nobody answers
		if got := r.manage(http.MethodDelete, "", r.token); got.StatusCode != http.StatusNoContent {
			t.Fatalf("ending: %d %v", got.StatusCode, got.fields)
		}
	}
	for key, err := range s.store.Inner().Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(key, "test/session/") && key != "test/keys" {
			t.Errorf("%s is left", key)
		}
	}
}

// A service account whose first use nobody knows of gets no token that its end
// would leave behind.
func TestTheFirstTokenOfAServiceAccountIsKnown(t *testing.T) {
	s := newSite(t)
	r := s.registered(`{"grant_types":["client_credentials"]}`, "Authorization", "Bearer initial-access-token")
	values := url.Values{"grant_type": {"client_credentials"}}
	s.store.FailMethods(storetest.Before, storetest.Update)
	s.token(values, r.id, r.secret).refused(t, 503, "temporarily_unavailable")
	s.store.Heal()
	access := s.issued(values, r.id, r.secret).text("access_token")
	s.store.FailMethods(storetest.Before, storetest.Update)
	s.issued(values, r.id, r.secret)
	if got := r.manage(http.MethodDelete, "", r.token); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("ending while the store fails: %d", got.StatusCode)
	}
	s.store.Heal()
	if got := r.manage(http.MethodDelete, "", r.token); got.StatusCode != http.StatusNoContent {
		t.Errorf("ending: %d", got.StatusCode)
	}
	if s.good(access) || s.revocations() != 1 {
		t.Errorf("good: %v, with %d revocations", s.good(access), s.revocations())
	}
}

// A failure of the store is no refusal, and what was asked for can be asked for
// again.
func TestManagementSurvivesFaultsOfTheStore(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t)
		r := s.registered(inspectorBody)
		access := s.tokens(r.id).text("access_token")
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		steps := []func() answer{
			func() answer { return r.manage(http.MethodGet, "", r.token) },
			func() answer { return r.manage(http.MethodPut, r.update(nil), r.token) },
			func() answer { return r.manage(http.MethodDelete, "", r.token) },
		}
		for i, step := range steps {
			a := step()
			if a.StatusCode == http.StatusServiceUnavailable {
				if a.Header.Get("Retry-After") == "" || a.Header.Get("WWW-Authenticate") != "" {
					t.Errorf("call %d fails %s: %v", n, when, a.Header)
				}
				// The answer to the end may have been all that failed.
				if a = step(); i == 2 && a.StatusCode == http.StatusUnauthorized {
					continue
				}
			}
			if a.StatusCode >= 300 {
				t.Errorf("call %d fails %s: step %d answers %d", n, when, i, a.StatusCode)
			}
		}
		calls := s.store.Calls()[before:]
		if s.good(access) || s.revocations() != 1 {
			t.Errorf("call %d fails %s: good: %v, with %d revocations", n, when, s.good(access), s.revocations())
		}
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}

func TestBrowsersMayManageRegistrations(t *testing.T) {
	s := newSite(t)
	r := s.registered(inspectorBody)
	preflight := request(http.MethodOptions, strings.TrimPrefix(r.uri, issuer), nil)
	preflight.Header.Set("Origin", "https://app.example")
	preflight.Header.Set("Access-Control-Request-Method", http.MethodPut)
	resp := s.serve(preflight)
	if resp.StatusCode != http.StatusNoContent || !strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), "PUT") {
		t.Errorf("the preflight: %d %v", resp.StatusCode, resp.Header)
	}
	r.manage(http.MethodPost, "{}", r.token).refused(t, 405, "invalid_request")
}
