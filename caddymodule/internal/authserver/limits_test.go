package authserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
)

// limitedTo sets the limits of the token and registration endpoints.
func limitedTo(tokens, registrations int) func(*authserver.Config) {
	return func(c *authserver.Config) {
		c.TokenMax, c.TokenWindow, c.RegisterMax, c.RegisterWindow = tokens, time.Minute, registrations, time.Hour
	}
}

// from is a request of a program at an address.
func (s *site) from(peer string, r *http.Request) answer {
	s.t.Helper()
	r.RemoteAddr = peer
	return s.program(r)
}

const oneRegistration = `{"redirect_uris":["` + callback + `"],"client_name":"Inspector"}`

// wantHeld checks an answer that is to be a 429 for a limit.
func wantHeld(t *testing.T, a answer, says string) {
	t.Helper()
	a.refused(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if a.Header.Get("Retry-After") == "" || !strings.HasPrefix(a.text("error_description"), says+"; try again in ") {
		t.Errorf("Retry-After %q, description %q; want %q", a.Header.Get("Retry-After"), a.text("error_description"), says)
	}
	if a.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "Retry-After") ||
		a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers are %v", a.Header)
	}
}

func TestRegistrationsAreLimitedForEachAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, limitedTo(0, 3))
		register := func(peer, body string, header ...string) answer {
			r := request(http.MethodPost, "/register", body)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			return s.from(peer, r)
		}
		for range 5 { // what is refused costs nothing
			register("192.0.2.1:1", `{"redirect_uris":["javascript:x"]}`).refused(t, 400, "invalid_redirect_uri")
		}
		for range 3 {
			if a := register("192.0.2.1:1", oneRegistration); a.StatusCode != http.StatusCreated {
				t.Fatalf("got %d", a.StatusCode)
			}
		}
		wantHeld(t, register("192.0.2.1:2", oneRegistration), "rate_limit register allows 3 in 1h")
		if a := register("192.0.2.2:1", oneRegistration); a.StatusCode != http.StatusCreated {
			t.Errorf("another address: %d", a.StatusCode)
		}
		if a := register("192.0.2.1:3", oneRegistration, "Authorization", "Bearer initial-access-token"); a.StatusCode != http.StatusCreated {
			t.Errorf("with an initial access token: %d", a.StatusCode)
		}
		time.Sleep(time.Hour)
		a := register("192.0.2.1:1", oneRegistration)
		if a.StatusCode != http.StatusCreated {
			t.Errorf("an hour later: %d", a.StatusCode)
		}
		// Each change of a registration is written as well.
		change := func() answer {
			r := request(http.MethodPut, "/register/"+a.text("client_id"), `{"client_id":"`+a.text("client_id")+`",`+oneRegistration[1:])
			r.Header.Set("Authorization", "Bearer "+a.text("registration_access_token"))
			return s.from("192.0.2.1:1", r)
		}
		for range 2 {
			if got := change(); got.StatusCode != http.StatusOK {
				t.Errorf("a change: %d %v", got.StatusCode, got.fields)
			}
		}
		wantHeld(t, change(), "rate_limit register allows 3 in 1h")
	})
}

// A service that many people use comes from one address and as one client. None
// of them waits for another.
func TestManyPeopleBehindOneClientDoNotStarve(t *testing.T) {
	s := newSite(t, limitedTo(5, 0))
	id := s.register()
	for i := range 8 {
		tokens := s.tokens(id)
		if a := s.from("192.0.2.1:1", request(http.MethodPost, "/token", renewal(id, tokens.text("refresh_token")))); a.StatusCode != http.StatusOK {
			t.Fatalf("person %d: %d %v", i, a.StatusCode, a.fields)
		}
	}
}

func TestTokenRequestsOfAGrantAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, limitedTo(5, 0))
		id := s.register()
		tokens := s.tokens(id) // the code is the first one
		for range 4 {
			tokens = s.issued(renewal(id, tokens.text("refresh_token")))
		}
		next := renewal(id, tokens.text("refresh_token"))
		wantHeld(t, s.token(next), "rate_limit token allows 5 in 1m")
		wantHeld(t, s.from("198.51.100.7:1", request(http.MethodPost, "/token", next)), "rate_limit token allows 5 in 1m")
		other := s.tokens(id)
		s.issued(renewal(id, other.text("refresh_token")))
		// Waiting costs nothing, and uses nothing up.
		time.Sleep(time.Minute)
		s.issued(next)
	})
}

func TestTokenRequestsThatAreAboutNothingAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, limitedTo(5, 0))
		id, other := s.register(), s.register()
		junk := func(peer, id string) answer {
			return s.from(peer, request(http.MethodPost, "/token", redemption(id, "mcpc_junk")))
		}
		for range 5 {
			junk("192.0.2.1:1", id).refused(t, 400, "invalid_grant")
		}
		wantHeld(t, junk("192.0.2.1:1", id), "rate_limit token allows 5 in 1m")
		junk("192.0.2.2:1", id).refused(t, 400, "invalid_grant")
		junk("192.0.2.1:1", other).refused(t, 400, "invalid_grant")

		// Whoever makes up clients has no more tries, and holds up no others.
		for i := range 5 {
			junk("192.0.2.1:1", fmt.Sprintf("mcp_%026d", i)).refused(t, 401, "invalid_client")
		}
		wantHeld(t, junk("192.0.2.1:1", "mcp_AAAAAAAAAAAAAAAAAAAAAAAAAA"), "rate_limit token allows 5 in 1m")
		junk("192.0.2.3:1", "mcp_AAAAAAAAAAAAAAAAAAAAAAAAAA").refused(t, 401, "invalid_client")
		wantHeld(t, s.from("192.0.2.1:1", request(http.MethodPost, "/revoke", url.Values{"token": {"x"}, "client_id": {"nobody"}})), "rate_limit token allows 5 in 1m")
		s.issued(redemption(other, s.browser().code(authorization(other))))
	})
}

func TestTokensOfServiceAccountsAreLimited(t *testing.T) {
	s := newSite(t, limitedTo(5, 0))
	for range 5 {
		if a := s.robotFrom("192.0.2.1:1", "robot-secret"); a.StatusCode != http.StatusOK {
			t.Fatalf("got %d", a.StatusCode)
		}
	}
	wantHeld(t, s.robotFrom("192.0.2.1:1", "robot-secret"), "rate_limit token allows 5 in 1m")
	if a := s.robotFrom("192.0.2.2:1", "robot-secret"); a.StatusCode != http.StatusOK {
		t.Errorf("from elsewhere: %d", a.StatusCode)
	}
}

// A provider of a company vouches for all its people to one service.
func TestAssertionsCountForTheirPerson(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust, limitedTo(3, 0))
	from := func(peer, person string) answer {
		return s.from(peer, request(http.MethodPost, "/token", bearing(p.assertion(map[string]any{"sub": person}))))
	}
	for range 3 {
		if a := from("192.0.2.1:1", "U1"); a.StatusCode != http.StatusOK {
			t.Fatalf("got %d %v", a.StatusCode, a.fields)
		}
	}
	wantHeld(t, from("192.0.2.1:1", "U1"), "rate_limit token allows 3 in 1m")
	if a := from("192.0.2.1:1", "U2"); a.StatusCode != http.StatusOK {
		t.Errorf("another person: %d", a.StatusCode)
	}
	// What is no assertion counts for the client.
	for range 3 {
		s.token(bearing("junk")).refused(t, 400, "invalid_grant")
	}
	wantHeld(t, s.token(bearing("junk")), "rate_limit token allows 3 in 1m")
}

func TestPollsAndRequestsOfDevicesAreTokenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices, limitedTo(5, 0))
		id := s.registerDevice()
		d := s.startDevice(id)
		for range 5 {
			s.token(polling(d))
		}
		wantHeld(t, s.token(polling(d)), "rate_limit token allows 5 in 1m")
		for range 4 {
			s.startDevice(id)
		}
		wantHeld(t, s.askDevice(id), "rate_limit token allows 5 in 1m")
	})
}

func TestLimitsCountOverAReload(t *testing.T) {
	s := newSite(t, limitedTo(5, 3))
	for range 3 {
		s.register()
	}
	for range 5 {
		s.robotFrom("192.0.2.1:1", "robot-secret")
	}
	s.reopen(limitedTo(5, 3))
	wantHeld(t, s.program(request(http.MethodPost, "/register", oneRegistration)), "rate_limit register allows 3 in 1h")
	wantHeld(t, s.robotFrom("192.0.2.1:1", "robot-secret"), "rate_limit token allows 5 in 1m")
}

func TestLimitsHoldForRequestsAtOnce(t *testing.T) {
	s := newSite(t, limitedTo(10, 0))
	var mu sync.Mutex
	got := map[int]int{}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			a := s.robotFrom("192.0.2.1:1", "robot-secret")
			mu.Lock()
			defer mu.Unlock()
			got[a.StatusCode]++
		})
	}
	all.Wait()
	if got[http.StatusOK] != 10 || got[http.StatusTooManyRequests] != 90 {
		t.Errorf("answers %v", got)
	}
}

func TestLimitedRequestsAreCounted(t *testing.T) {
	c := newCounted(t, limitedTo(1, 1))
	c.register()
	c.robotFrom("192.0.2.1:1", "robot-secret")
	c.want("what passes", metricstest.Values{
		"registrations_total method=dynamic result=ok": 1, "tokens_issued_total grant_type=client_credentials": 1,
	})
	c.program(request(http.MethodPost, "/register", oneRegistration))
	c.robotFrom("192.0.2.1:1", "robot-secret")
	c.want("what does not", metricstest.Values{
		"registrations_total method=dynamic result=refused": 1, "rate_limited_total endpoint=register": 1,
		tokenError("client_credentials", "temporarily_unavailable"): 1, "rate_limited_total endpoint=token": 1,
	})
}
