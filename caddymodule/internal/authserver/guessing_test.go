package authserver_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
)

// robotFrom asks for a token of the configured client from an address.
func (s *site) robotFrom(peer, secret string) answer {
	r := request(http.MethodPost, "/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {secret},
	})
	r.RemoteAddr = peer
	return s.program(r)
}

func TestGuessesOfAClientSecretAreSlowedDown(t *testing.T) {
	s := newSite(t)
	const guesser, other = "192.0.2.1:1111", "192.0.2.2:2222"
	for range 20 {
		s.robotFrom(guesser, "wrong").refused(t, http.StatusUnauthorized, "invalid_client")
	}
	blocked := s.robotFrom(guesser, "robot-secret")
	blocked.refused(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if blocked.Header.Get("Retry-After") == "" {
		t.Error("the answer does not say when to come back")
	}
	if a := s.robotFrom(other, "robot-secret"); a.StatusCode != http.StatusOK {
		t.Errorf("the client is locked out everywhere: %d", a.StatusCode)
	}
	// Guesses count on over a reload of the configuration.
	s.reopen()
	s.robotFrom(guesser, "robot-secret").refused(t, http.StatusTooManyRequests, "temporarily_unavailable")
}

func TestRightClientSecretsAreNotCounted(t *testing.T) {
	s := newSite(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a := s.robotFrom("192.0.2.1:1111", "robot-secret"); a.StatusCode != http.StatusOK {
				t.Errorf("status %d", a.StatusCode)
			}
		})
	}
	wg.Wait()
}

func TestGuessesOfAPasswordCountOverAReload(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.LoginMax = 3 })
	p := s.browser().get("/account")
	for range 3 {
		p = p.signIn("alice", "wrong")
	}
	cfg := defaultConfig()
	cfg.LoginMax, cfg.Password, cfg.Log = 3, s.users, nopLog
	s.open(cfg)
	if p = s.browser().get("/account").signIn("alice", password); p.status != http.StatusTooManyRequests {
		t.Errorf("status %d; the limit was forgotten", p.status)
	}
}

// What cannot be right is refused without the work of a hash, so a count for each such
// name could push out those of accounts.
func TestNamesThatCannotBeRightShareACount(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	values := b.get("/account").form("/login").values
	for i := range 11 {
		b.peer = "192.0.2." + strconv.Itoa(i) + ":1"
		p := b.postOnce("/login", with(values, "username", "user"+strconv.Itoa(i), "password", strings.Repeat("x", 1025)))
		want := http.StatusForbidden
		if i == 10 {
			want = http.StatusTooManyRequests
		}
		if p.status != want {
			t.Errorf("try %d: %d, want %d", i, p.status, want)
		}
	}
	if p := s.browser().get("/account").signIn("alice", password); !p.has("/logout") {
		t.Errorf("alice is held back: %d", p.status)
	}
}
