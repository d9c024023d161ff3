package authserver_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// revoke sends a revocation request.
func (s *site) revoke(clientID, presented string, pairs ...string) answer {
	s.t.Helper()
	return s.program(request(http.MethodPost, "/revoke", with(url.Values{}, append([]string{"client_id", clientID, "token", presented}, pairs...)...)))
}

func (s *site) good(access string) bool {
	s.t.Helper()
	_, err := s.verifier.Verify(s.t.Context(), access)
	if err != nil && !errors.Is(err, token.ErrRevoked) {
		s.t.Error(err)
	}
	return err == nil
}

func TestRevokingEitherTokenEndsTheGrant(t *testing.T) {
	for _, name := range []string{"access_token", "refresh_token"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			id := s.register()
			a, untouched := s.tokens(id), s.tokens(id)
			if got := s.revoke(id, a.text(name), "token_type_hint", "nonsense"); got.StatusCode != http.StatusOK || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("revocation: %d %v", got.StatusCode, got.Header)
			}
			if s.good(a.text("access_token")) {
				t.Error("the access token is still good")
			}
			s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
			if !s.good(untouched.text("access_token")) {
				t.Error("another grant of the same client is gone")
			}
			s.issued(renewal(id, untouched.text("refresh_token")))
		})
	}
}

func TestATokenOfTheClientItselfCanBeRevoked(t *testing.T) {
	s := newSite(t)
	values := url.Values{"grant_type": {"client_credentials"}}
	a, untouched := s.issued(values, robotID, "robot-secret"), s.issued(values, robotID, "robot-secret")
	s.revoke(robotID, a.text("access_token"), "client_secret", "wrong").refused(t, 401, "invalid_client")
	if !s.good(a.text("access_token")) {
		t.Fatal("revoked without a secret")
	}
	s.revoke(robotID, a.text("access_token"), "client_secret", "robot-secret")
	if s.good(a.text("access_token")) || !s.good(untouched.text("access_token")) {
		t.Error("the wrong token was revoked")
	}
}

func TestRevocationTellsNothingAndNeverCrossesClients(t *testing.T) {
	s := newSite(t)
	id, other := s.register(), s.register()
	a := s.tokens(id)
	for _, c := range []struct{ rule, presented string }{
		{"another client's access token", a.text("access_token")},
		{"another client's refresh token", a.text("refresh_token")},
		{"junk", "junk"},
		{"a refresh token that was changed", flip(a.text("refresh_token"))},
		{"a token that was changed", flip(a.text("access_token"))},
		{"something long", strings.Repeat("a.", 10000)},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got := s.revoke(other, c.presented)
			if got.StatusCode != http.StatusOK || len(got.fields) != 0 {
				t.Errorf("got %d %v", got.StatusCode, got.fields)
			}
		})
	}
	if !s.good(a.text("access_token")) {
		t.Error("the access token was revoked")
	}
	s.issued(renewal(id, a.text("refresh_token")))
}

func TestARevocationRequestIsRefusedLikeATokenRequest(t *testing.T) {
	s := newSite(t)
	id := s.register()
	presented := s.tokens(id).text("access_token")
	s.revoke(id, "-").refused(t, 400, "invalid_request")
	s.revoke("-", presented).refused(t, 401, "invalid_client")
	s.revoke("mcp_unknown", presented).refused(t, 401, "invalid_client")
	s.revoke(id, presented, "client_secret", "guess").refused(t, 401, "invalid_client")
	s.program(request(http.MethodPost, "/revoke", repeated(url.Values{"client_id": {id}, "token": {presented}}, "token"))).refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/revoke?token="+presented, url.Values{"client_id": {id}})).refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/revoke", "{}")).refused(t, 400, "invalid_request")
	s.program(request(http.MethodGet, "/revoke", nil)).refused(t, 405, "invalid_request")
	if !s.good(presented) {
		t.Error("a refused request revoked the token")
	}
}

// A client that got 503 asks again, and 200 means that all nodes will know.
func TestAFailedRevocationCanBeRepeatedUntilAllNodesKnow(t *testing.T) {
	for _, name := range []string{"access_token", "refresh_token"} {
		run := func(n int, when storetest.Moment) []storetest.Call {
			s := newSite(t)
			id := s.register()
			a := s.tokens(id)
			before := len(s.store.Calls())
			s.store.FailCall(n, when)
			first := s.revoke(id, a.text(name))
			calls := s.store.Calls()[before:]
			switch known := s.revocations() == 1; {
			case first.StatusCode == http.StatusOK && known:
			case first.StatusCode == http.StatusServiceUnavailable && first.Header.Get("Retry-After") != "":
			default:
				t.Errorf("%s, call %d fails %s: got %d, and that others know of it is %v", name, n, when, first.StatusCode, known)
			}
			if got := s.revoke(id, a.text(name)); got.StatusCode != http.StatusOK || s.revocations() != 1 || s.good(a.text("access_token")) {
				t.Errorf("%s, call %d fails %s: repeated, got %d with %d revocations", name, n, when, got.StatusCode, s.revocations())
			}
			return calls
		}
		for n, when := range faults(t, run(0, storetest.Before)) {
			run(n, when)
		}
	}
}

// revocations counts what the store tells other nodes.
func (s *site) revocations() int {
	s.t.Helper()
	n := 0
	for _, err := range s.store.Inner().Keys(s.t.Context(), "test/revoked/") {
		if err != nil {
			s.t.Fatal(err)
		}
		n++
	}
	return n
}
