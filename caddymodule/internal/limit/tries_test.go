package limit_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
)

func TestTriesCountForTheAccountAndForThePeer(t *testing.T) {
	for rule, next := range map[string]struct {
		account, peer string
		held          bool
	}{
		"the same again":                  {"alice", "192.0.2.1:1", true},
		"the account from elsewhere":      {"alice", "192.0.2.2:1", true},
		"the account in another spelling": {" ALICE ", "192.0.2.2:1", true},
		"another account from there":      {"bob", "192.0.2.1:2", true},
		"somebody else from elsewhere":    {"bob", "192.0.2.2:1", false},
	} {
		t.Run(rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := limit.NewCounts().Tries("login", 3, time.Minute)
				for i := range 3 {
					try, wait := tries.Begin(t.Context(), "alice", "192.0.2.1:1")
					if wait > 0 || try.Left() != 2-i {
						t.Fatalf("try %d waits %v", i, wait)
					}
				}
				if held := tries.Wait(next.account, next.peer) > 0; held != next.held {
					t.Errorf("held back: %v, want %v", held, next.held)
				}
				try, wait := tries.Begin(t.Context(), next.account, next.peer)
				if held := wait > 0; held != next.held || held != (try == nil) {
					t.Errorf("held back for %v, want %v", wait, next.held)
				}
				time.Sleep(time.Minute)
				if _, wait := tries.Begin(t.Context(), next.account, next.peer); wait > 0 {
					t.Errorf("held back for %v after the window", wait)
				}
			})
		})
	}
}

func TestTriesThatSucceedAreNotCounted(t *testing.T) {
	s := newShared(t)
	tries := node(s).Tries("login", 3, time.Hour)
	for range 100 {
		try, wait := tries.Begin(t.Context(), "alice", "192.0.2.1")
		if wait > 0 {
			t.Fatalf("held back for %v", wait)
		}
		try.Succeeded()
	}
	if n := len(s.Calls()); n > 4 {
		t.Errorf("they asked the store %d times", n)
	}
	// A peer that is held back for an account keeps its tries for others.
	for range 3 {
		if _, wait := tries.Begin(t.Context(), "bob", "192.0.2.9"); wait > 0 {
			t.Fatal(wait)
		}
	}
	for range 20 {
		tries.Begin(t.Context(), "bob", "192.0.2.1")
	}
	if _, wait := tries.Begin(t.Context(), "carol", "192.0.2.1"); wait > 0 {
		t.Errorf("tries that were held back are counted: wait %v", wait)
	}
}

// Strangers cannot keep somebody out where he has signed in before.
func TestAProvenPeerIsNotHeldBackByOthers(t *testing.T) {
	counts := limit.NewCounts()
	tries := counts.Tries("login", 3, time.Hour)
	proven, wait := tries.Begin(t.Context(), "alice", "192.0.2.1")
	if wait > 0 {
		t.Fatal(wait)
	}
	proven.Succeeded()
	busy, _ := tries.Begin(t.Context(), "alice", "192.0.2.2")
	busy.Back()
	for i := range 3 {
		if _, wait := tries.Begin(t.Context(), "alice", "192.0.2."+string(rune('3'+i))); wait > 0 {
			t.Fatalf("try %d: %v", i, wait)
		}
	}
	tries = counts.Tries("login", 3, time.Hour) // after a reload
	if tries.Wait("alice", "192.0.2.2") == 0 {
		t.Error("a peer that has proven nothing has tries of its own")
	}
	for i := range 3 {
		if _, wait := tries.Begin(t.Context(), " Alice", "192.0.2.1:99"); wait > 0 {
			t.Errorf("try %d of the peer that has proven itself: %v", i, wait)
		}
	}
	if tries.Wait("alice", "192.0.2.1") == 0 {
		t.Error("it has tries without end")
	}
	if tries.Wait("bob", "192.0.2.9") > 0 {
		t.Error("somebody else is held back")
	}
}

func TestNodesCountTriesTogether(t *testing.T) {
	s := newShared(t)
	one, two := node(s).Tries("login", 4, time.Hour), node(s).Tries("login", 4, time.Hour)
	for i := range 2 {
		for _, tries := range []*limit.Tries{one, two} {
			if _, wait := tries.Begin(t.Context(), "alice", "192.0.2.1"); wait > 0 {
				t.Fatalf("try %d: %v", i, wait)
			}
		}
	}
	for _, tries := range []*limit.Tries{one, two} {
		if _, wait := tries.Begin(t.Context(), "alice", "192.0.2.1"); wait == 0 {
			t.Error("a fifth try passes")
		}
	}
}

func TestTriesWithoutALimit(t *testing.T) {
	tries := limit.NewCounts().Tries("login", 0, time.Minute)
	for range 100 {
		try, wait := tries.Begin(t.Context(), "alice", "192.0.2.1")
		if wait > 0 || try.Left() != 0 {
			t.Fatalf("wait %v, %d left", wait, try.Left())
		}
		try.Succeeded()
	}
	if tries.Wait("alice", "192.0.2.1") > 0 {
		t.Error("held back")
	}
}

// The names of accounts and peers are what an attacker varies, so neither may grow
// with what is sent.
func TestKeysAreBounded(t *testing.T) {
	if n := len(limit.Account(strings.Repeat("İ", 40000))); n > 3*256 {
		t.Errorf("the key of an account has %d bytes", n)
	}
	if limit.Account("a\xff\x80") != "a" || limit.Account(" Alice\n") != "alice" {
		t.Error("spellings are not folded")
	}
	for _, c := range []struct{ a, b string }{
		{"192.0.2.1", "192.0.2.1:8080"},
		{"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1", "2001:db8::ffff"},
		{"2001:db8::1", "[2001:db8::2]:443"},
		{"fe80::1%eth0", "fe80::2"},
	} {
		if limit.Peer(c.a) != limit.Peer(c.b) {
			t.Errorf("%s and %s are two peers", c.a, c.b)
		}
	}
	for _, c := range []struct{ a, b string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8:0:1::1", "2001:db8:0:2::1"}, {"a", "b"}} {
		if limit.Peer(c.a) == limit.Peer(c.b) {
			t.Errorf("%s and %s are one peer", c.a, c.b)
		}
	}
}
