package apitoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const prefix = "test/"

// node is what one process has of the tokens of an issuer.
type node struct {
	*apitoken.Tokens
	t    testing.TB
	view *apitoken.View

	mu    sync.Mutex
	ended []string
}

func newNode(t testing.TB, s store.Store) *node {
	t.Helper()
	tokens, err := apitoken.Open(t.Context(), s, prefix, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Tokens: tokens, t: t, view: tokens.View(oauth.Scopes{"read", "write"}, nil)}
	tokens.Notify(func(id string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ended = append(n.ended, id)
	})
	return n
}

func newStore(t testing.TB) store.Store {
	s := memstore.New(0)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (n *node) make(spec apitoken.Spec) string {
	n.t.Helper()
	secret, _, err := n.Create(n.t.Context(), spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return secret
}

func (n *node) revoke(name string) {
	n.t.Helper()
	if err := n.Revoke(n.t.Context(), name); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) finds(secret string) bool {
	_, ok := n.view.Find(secret)
	return ok
}

// hasEnded reports whether the node was told that a token is no more.
func (n *node) hasEnded(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ended) == 1 && n.ended[0] == id && n.view.Revoked(id)
}

// follow lets the node follow the others until the returned function is called.
func (n *node) follow() (stop func()) {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Follow(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestATokenHasTheClaimsItWasMadeFor(t *testing.T) {
	n := newNode(t, newStore(t))
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, tt := range map[string]struct {
		spec apitoken.Spec
		want oauth.AccessTokenClaims
	}{
		"all": {apitoken.Spec{Name: "all"}, oauth.AccessTokenClaims{Scope: "read write"}},
		"narrow": {
			apitoken.Spec{Name: "narrow", Scopes: oauth.Scopes{"read"}, Resource: "https://mcp.example.com/mcp", Expires: expires},
			oauth.AccessTokenClaims{Scope: "read", Audience: "https://mcp.example.com/mcp", Expires: expires.Unix()},
		},
	} {
		secret, info, err := n.Create(t.Context(), tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		claims, ok := n.view.Find(secret)
		if !ok {
			t.Fatalf("%s: not found", name)
		}
		if claims.GrantID == "" || n.view.Revoked(claims.GrantID) || claims.IssuedAt != info.Created.Unix() {
			t.Errorf("%s: the claims are %+v", name, claims)
		}
		tt.want.Subject, tt.want.ClientID = "token:"+name, "token:"+name
		tt.want.GrantID, tt.want.IssuedAt = claims.GrantID, claims.IssuedAt
		if diff := cmp.Diff(tt.want, claims.AccessTokenClaims); diff != "" || claims.Scopes.String() != claims.Scope {
			t.Errorf("%s: %s, scopes %v", name, diff, claims.Scopes)
		}
		if again, _ := n.view.Find(secret); again != claims {
			t.Errorf("%s: the claims are made anew for each request", name)
		}
	}
}

func TestTheClaimsAreThoseOfTheSite(t *testing.T) {
	n := newNode(t, newStore(t))
	prepared := 0
	other := n.View(oauth.Scopes{"admin"}, func(c *token.Claims) { prepared++ })
	secret := n.make(apitoken.Spec{Name: "ci"})
	for range 3 {
		if claims, ok := other.Find(secret); !ok || claims.Scope != "admin" {
			t.Fatalf("found %v with %+v", ok, claims)
		}
	}
	if prepared != 1 {
		t.Errorf("prepared %d times", prepared)
	}
}

func TestATokenForRegistrationIsNoneForRequests(t *testing.T) {
	n := newNode(t, newStore(t))
	secret, usual := n.make(apitoken.Spec{Name: "rollout", RegistrationOnly: true}), n.make(apitoken.Spec{Name: "ci"})
	if n.finds(secret) {
		t.Error("it opens MCP servers")
	}
	for _, s := range []string{secret, usual} {
		if _, ok := n.view.FindInitial(s); !ok {
			t.Error("it registers nothing")
		}
	}
}

func TestOnlyTheHashIsStored(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	secret := n.make(apitoken.Spec{Name: "ci", Scopes: oauth.Scopes{"read"}})
	r, err := s.Get(t.Context(), prefix+"apitoken/ci")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(r.Value, &fields); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.Value), secret[4:]) || fields["v"] != 1.0 || fields["hash"] == nil || fields["scopes"] == nil {
		t.Errorf("the record is %s", r.Value)
	}
	if err := apitoken.CheckRecord("ci", r.Value); err != nil {
		t.Error(err)
	}
}

func TestUnknownTokensAreRefusedWithoutTheStore(t *testing.T) {
	s := storetest.NewFaulty(newStore(t))
	n := newNode(t, s)
	secret := n.make(apitoken.Spec{Name: "ci"})
	calls := len(s.Calls())
	for _, presented := range []string{
		"", "mcp_", secret[:46], secret + "A", strings.ToUpper(secret), "mcp_" + strings.Repeat("A", 43), "xcp_" + secret[4:], strings.Repeat("\x00", 47),
	} {
		if n.finds(presented) {
			t.Errorf("%q is found", presented)
		}
		if _, ok := n.view.FindInitial(presented); ok {
			t.Errorf("%q lets clients register", presented)
		}
	}
	if !n.finds(secret) {
		t.Error("the token itself is not found")
	}
	if made := len(s.Calls()) - calls; made != 0 {
		t.Errorf("%d calls of the store", made)
	}
}

func TestTokensReachOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		defer b.follow()()
		synctest.Wait()
		secret := a.make(apitoken.Spec{Name: "ci"})
		kept := a.make(apitoken.Spec{Name: "kept"})
		synctest.Wait()
		claims, ok := b.view.Find(secret)
		if !ok || !b.finds(kept) {
			t.Fatal("unknown on the other node")
		}
		a.revoke("ci")
		synctest.Wait()
		if b.finds(secret) || !b.hasEnded(claims.GrantID) || !a.hasEnded(claims.GrantID) {
			t.Errorf("after it was revoked elsewhere it is found: %v, ended: %v", b.finds(secret), b.ended)
		}
		// The name is free again, and the old token is not.
		next := a.make(apitoken.Spec{Name: "ci"})
		synctest.Wait()
		if b.finds(secret) || !b.finds(next) || !b.finds(kept) {
			t.Error("the other node has mixed up two tokens of one name")
		}
	})
}

func TestWhatHappensWhileNobodyListensIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		a, b := newNode(t, s.Inner()), newNode(t, s)
		old, replaced := a.make(apitoken.Spec{Name: "old"}), a.make(apitoken.Spec{Name: "replaced"})
		defer b.follow()()
		synctest.Wait()
		s.FailMethods(storetest.Before, storetest.Get)
		other := a.make(apitoken.Spec{Name: "other"}) // which ends the watch, as it cannot be read
		synctest.Wait()
		a.revoke("old")
		a.revoke("replaced")
		next := a.make(apitoken.Spec{Name: "replaced"})
		time.Sleep(10 * time.Second)
		if !b.finds(old) {
			t.Fatal("the fault was none")
		}
		s.Heal()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.finds(old) || b.finds(replaced) || !b.finds(next) || !b.finds(other) {
			t.Errorf("old %v, replaced %v, next %v, other %v", b.finds(old), b.finds(replaced), b.finds(next), b.finds(other))
		}
	})
}

// lateStore holds the answer to a Get back, once it is told to.
type lateStore struct {
	store.Store
	hold     sync.Once
	armed    bool
	answered chan struct{} // closed when the answer is there
	release  chan struct{}
}

func (s *lateStore) Get(ctx context.Context, key string) (store.Record, error) {
	r, err := s.Store.Get(ctx, key)
	if s.armed {
		s.hold.Do(func() {
			close(s.answered)
			<-s.release
		})
	}
	return r, err
}

func TestAnAnswerThatComesLateBringsNoRevokedTokenBack(t *testing.T) {
	s := &lateStore{Store: newStore(t), answered: make(chan struct{}), release: make(chan struct{})}
	n := newNode(t, s)
	secret := n.make(apitoken.Spec{Name: "ci"})
	s.armed = true
	stop := n.follow() // which reads the token
	<-s.answered
	revoked := make(chan error, 1)
	go func() { revoked <- n.Revoke(t.Context(), "ci") }()
	var err error
	finished := false
	select {
	case err = <-revoked: // it need not wait for the answer
		finished = true
	case <-time.After(200 * time.Millisecond):
	}
	close(s.release)
	if !finished {
		err = <-revoked
	}
	stop()
	if err != nil || n.finds(secret) {
		t.Errorf("revoked with the error %v, and it is found: %v", err, n.finds(secret))
	}
}

func TestAFailureOfTheStoreIsNoSuccess(t *testing.T) {
	for _, when := range []storetest.Moment{storetest.Before, storetest.During, storetest.After} {
		t.Run(when.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewFaulty(newStore(t))
				n := newNode(t, s)
				kept := n.make(apitoken.Spec{Name: "kept"})
				defer n.follow()()
				synctest.Wait()
				s.FailMethods(when, storetest.Update)
				if secret, _, err := n.Create(t.Context(), apitoken.Spec{Name: "ci"}); err == nil || secret != "" {
					t.Errorf("made %q with the error %v", secret, err)
				}
				err := n.Revoke(t.Context(), "kept")
				if err == nil || errors.Is(err, apitoken.ErrUnknown) {
					t.Errorf("revoked with the error %v", err)
				}
				s.Heal()
				synctest.Wait()
				// What was done in spite of the error shows as it is.
				if gone := when == storetest.After; n.finds(kept) == gone {
					t.Errorf("the token is found: %v", n.finds(kept))
				}
				if listed := len(n.List()); listed != 1 {
					t.Errorf("%d tokens are listed", listed)
				}
			})
		})
	}
}

func TestTokensThatCannotBeMade(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	for _, name := range []string{"", ".", "-a", "a/b", "a b", "ä", strings.Repeat("a", 65), "a\n"} {
		if _, _, err := n.Create(t.Context(), apitoken.Spec{Name: name}); err == nil || !strings.HasPrefix(err.Error(), "the name of a token") {
			t.Errorf("the name %q: %v", name, err)
		}
		if err := n.Revoke(t.Context(), name); !errors.Is(err, apitoken.ErrUnknown) {
			t.Errorf("revoking %q: %v", name, err)
		}
	}
	n.make(apitoken.Spec{Name: "A.b-c_9"})
	// Another node may have made it a moment ago.
	other := newNode(t, newStore(t))
	other.Tokens, _ = apitoken.Open(t.Context(), s, prefix, zap.NewNop())
	for _, node := range []*node{n, other} {
		if _, _, err := node.Create(t.Context(), apitoken.Spec{Name: "A.b-c_9"}); !errors.Is(err, apitoken.ErrExists) {
			t.Errorf("the same name: %v", err)
		}
	}
}

func TestTheNumberOfTokensIsBounded(t *testing.T) {
	n := newNode(t, newStore(t))
	for i := range apitoken.MaxTokens {
		n.make(apitoken.Spec{Name: fmt.Sprint("t", i)})
	}
	if _, _, err := n.Create(t.Context(), apitoken.Spec{Name: "more"}); !errors.Is(err, apitoken.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	n.revoke("t7")
	n.make(apitoken.Spec{Name: "more"})
}

func TestATokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newStore(t))
		secret := n.make(apitoken.Spec{Name: "ci", Expires: time.Now().Add(time.Hour)})
		claims, _ := n.view.Find(secret)
		defer n.follow()()
		time.Sleep(time.Hour - time.Second)
		if !n.finds(secret) {
			t.Error("it expires too early")
		}
		time.Sleep(time.Second)
		if n.finds(secret) || !n.view.Revoked(claims.GrantID) || len(n.List()) != 0 {
			t.Error("it goes on")
		}
		time.Sleep(2 * time.Minute)
		if !n.hasEnded(claims.GrantID) {
			t.Error("nobody was told that its streams have to end")
		}
	})
}

// used returns the last use that the store knows of.
func used(t *testing.T, s store.Store, name string) (at time.Time) {
	t.Helper()
	r, err := s.Get(t.Context(), prefix+"apitoken/"+name)
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		LastUsed time.Time `json:"last_used"`
	}
	if err := json.Unmarshal(r.Value, &rec); err != nil {
		t.Fatal(err)
	}
	return rec.LastUsed
}

func TestTheLastUseIsNotedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		a, b := newNode(t, s), newNode(t, s.Inner())
		secret := a.make(apitoken.Spec{Name: "ci", Expires: time.Now().Add(24 * time.Hour)})
		a.make(apitoken.Spec{Name: "idle"})
		defer a.follow()()
		defer b.follow()()
		synctest.Wait()
		calls := len(s.Calls())
		began := time.Now()
		for range 3600 {
			a.finds(secret)
			time.Sleep(time.Second)
		}
		writes := 0
		for _, call := range s.Calls()[calls:] {
			if call.Method == storetest.Update {
				writes++
			}
		}
		if writes < 5 || writes > 7 {
			t.Errorf("%d writes in an hour of use", writes)
		}
		if at := used(t, s.Inner(), "ci"); at.Sub(began) < 45*time.Minute {
			t.Errorf("the store knows of a use after %v", at.Sub(began))
		}
		if listed := b.List(); listed[0].Name != "ci" || listed[0].LastUsed.Sub(began) < 45*time.Minute || !listed[1].LastUsed.IsZero() {
			t.Errorf("the other node lists %+v", listed)
		}
		if r, err := s.Get(t.Context(), prefix+"apitoken/ci"); err != nil || r.Expires.IsZero() {
			t.Errorf("the note has changed when it expires: %v, %v", r.Expires, err)
		}
	})
}

func TestANoteOfAUseBringsNoRevokedTokenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		secret := a.make(apitoken.Spec{Name: "ci"})
		b.Tokens, _ = apitoken.Open(t.Context(), s, prefix, zap.NewNop())
		a.finds(secret)
		b.revoke("ci") // of which a does not hear, as it follows nobody yet
		next := b.make(apitoken.Spec{Name: "ci"})
		defer a.follow()()
		time.Sleep(5 * time.Minute)
		if c := newNode(t, s); c.finds(secret) || !c.finds(next) {
			t.Errorf("the revoked token is found: %v, the next one: %v", c.finds(secret), c.finds(next))
		}
		if at := used(t, s, "ci"); !at.IsZero() {
			t.Errorf("the use of one token is noted at another: %v", at)
		}
	})
}

func TestARecordThatCannotBeReadLetsNobodyIn(t *testing.T) {
	for name, fields := range map[string]string{
		"newer": `{"v":2}`, "no id": `{"id":""}`, "another kind of id": `{"id":"grant"}`, "a short hash": `{"hash":"AAAA"}`, "no date": `{"created":"0001-01-01T00:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			first := newNode(t, s)
			secret, kept := first.make(apitoken.Spec{Name: "ci"}), first.make(apitoken.Spec{Name: "kept"})
			err := s.Update(t.Context(), prefix+"apitoken/ci", func(r store.Record) (store.Record, error) {
				var object map[string]any
				if err := errors.Join(json.Unmarshal(r.Value, &object), json.Unmarshal([]byte(fields), &object)); err != nil {
					return r, err
				}
				var err error
				r.Value, err = json.Marshal(object)
				return r, err
			})
			if err != nil {
				t.Fatal(err)
			}
			n := newNode(t, s)
			if n.finds(secret) || !n.finds(kept) {
				t.Errorf("it is found: %v, another one: %v", n.finds(secret), n.finds(kept))
			}
			r, err := s.Get(t.Context(), prefix+"apitoken/ci")
			if err != nil || apitoken.CheckRecord("ci", r.Value) == nil {
				t.Errorf("a check of the store finds nothing (%v)", err)
			}
		})
	}
}

func FuzzCheckRecord(f *testing.F) {
	f.Add("ci", []byte(`{"v":1,"id":"apitoken:A","hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","created":"2026-01-02T03:04:05Z"}`))
	f.Add("a/b", []byte(`null`))
	f.Fuzz(func(_ *testing.T, name string, value []byte) { _ = apitoken.CheckRecord(name, value) })
}

// BenchmarkFind is what the tokens cost requests that come with another one, and
// those that come with one of them.
func BenchmarkFind(b *testing.B) {
	n := newNode(b, newStore(b))
	for i := range apitoken.MaxTokens - 1 {
		n.make(apitoken.Spec{Name: fmt.Sprint("t", i)})
	}
	secret := n.make(apitoken.Spec{Name: "ci"})
	for name, presented := range map[string]string{"an access token": strings.Repeat("e", 600), "one of them": secret, "junk": "mcp_" + strings.Repeat("A", 43)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n.view.Find(presented)
			}
		})
	}
}
