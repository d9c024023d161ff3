package caddymodule

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// An upstream that is down has the request go to what serves the page of the error.
// That is another server, and nothing that proves something is for it.
func TestWhatIsForTheUpstreamIsNotForPagesOfErrors(t *testing.T) {
	m := newMachine(t)
	address, last := upstream(t)
	m.mustLoad("", `http://localhost:%[1]d {
	mcp_auth localhost:%[4]d {
		store memory
		`+robot+`
		forward X-Mcp-User {http.auth.user.id}
		forward X-Legacy-Key key-of-the-upstream
		forward_assertion
		upstream_credential secret-of-the-upstream
		resource /a
		resource /b {
			upstream_credential X-Api-Key key-of-the-other
		}
	}
	handle_errors {
		reverse_proxy `+address+`
	}
}`)
	origin := m.url("localhost", 1)
	for _, path := range []string{"/a", "/b"} {
		token := m.robotToken(origin, origin+path)
		if got := m.get(origin+path, token); got.status != http.StatusOK {
			t.Fatalf("%s: the page of the error is answered with %d", path, got.status)
		}
		for name, values := range last() {
			value := strings.Join(values, " ")
			told := []string{"Authorization", "X-Api-Key", "X-Legacy-Key", "X-Mcp-Assertion", "X-Mcp-User"}
			if slices.Contains(told, name) || strings.Contains(value, token) {
				t.Errorf("%s: the server of the page gets %s: %s", path, name, value)
			}
		}
	}
}

// An upstream has an assertion about each caller, for its own audience and signed by
// the keys of access tokens. It is good for nothing at the gateway.
func TestAnUpstreamCanDoNothingHereWithAnAssertion(t *testing.T) {
	m := newMachine(t)
	address, last := upstream(t)
	m.mustLoad("", `http://localhost:%[1]d {
	mcp_auth `+address+` {
		store memory
		client robot {
			secret robot-secret-1234
			introspect
			grant_types client_credentials refresh_token urn:ietf:params:oauth:grant-type:jwt-bearer
		}
		login oidc acme {
			issuer https://id.example.com
			client_id x
			identity_assertions
		}
		forward_assertion
	}
}`)
	origin := m.url("localhost", 1)
	token := m.robotToken(origin, "")
	m.status("a token", origin+"/mcp", token, http.StatusOK)
	assertion := last().Get("X-Mcp-Assertion")
	m.status("an assertion", origin+"/mcp", assertion, http.StatusUnauthorized)
	ask := func(path string, form url.Values) reply {
		r := m.request(origin+path, "", form)
		r.SetBasicAuth("robot", "robot-secret-1234")
		return m.do(r)
	}
	if got := ask("/introspect", url.Values{"token": {token}}); got.json(t, "active") != true {
		t.Errorf("a token: %d %s", got.status, got.body)
	}
	if got := ask("/introspect", url.Values{"token": {assertion}}); got.json(t, "active") != false {
		t.Errorf("an assertion: %d %s", got.status, got.body)
	}
	for _, form := range []url.Values{
		{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}},
		{"grant_type": {"refresh_token"}, "refresh_token": {assertion}},
	} {
		if got := ask("/token", form); got.status != http.StatusBadRequest || got.json(t, "access_token") != nil {
			t.Errorf("%s: %d %s", form.Get("grant_type"), got.status, got.body)
		}
	}
	r := m.request(origin+"/token", "", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"robot"}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	})
	if got := m.do(r); got.status != http.StatusUnauthorized && got.status != http.StatusBadRequest {
		t.Errorf("as a proof of the client: %d %s", got.status, got.body)
	}
}

func TestTheValueOfACredential(t *testing.T) {
	for _, tt := range []struct {
		c          Credential
		name, want string
	}{
		{Credential{}, "Authorization", "Bearer x"},
		{Credential{Header: "x-api-key"}, "X-Api-Key", "x"},
		{Credential{Header: "authorization"}, "Authorization", "x"}, // perhaps "Basic …"
		{Credential{Login: "acme"}, "Authorization", "Bearer x"},
		{Credential{Login: "acme", Header: "authorization"}, "Authorization", "Bearer x"},
		{Credential{Login: "acme", Header: "X-Access-Token"}, "X-Access-Token", "x"},
	} {
		if name, got := tt.c.headerName(), tt.c.headerValue("x"); name != tt.name || got != tt.want {
			t.Errorf("%+v: %s: %s, want %s: %s", tt.c, name, got, tt.name, tt.want)
		}
	}
}
