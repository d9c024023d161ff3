package authserver_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// counted is a site that counts.
type counted struct {
	*site
	metrics *metrics.Metrics
	seen    metricstest.Values
}

func newCounted(t *testing.T, change ...func(*authserver.Config)) *counted {
	t.Helper()
	m := metrics.New()
	c := &counted{metrics: m, seen: metricstest.Read(t, m)}
	c.site = newSite(t, append(change, func(cfg *authserver.Config) { cfg.Metrics = m })...)
	return c
}

// want checks what has been counted since the last look.
func (c *counted) want(what string, want metricstest.Values) {
	c.t.Helper()
	now := metricstest.Read(c.t, c.metrics)
	if diff := cmp.Diff(want, now.Since(c.seen)); diff != "" {
		c.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	c.seen = now
}

const (
	started = "authorizations_total outcome=started"
	allowed = "authorizations_total outcome=allowed"
	denied  = "authorizations_total outcome=denied"
	expired = "authorizations_total outcome=expired"
	failed  = "authorizations_total outcome=failed"

	local = "logins_total provider=local result="
	acme  = "logins_total provider=acme result="
)

func tokenError(grantType, code string) string {
	return "token_request_errors_total error=" + code + " grant_type=" + grantType
}

func TestAuthorizationsAndTokensAreCounted(t *testing.T) {
	c := newCounted(t)
	id := c.register()
	c.want("a registration", metricstest.Values{"registrations_total method=dynamic result=ok": 1})
	b := c.browser()
	login := b.get("/authorize?" + authorization(id).Encode())
	c.want("a request", metricstest.Values{started: 1})
	login.signIn("alice", "wrong")
	consent := login.signIn("alice", password)
	c.want("two sign-ins", metricstest.Values{local + "failed": 1, local + "ok": 1})
	code := consent.submit("decision", "allow").handedOff().Get("code")
	first := c.issued(redemption(id, code))
	c.want("consent and code", metricstest.Values{allowed: 1, "tokens_issued_total grant_type=authorization_code": 1})
	second := c.issued(renewal(id, first.text("refresh_token")))
	c.issued(renewal(id, first.text("refresh_token")))
	c.want("a race for a refresh token", metricstest.Values{"tokens_issued_total grant_type=refresh_token": 2})
	c.issued(renewal(id, second.text("refresh_token")))
	c.token(renewal(id, first.text("refresh_token")))
	c.want("a refresh token that is too old", metricstest.Values{
		"tokens_issued_total grant_type=refresh_token": 1, tokenError("refresh_token", "invalid_grant"): 1,
		"refresh_reuse_detected_total": 1, "revocations_total by=reuse": 1,
	})
	c.token(renewal(id, first.text("refresh_token")))
	c.want("and again", metricstest.Values{tokenError("refresh_token", "invalid_grant"): 1})

	code = b.get("/authorize?"+authorization(id).Encode()).submit("decision", "allow").handedOff().Get("code")
	c.issued(redemption(id, code))
	c.token(redemption(id, code))
	c.want("a replayed code", metricstest.Values{
		started: 1, allowed: 1, "tokens_issued_total grant_type=authorization_code": 1,
		tokenError("authorization_code", "invalid_grant"): 1, "revocations_total by=reuse": 1,
	})
	b.get("/authorize?"+authorization(id).Encode()).submit("decision", "deny")
	c.want("a denial", metricstest.Values{started: 1, denied: 1})
}

func TestRefusedTokenRequestsAreCounted(t *testing.T) {
	c := newCounted(t)
	for _, tc := range []struct {
		values url.Values
		want   string
	}{
		{url.Values{}, tokenError("other", "invalid_request")},
		{url.Values{"grant_type": {"made-up-" + password}}, tokenError("other", "unsupported_grant_type")},
		{url.Values{"grant_type": {"authorization_code"}, "client_id": {"nobody"}}, tokenError("authorization_code", "invalid_client")},
		{renewal("", "junk"), tokenError("refresh_token", "invalid_grant")},
	} {
		c.token(tc.values)
		c.want(fmt.Sprint(tc.values), metricstest.Values{tc.want: 1})
	}
	for range 21 {
		c.token(url.Values{"grant_type": {"client_credentials"}}, robotID, "guess")
	}
	c.want("guesses of a secret", metricstest.Values{
		tokenError("client_credentials", "invalid_client"): 20, tokenError("client_credentials", "temporarily_unavailable"): 1,
		"rate_limited_total endpoint=client_secret": 1,
	})
}

func TestRevocationsAreCounted(t *testing.T) {
	c := newCounted(t)
	id := c.register()
	tokens, others := c.tokens(id), c.tokens(id)
	robot := c.issued(url.Values{"grant_type": {"client_credentials"}}, robotID, "robot-secret")
	b := c.browser()
	b.consent(authorization(id)).submit("decision", "allow")
	c.seen = metricstest.Read(t, c.metrics)

	c.revoke(id, tokens.text("refresh_token"))
	c.revoke(id, tokens.text("refresh_token"))
	c.revoke(id, tokens.text("access_token"))
	c.want("by a refresh token", metricstest.Values{"revocations_total by=client": 1})
	c.revoke(id, others.text("access_token"))
	c.revoke(id, others.text("access_token"))
	c.want("by an access token", metricstest.Values{"revocations_total by=client": 1})
	c.revoke(robotID, robot.text("access_token"), "client_secret", "robot-secret")
	c.want("of a service account", metricstest.Values{"revocations_total by=client": 1})
	c.revoke(id, "junk")
	c.revoke(webID, others.text("refresh_token"), "client_secret", webPass)
	c.want("of what is not the client's", metricstest.Values{})
}

func TestEndsOfAuthorizationsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounted(t)
		id := c.register()
		b := c.browser()
		consent := b.consent(authorization(id))
		c.seen = metricstest.Read(t, c.metrics)
		b.get("/authorize?" + authorization("mcp_nobody").Encode())
		b.get("/authorize?" + authorization(id, "code_challenge", "-").Encode())
		b.get("/authorize?" + authorization(id, "redirect_uri", "https://evil.example/").Encode())
		c.want("requests that are refused", metricstest.Values{failed: 3})
		b.get("/authorize?" + authorization(id, "prompt", "none").Encode())
		c.want("a request that allows no page", metricstest.Values{started: 1, failed: 1})
		time.Sleep(time.Hour)
		consent.submit("decision", "allow")
		c.want("an answer that comes too late", metricstest.Values{expired: 1})
		c.store.FailMethods(storetest.Before)
		b.get("/authorize?" + authorization(id).Encode())
		c.want("a request while the store is down", metricstest.Values{failed: 1})
	})
}

func TestSignInsAtProvidersAreCounted(t *testing.T) {
	for _, tc := range []struct {
		result string
		fault  error
		more   metricstest.Values
	}{
		{"ok", nil, nil},
		{"failed", errors.New("the ID token is refused"), nil},
		{"error", login.ErrUnreachable, nil},
		{"cancelled", login.ErrCancelled, metricstest.Values{denied: 1}},
	} {
		t.Run(tc.result, func(t *testing.T) {
			idp := newProvider()
			c := newCounted(t, withProvider(idp))
			id := c.register()
			b := c.browser()
			state := b.get("/authorize?" + authorization(id).Encode()).away()
			c.seen = metricstest.Read(t, c.metrics)
			idp.fault = tc.fault
			b.get(back(state))
			want := metricstest.Values{acme + tc.result: 1}
			maps.Copy(want, tc.more)
			c.want("the way back", want)
		})
	}
	idp := newProvider()
	c := newCounted(t, withProvider(idp), func(cfg *authserver.Config) { cfg.Allow = &policy.Allow{Groups: []string{"others"}} })
	b := c.browser()
	state := b.get("/authorize?" + authorization(c.register()).Encode()).away()
	c.seen = metricstest.Read(t, c.metrics)
	b.get(back(state))
	c.want("somebody who may not", metricstest.Values{acme + "not_allowed": 1})
}

func TestHeldBackSignInsAreCounted(t *testing.T) {
	c := newCounted(t, func(cfg *authserver.Config) { cfg.LoginMax = 2 })
	b := c.browser()
	page := b.get("/authorize?" + authorization(c.register()).Encode())
	c.seen = metricstest.Read(t, c.metrics)
	for range 3 {
		page.signIn("alice", "wrong")
	}
	c.want("three guesses", metricstest.Values{local + "failed": 2, local + "limited": 1, "rate_limited_total endpoint=login": 1})
}

func TestRefusedRegistrationsAreCounted(t *testing.T) {
	c := newCounted(t)
	c.program(request(http.MethodPost, "/register", `{"redirect_uris":["http://evil.example/"]}`))
	c.program(request(http.MethodPost, "/register", `{"grant_types":["client_credentials"]}`))
	c.want("refusals", metricstest.Values{"registrations_total method=dynamic result=refused": 2})
	c.store.FailMethods(storetest.Before)
	c.program(request(http.MethodPost, "/register", `{"redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"none"}`))
	c.want("while the store is down", metricstest.Values{"registrations_total method=dynamic result=error": 1})
}

func TestFetchedDocumentsAreCounted(t *testing.T) {
	m := metrics.New()
	s, d, _ := newDocumentSite(t, nil, func(cfg *authserver.Config) { cfg.Metrics = m })
	b := s.browser()
	request := func(id string) { b.get("/authorize?" + authorization(id).Encode()) }
	check := func(what string, ok, refused float64) {
		t.Helper()
		const method = "registrations_total method=document result="
		if got := metricstest.Read(t, m); got[method+"ok"] != ok || got[method+"refused"] != refused {
			t.Errorf("%s: %v good ones and %v others, want %v and %v", what, got[method+"ok"], got[method+"refused"], ok, refused)
		}
	}
	request(documentID)
	request(documentID)
	check("a document that was asked for twice", 1, 0)
	d.setDown(true)
	request("https://other.example.net/client.json")
	check("one that cannot be fetched", 1, 1)
	d.setDown(false)
	b.consent(authorization(documentID)).submit("decision", "allow")
	s.forget(d)
	request(documentID)
	check("one that somebody has allowed something", 1, 1)
}
