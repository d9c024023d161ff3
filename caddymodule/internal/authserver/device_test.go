package authserver_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestADeviceGoesTheWholeWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		id := s.registerDevice()
		d := s.startDevice(id)
		s.token(polling(d)).refused(t, 400, "authorization_pending")

		b := s.browser()
		p := b.enter(strings.ToLower(strings.ReplaceAll(d.userCode, "-", " ")))
		if !p.has("/login") || !strings.Contains(p.body, "Headless") {
			t.Fatalf("the sign-in page: %d\n%s", p.status, p.body)
		}
		p = p.signIn("alice", password)
		for _, text := range []string{"Headless", "Unconfirmed app on a device", d.userCode, "Read bugs", "alice@example.com", resource, "Whoever sent you this code gets the access."} {
			if !strings.Contains(p.body, text) {
				t.Errorf("the consent page does not show %q", text)
			}
		}
		if p = p.decide("allow", "scope", "bugs:write"); p.status != http.StatusOK || p.heading() != "Allowed. Go back to your device" {
			t.Errorf("after the decision: %d %q", p.status, p.heading())
		}

		time.Sleep(5 * time.Second)
		a := s.issued(polling(d, "resource", resource))
		if a.text("scope") != "mcp bugs:write" {
			t.Errorf("the scope is %q", a.text("scope"))
		}
		claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
		if err != nil || claims.Subject != "alice" || claims.ClientID != id || claims.Audience != resource {
			t.Errorf("the token is about %+v, %v", claims, err)
		}
		a = s.issued(renewal(id, a.text("refresh_token")))
		p = b.get("/account")
		if !strings.Contains(p.body, "Headless") || !strings.Contains(p.body, "on a device") {
			t.Errorf("the account page does not list the device:\n%s", p.body)
		}
		p.browser.post("/account/revoke", p.form("/account/revoke").values)
		s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
	})
}

func TestPollsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		id, thief := s.registerDevice(), s.registerDevice()
		d := s.startDevice(id)
		s.token(polling(d, "client_id", "-")).refused(t, 401, "invalid_client")
		s.token(polling(d, "device_code", "-")).refused(t, 400, "invalid_request")
		s.token(polling(d, "device_code", "junk")).refused(t, 400, "invalid_grant")
		s.token(polling(d, "client_id", thief)).refused(t, 400, "invalid_grant")
		s.token(polling(d, "client_id", s.register())).refused(t, 400, "unauthorized_client")
		s.token(polling(d, "resource", issuer+"/admin")).refused(t, 400, "invalid_target")
		s.token(redemption(id, d.code)).refused(t, 400, "unauthorized_client")
		twice := polling(d)
		twice.Add("device_code", d.code)
		s.token(twice).refused(t, 400, "invalid_request")

		s.token(polling(d)).refused(t, 400, "authorization_pending")
		s.token(polling(d)).refused(t, 400, "slow_down")
		s.browser().deviceConsent(d).decide("allow")
		time.Sleep(10 * time.Second)
		s.token(polling(d, "client_id", thief)).refused(t, 400, "invalid_grant")
		first := s.issued(polling(d))

		// The answer was lost; later on it is a replay.
		time.Sleep(10 * time.Second)
		again := s.issued(polling(d))
		if again.text("refresh_token") != first.text("refresh_token") {
			t.Error("a repeated poll gets another refresh token")
		}
		time.Sleep(3 * time.Minute)
		s.token(polling(d)).refused(t, 400, "invalid_grant")
		s.token(renewal(id, first.text("refresh_token"))).refused(t, 400, "invalid_grant")
		if s.good(first.text("access_token")) {
			t.Error("the access token outlives the replay")
		}
		time.Sleep(7 * time.Minute)
		s.token(polling(d)).refused(t, 400, "expired_token")
	})
}

// A client with a metadata document may begin on a device, where no page has
// fetched its document before, and poll at a node that has never seen it.
func TestADeviceOfAClientWithADocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, docs, cfg := newDocumentSite(t, map[string]any{"grant_types": []string{"authorization_code", deviceGrant}}, withDevices)
		d := s.startDevice(documentID)
		s.forget(docs)
		s.open(cfg)
		s.token(polling(d)).refused(t, 400, "authorization_pending")
		p := s.browser().deviceConsent(d)
		if !strings.Contains(p.body, "An app on a device, named by") || !strings.Contains(p.body, "app.example.net") {
			t.Errorf("the page does not say who names the app:\n%s", p.body)
		}
		p.decide("allow")
		docs.setDown(true)
		s.forget(docs)
		s.open(cfg)
		time.Sleep(5 * time.Second)
		a := s.issued(polling(d))
		s.issued(renewal(documentID, a.text("refresh_token")))

		// Junk makes this server fetch nothing.
		docs.setDown(false)
		docs.put(t, "https://other.example.net/client.json", map[string]any{"grant_types": []string{deviceGrant}})
		s.token(polling(waiting{"https://other.example.net/client.json", "junk", ""})).refused(t, 401, "invalid_client")
	})
}

// Of devices at once with one code, one gets the tokens.
func TestParallelPollsHaveOneWinner(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	s.browser().deviceConsent(d).decide("allow")
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			a := s.token(polling(d))
			mu.Lock()
			defer mu.Unlock()
			got[a.text("error")]++
		})
	}
	all.Wait()
	if got[""] != 1 || got["slow_down"] != 19 {
		t.Errorf("answers %v", got)
	}
}

// A call to the store that fails is a 503 at each step of a device, and the step
// can be made again.
func TestAStoreFaultOnTheWayOfADevice(t *testing.T) {
	steps := []step{
		{"register", func(f *flow) *http.Response {
			a := f.program(request(http.MethodPost, "/register", `{"client_name":"Headless","grant_types":["`+deviceGrant+`"]}`))
			f.clientID = a.text("client_id")
			return a.Response
		}},
		{"ask for codes", func(f *flow) *http.Response {
			a := f.askDevice(f.clientID)
			f.code, f.userCode = a.text("device_code"), a.text("user_code")
			return a.Response
		}},
		{"open the page", func(f *flow) *http.Response { return f.opened("/device") }},
		{"enter the code", func(f *flow) *http.Response { return f.submitted("/device", "user_code", f.userCode) }},
		{"see the sign-in page", func(f *flow) *http.Response { return f.opened(f.page.header.Get("Location")) }},
		{"sign in", func(f *flow) *http.Response {
			return f.submitted("/login", "username", "alice", "password", password)
		}},
		{"see the consent page", func(f *flow) *http.Response { return f.opened(f.page.header.Get("Location")) }},
		{"allow", func(f *flow) *http.Response { return f.submitted("/device", "decision", "allow") }},
		{"poll", func(f *flow) *http.Response {
			time.Sleep(5 * time.Second)
			return f.keep(f.token(polling(waiting{f.clientID, f.code, ""})))
		}},
		{"refresh", func(f *flow) *http.Response { return f.keep(f.token(renewal(f.clientID, f.refresh))) }},
	}
	run := func(n int, when storetest.Moment) []storetest.Call {
		var calls []storetest.Call
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, withDevices)
			f := &flow{site: s, browser: s.browser()}
			before := len(s.store.Calls())
			s.store.FailCall(n, when)
			for _, step := range steps {
				if !f.survives(step, n, when) {
					break
				}
			}
			calls = s.store.Calls()[before:]
		})
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}

// What a device holds shows in no log.
func TestDevicesLeaveNoSecretsInTheLog(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	b.enter("BBBB-BBBB")
	b.deviceConsent(d).decide("allow")
	s.issued(polling(d))
	for _, entry := range s.logs.All() {
		line := entry.Message
		for _, f := range entry.Context {
			line += " " + f.String
		}
		for _, secret := range []string{d.code, d.userCode, strings.ReplaceAll(d.userCode, "-", ""), "BBBB"} {
			if strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
	}
}

func TestDevicesAreCounted(t *testing.T) {
	c := newCounted(t, withDevices)
	id := c.registerDevice()
	c.want("a registration", metricstest.Values{"registrations_total method=dynamic result=ok": 1})
	d := c.startDevice(id)
	c.want("a request", metricstest.Values{started: 1})
	c.token(polling(d))
	c.want("a poll", metricstest.Values{tokenError(deviceGrant, "authorization_pending"): 1})
	b := c.browser()
	b.deviceConsent(d).decide("allow")
	c.want("a decision", metricstest.Values{local + "ok": 1, allowed: 1})
	b.deviceConsent(c.startDevice(id)).decide("deny")
	c.want("another one", metricstest.Values{started: 1, denied: 1})
	for range 11 {
		b.enter("BBBB-BBBB")
	}
	c.want("guesses", metricstest.Values{"rate_limited_total endpoint=user_code": 1})
	for range 29 {
		c.askDevice(id)
	}
	c.want("too many requests", metricstest.Values{started: 28, "rate_limited_total endpoint=device_authorization": 1})
}
