package authserver_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// lender is a provider that also gives tokens for its users.
type lender struct {
	*provider
	renewals error
}

func (l *lender) Finish(ctx context.Context, a login.Attempt, answer url.Values) (login.Identity, error) {
	user, err := l.provider.Finish(ctx, a, answer)
	user.Tokens = &login.Tokens{Access: "lent", Refresh: "refresh", Expires: time.Now().Add(time.Hour)}
	return user, err
}

func (l *lender) Renew(context.Context, string, string) (login.Tokens, error) {
	return login.Tokens{Access: "renewed", Expires: time.Now().Add(time.Hour)}, l.renewals
}

// newLending makes a site whose upstreams need tokens of the provider.
func newLending(t *testing.T) (*counted, *lender) {
	t.Helper()
	l := &lender{provider: newProvider()}
	c := newCounted(t, func(cfg *authserver.Config) {
		cfg.Redirects = []authserver.Redirect{{ID: "acme", Label: "Acme SSO", Login: l}}
	})
	cfg := defaultConfig()
	cfg.Password, cfg.Log, cfg.Audit, cfg.Metrics = c.users, nopLog, c.audit, c.metrics
	cfg.Redirects = []authserver.Redirect{{ID: "acme", Label: "Acme SSO", Login: l}}
	keys, err := token.OpenKeys(t.Context(), c.store, "test/", token.KeysConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Delegations, err = delegation.NewKeeper(c.store, "test/", keys.Derive); err != nil {
		t.Fatal(err)
	}
	c.open(cfg)
	return c, l
}

// claims are those of an access token.
func (c *counted) claims(access string) *token.Claims {
	c.t.Helper()
	claims, err := c.verifier.Verify(c.t.Context(), access)
	if err != nil {
		c.t.Fatal(err)
	}
	return claims
}

// connect lets carol sign in at the provider and connects an app.
func (c *counted) connect(b *browser, id string) answer {
	c.t.Helper()
	page := b.get("/authorize?" + authorization(id).Encode())
	if page.has("/login") {
		page = b.get(back(page.away()))
	}
	return c.issued(redemption(id, page.submit("decision", "allow").handedOff().Get("code")))
}

func (c *counted) wantLent(what string, claims *token.Claims, want string, fault error) {
	c.t.Helper()
	got, err := c.Lend(c.t.Context(), "acme", claims)
	if got != want || !errors.Is(err, fault) {
		c.t.Errorf("%s: got %q, %v; want %q, %v", what, got, err, want, fault)
	}
}

func TestTokensOfTheProviderAreLent(t *testing.T) {
	c, _ := newLending(t)
	id := c.register()
	claims := c.claims(c.connect(c.browser(), id).text("access_token"))
	c.wantLent("carol", claims, "lent", nil)

	robot := c.claims(c.issued(url.Values{"grant_type": {"client_credentials"}}, robotID, "robot-secret").text("access_token"))
	c.wantLent("a service account", robot, "", authserver.ErrOtherSignIn)
	local := c.claims(c.tokens(id).text("access_token"))
	c.wantLent("a local user", local, "", authserver.ErrOtherSignIn)
	vouched := *claims
	vouched.Subject, vouched.GrantID = "acme:43", "RANDOM"
	c.wantLent("somebody whom the provider has vouched for and who was never here", &vouched, "", authserver.ErrOtherSignIn)
	vouched.Subject = claims.Subject
	c.wantLent("a program whose user the provider has vouched for and who was here as well", &vouched, "", authserver.ErrOtherSignIn)
	foreign := *claims
	foreign.Issuer = "https://other.example"
	c.wantLent("somebody of another issuer", &foreign, "", authserver.ErrOtherSignIn)
	if _, err := c.Lend(t.Context(), "other", claims); !errors.Is(err, authserver.ErrOtherSignIn) {
		t.Errorf("of another login: %v", err)
	}
	c.Doubt(claims, "lent")
	c.wantLent("after an upstream has refused it", claims, "renewed", nil)
}

// When the provider has ended its tokens, the client has to ask for a new
// authorization, and a session must not stand for the sign-in at the provider.
func TestAnEndOfTheProvidersTokensLeadsToASignInThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := newLending(t)
		id := c.register()
		b := c.browser()
		first := c.connect(b, id)
		other := c.connect(b, c.register())
		claims, others := c.claims(first.text("access_token")), c.claims(other.text("access_token"))
		l.renewals = login.ErrUnreachable
		time.Sleep(59*time.Minute + 40*time.Second)
		c.wantLent("while the provider is down", claims, "", delegation.ErrUnavailable)
		if b.get("/authorize?" + authorization(id).Encode()).has("/login") {
			t.Error("an outage of the provider has ended the session")
		}
		time.Sleep(3 * time.Second)
		l.renewals = login.ErrDenied
		before := metricstest.Read(t, c.metrics)
		c.events()
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() { c.wantLent("when the provider has ended it", claims, "", authserver.ErrSignInAgain) })
		}
		calls.Wait()
		if n := metricstest.Read(t, c.metrics)["revocations_total by=provider"] - before["revocations_total by=provider"]; n != 1 {
			t.Errorf("%v grants count as ended by the provider", n)
		}
		c.told("when the provider has ended it", "grant.revoke success provider "+claims.Subject)
		c.token(renewal(id, first.text("refresh_token"))).refused(t, http.StatusBadRequest, "invalid_grant")
		page := b.get("/authorize?" + authorization(id).Encode())
		if !page.has("/login") {
			t.Fatal("a session stands for a sign-in")
		}
		// The other app goes on after the person has signed in for the first one.
		l.renewals = nil
		c.connect(b, id)
		c.wantLent("the other app", others, "lent", nil)
	})
}

// A token may outlive the record of its grant, and a 403 would leave its client
// there.
func TestATokenWithoutAGrantLeadsToASignIn(t *testing.T) {
	c, _ := newLending(t)
	claims := c.claims(c.connect(c.browser(), c.register()).text("access_token"))
	for _, prefix := range []string{"test/grant/", "test/delegation/"} {
		for key, err := range c.store.Keys(t.Context(), prefix) {
			if err == nil {
				err = c.store.Delete(t.Context(), key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	c.wantLent("without a grant", claims, "", authserver.ErrSignInAgain)
}

func TestTokensOfTheProviderEndWithWhatNeedsThem(t *testing.T) {
	const gone = "the tokens of the provider are kept"
	for _, tt := range []struct {
		rule string
		end  func(c *counted, b *browser, id string, tokens answer)
		wait time.Duration
		kept bool
	}{
		{"nothing happens", func(*counted, *browser, string, answer) {}, 13 * time.Hour, true},
		{"the browser signs out, and an app goes on", func(_ *counted, b *browser, _ string, _ answer) {
			b.get("/account").send("/logout")
		}, 13 * time.Hour, true},
		{"the client revokes, and the browser is signed in", func(c *counted, _ *browser, id string, tokens answer) {
			c.revoke(id, tokens.text("refresh_token"))
		}, time.Hour, true},
		{"the client revokes, and the session ends by itself", func(c *counted, _ *browser, id string, tokens answer) {
			c.revoke(id, tokens.text("refresh_token"))
		}, 13 * time.Hour, false},
		{"the client revokes, and the browser signs out", func(c *counted, b *browser, id string, tokens answer) {
			c.revoke(id, tokens.text("access_token"))
			b.get("/account").send("/logout")
		}, 0, false},
		{"the operator ends everything", func(c *counted, _ *browser, _ string, _ answer) {
			if _, _, err := c.SignOut(c.t.Context(), "acme:42", true); err != nil {
				c.t.Error(err)
			}
		}, 0, false},
		{"the operator ends the sessions, and an app goes on", func(c *counted, _ *browser, _ string, _ answer) {
			if _, _, err := c.SignOut(c.t.Context(), "acme:42", false); err != nil {
				c.t.Error(err)
			}
		}, 13 * time.Hour, true},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newLending(t)
				id, b := c.register(), c.browser()
				tokens := c.connect(b, id)
				c.wantLent("at first", c.claims(tokens.text("access_token")), "lent", nil)
				tt.end(c, b, id, tokens)
				time.Sleep(tt.wait)
				if kept := c.hasRecord("test/delegation/"); kept != tt.kept {
					t.Errorf("%s: %v, want %v", gone, kept, tt.kept)
				}
			})
		})
	}
}

// hasRecord reports whether the store has a record below a prefix.
func (c *counted) hasRecord(prefix string) bool {
	c.t.Helper()
	for _, err := range c.store.Keys(c.t.Context(), prefix) {
		if err != nil {
			c.t.Fatal(err)
		}
		return true
	}
	return false
}

func TestOnlyThoseWhoAreLetInLeaveTokensBehind(t *testing.T) {
	c, l := newLending(t)
	b := c.browser()
	state := b.get("/authorize?" + authorization(c.register()).Encode()).away()
	l.fault = errors.New("the ID token is refused")
	b.get(back(state))
	if c.hasRecord("test/delegation/") {
		t.Error("tokens of a sign-in that proves nothing are kept")
	}
	l.fault = nil
	state = b.get("/authorize?" + authorization(c.register()).Encode()).away()
	c.store.FailMethods(storetest.Before)
	if p := b.get(back(state)); p.status != http.StatusServiceUnavailable {
		t.Errorf("while the store is down, the way back answers %d", p.status)
	}
}
