package mcpsession_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const prefix = "test/"

var (
	key   = []byte("a key of thirty-two random bytes")
	alice = mcpsession.Caller{Issuer: "https://mcp.example.com", Subject: "alice", ClientID: "app"}
	bob   = mcpsession.Caller{Issuer: "https://mcp.example.com", Subject: "bob", ClientID: "app"}
)

func at(id string) mcpsession.Session {
	return mcpsession.Session{Resource: "https://mcp.example.com/mcp", ID: id}
}

func newStore(t testing.TB) store.Store {
	s := memstore.New(0)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newNode(s store.Store) *mcpsession.Sessions {
	return mcpsession.New(s, prefix, key, zap.NewNop())
}

// running lets a node tell the store what there is to tell, until the returned
// function is called.
func running(t testing.TB, s *mcpsession.Sessions) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// wants checks what a node says of a session to a caller; nil is that it is his.
func wants(t testing.TB, rule string, s *mcpsession.Sessions, session mcpsession.Session, who mcpsession.Caller, want error) {
	t.Helper()
	if err := s.Check(t.Context(), session, who); !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", rule, err, want)
	}
}

func TestASessionBelongsToWhomItWasGiven(t *testing.T) {
	s := newNode(newStore(t))
	s.Bind(t.Context(), at("1"), alice)
	for rule, tt := range map[string]struct {
		session mcpsession.Session
		caller  mcpsession.Caller
		want    error
	}{
		"its owner":                      {at("1"), alice, nil},
		"somebody else":                  {at("1"), bob, mcpsession.ErrForeign},
		"its owner with another client":  {at("1"), mcpsession.Caller{Issuer: alice.Issuer, Subject: "alice", ClientID: "other"}, mcpsession.ErrForeign},
		"the same name elsewhere":        {at("1"), mcpsession.Caller{Issuer: "https://other.example", Subject: "alice", ClientID: "app"}, mcpsession.ErrForeign},
		"a static token of that name":    {at("1"), mcpsession.Caller{Issuer: alice.Issuer, Subject: "alice", ClientID: "app", Token: "x"}, mcpsession.ErrForeign},
		"names that are cut differently": {at("1"), mcpsession.Caller{Issuer: alice.Issuer, Subject: "alicea", ClientID: "pp"}, mcpsession.ErrForeign},
		"another session":                {at("2"), alice, mcpsession.ErrUnknown},
		"the same id at another server":  {mcpsession.Session{Resource: "https://mcp.example.com/other", ID: "1"}, alice, mcpsession.ErrUnknown},
		"another spelling":               {at("1 "), alice, mcpsession.ErrUnknown},
		"a long id":                      {at(strings.Repeat("1", 9000)), alice, mcpsession.ErrUnknown},
	} {
		wants(t, rule, s, tt.session, tt.caller, tt.want)
	}
}

func TestAnIDThatIsGivenAnewHasANewOwner(t *testing.T) {
	s := newStore(t)
	n := newNode(s)
	n.Bind(t.Context(), at("1"), alice)
	n.Bind(t.Context(), at("1"), bob)
	for _, node := range []*mcpsession.Sessions{n, newNode(s)} {
		wants(t, "the one before", node, at("1"), alice, mcpsession.ErrForeign)
		wants(t, "the new one", node, at("1"), bob, nil)
	}
}

func TestSessionsAreKnownToOtherNodesAndAfterARestart(t *testing.T) {
	s := storetest.NewFaulty(newStore(t))
	newNode(s).Bind(t.Context(), at("1"), alice)
	other := newNode(s)
	wants(t, "somebody else", other, at("1"), bob, mcpsession.ErrForeign)
	calls := len(s.Calls())
	for range 10 {
		wants(t, "somebody else", other, at("1"), bob, mcpsession.ErrForeign)
		wants(t, "its owner", other, at("1"), alice, nil)
	}
	if made := len(s.Calls()) - calls; made != 0 {
		t.Errorf("%d calls of the store for a session that is known", made)
	}
	another := mcpsession.New(s, prefix, []byte("another key"), zap.NewNop())
	wants(t, "another issuer's key", another, at("1"), alice, mcpsession.ErrUnknown)
}

func TestTheStoreNamesNobody(t *testing.T) {
	s := newStore(t)
	newNode(s).Bind(t.Context(), at("the-session-id"), alice)
	for stored, err := range s.Keys(t.Context(), "") {
		r, getErr := s.Get(t.Context(), stored)
		if err = errors.Join(err, getErr); err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(stored, prefix+"mcpsession/")
		if err := mcpsession.CheckRecord(name, r.Value); !ok || err != nil {
			t.Errorf("%s: %v", stored, err)
		}
		if left := time.Until(r.Expires); left < mcpsession.Lifetime-time.Minute || left > mcpsession.Lifetime {
			t.Errorf("it expires in %v", left)
		}
		if text := stored + string(r.Value); strings.Contains(text, "alice") || strings.Contains(text, "the-session-id") {
			t.Errorf("the record is %s", text)
		}
	}
}

func TestTheSameSessionIsNotedOnce(t *testing.T) {
	s := storetest.NewFaulty(newStore(t))
	n := newNode(s)
	for range 10 {
		n.Bind(t.Context(), at("1"), alice)
		n.Bind(t.Context(), at(""), alice)
		n.Bind(t.Context(), at(strings.Repeat("1", 9000)), alice)
	}
	if made := len(s.Calls()); made != 1 {
		t.Errorf("%d calls of the store", made)
	}
}

func TestASessionInUseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		n := newNode(s)
		defer running(t, n)()
		n.Bind(t.Context(), at("used"), alice)
		n.Bind(t.Context(), at("idle"), alice)
		calls := len(s.Calls())
		for range 3 * 24 * 6 {
			time.Sleep(10 * time.Minute)
			wants(t, "in use", n, at("used"), alice, nil)
		}
		synctest.Wait()
		if made := len(s.Calls()) - calls; made > 3*24+1 {
			t.Errorf("%d calls of the store in three days", made)
		}
		wants(t, "idle for a day", n, at("idle"), alice, mcpsession.ErrUnknown)
		fresh := newNode(s)
		wants(t, "in use, after a restart", fresh, at("used"), alice, nil)
		wants(t, "idle, after a restart", fresh, at("idle"), alice, mcpsession.ErrUnknown)
	})
}

func TestASessionThatHasEndedIsNobodys(t *testing.T) {
	s := newStore(t)
	n := newNode(s)
	n.Bind(t.Context(), at("1"), alice)
	n.Forget(t.Context(), at("1"))
	wants(t, "on its node", n, at("1"), alice, mcpsession.ErrUnknown)
	wants(t, "on another", newNode(s), at("1"), alice, mcpsession.ErrUnknown)
}

// A store that is away hinders nobody whose session is known here, begins no session
// for anybody else, and is told when it is back.
func TestAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		n, other := newNode(s), newNode(s)
		defer running(t, n)()
		n.Bind(t.Context(), at("before"), alice)
		s.FailMethods(storetest.Before, storetest.Get, storetest.Put, storetest.Update, storetest.Delete)
		n.Bind(t.Context(), at("meanwhile"), alice)
		synctest.Wait()
		for _, id := range []string{"before", "meanwhile"} {
			wants(t, id, n, at(id), alice, nil)
			wants(t, id, n, at(id), bob, mcpsession.ErrForeign)
			wants(t, id+" at another node", other, at(id), alice, mcpsession.ErrUnavailable)
		}
		calls := len(s.Calls())
		for range 600 {
			time.Sleep(time.Second)
			wants(t, "in use", n, at("meanwhile"), alice, nil)
		}
		if made := len(s.Calls()) - calls; made > 12 {
			t.Errorf("%d calls in ten minutes to a store that fails", made)
		}
		s.Heal()
		time.Sleep(2 * time.Minute)
		wants(t, "in use", n, at("meanwhile"), alice, nil)
		synctest.Wait()
		wants(t, "another node when the store is back", other, at("meanwhile"), alice, nil)
	})
}

func TestAnIDThatAnotherNodeHasGivenAnewIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		n, other := newNode(s), newNode(s)
		defer running(t, n)()
		n.Bind(t.Context(), at("1"), alice)
		other.Bind(t.Context(), at("1"), bob)
		time.Sleep(2 * time.Hour)
		_ = n.Check(t.Context(), at("1"), alice) // which makes the node look
		synctest.Wait()
		wants(t, "the one before", n, at("1"), alice, mcpsession.ErrForeign)
		wants(t, "the new one", n, at("1"), bob, nil)
		wants(t, "the new one at the other node", other, at("1"), bob, nil)
	})
}

// lateStore holds the answer to a Get back.
type lateStore struct {
	store.Store
	answered, release chan struct{}
}

func (s *lateStore) Get(ctx context.Context, key string) (store.Record, error) {
	r, err := s.Store.Get(ctx, key)
	s.answered <- struct{}{}
	<-s.release
	return r, err
}

func TestAnAnswerThatComesLateBringsNoFormerOwnerBack(t *testing.T) {
	inner := newStore(t)
	newNode(inner).Bind(t.Context(), at("1"), alice)
	s := &lateStore{inner, make(chan struct{}, 1), make(chan struct{})}
	n := newNode(s)
	var asked sync.WaitGroup
	asked.Go(func() { _ = n.Check(t.Context(), at("1"), alice) })
	<-s.answered
	n.Bind(t.Context(), at("1"), bob)
	close(s.release)
	asked.Wait()
	wants(t, "the one before", n, at("1"), alice, mcpsession.ErrForeign)
	wants(t, "the new one", n, at("1"), bob, nil)
}

func TestWhatACallerCanDoToTheStoreIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		n := newNode(s)
		defer running(t, n)()
		const many = 2000
		for i := range many {
			n.Bind(t.Context(), at(fmt.Sprint(i)), bob)
		}
		synctest.Wait()
		if writes := len(s.Calls()); writes > 1001 {
			t.Errorf("%d writes", writes)
		}
		wants(t, "a session that is known here only", n, at(fmt.Sprint(many-1)), bob, nil)
		wants(t, "for somebody else", n, at(fmt.Sprint(many-1)), alice, mcpsession.ErrForeign)
		calls := len(s.Calls())
		for i := range many {
			_ = n.Check(t.Context(), at(fmt.Sprint("guess", i)), bob)
		}
		if reads := len(s.Calls()) - calls; reads > 1001 {
			t.Errorf("%d reads", reads)
		}
		wants(t, "one guess too many", n, at("x"), bob, mcpsession.ErrUnavailable)
		wants(t, "what is known", n, at("1"), bob, nil)
		wants(t, "somebody else's guess", n, at("x"), alice, mcpsession.ErrUnknown)
		n.Bind(t.Context(), at("alice's"), alice)
		wants(t, "another node", newNode(s), at("alice's"), alice, nil)
		time.Sleep(time.Minute)
		wants(t, "a guess a minute later", n, at("x"), bob, mcpsession.ErrUnknown)
	})
}

func TestARecordThatCannotBeReadIsNoSession(t *testing.T) {
	for name, value := range map[string]string{
		"no JSON": "x", "newer": `{"v":2,"owner":"AAAA"}`, "a short owner": `{"v":1,"owner":"AAAA"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			newNode(s).Bind(t.Context(), at("1"), alice)
			for key, err := range s.Keys(t.Context(), prefix) {
				if err == nil {
					err = s.Put(t.Context(), key, store.Record{Value: []byte(value)})
				}
				if err != nil {
					t.Fatal(err)
				}
				if mcpsession.CheckRecord(strings.TrimPrefix(key, prefix+"mcpsession/"), []byte(value)) == nil {
					t.Error("a check of the store finds nothing")
				}
			}
			wants(t, "its owner", newNode(s), at("1"), alice, mcpsession.ErrUnknown)
		})
	}
}

func FuzzCheckRecord(f *testing.F) {
	f.Add(strings.Repeat("a", 52), []byte(`{"v":1,"owner":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add("A", []byte(`null`))
	f.Fuzz(func(_ *testing.T, name string, value []byte) { _ = mcpsession.CheckRecord(name, value) })
}

// BenchmarkCheck is what a session that is known costs a request.
func BenchmarkCheck(b *testing.B) {
	s := newNode(newStore(b))
	s.Bind(b.Context(), at("1"), alice)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Check(b.Context(), at("1"), alice); err != nil {
			b.Fatal(err)
		}
	}
}
