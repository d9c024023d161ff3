package grant_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// of returns a consent of another user.
func of(subject, request string) grant.Consent {
	c := consent(request)
	c.User.Subject = subject
	return c
}

func TestListForHasTheActiveGrantsOfOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		first, _ := e.connect(t, of("alice", "request1"))
		second, token := e.connect(t, of("alice", "request2"))
		revoked, _ := e.connect(t, of("alice", "request3"))
		if err := e.Revoke(t.Context(), revoked.ID); err != nil {
			t.Fatal(err)
		}
		e.allow(t, of("alice", "request4")) // a code that nobody has redeemed
		if err := e.Deny(t.Context(), of("alice", "request5")); err != nil {
			t.Fatal(err)
		}
		e.connect(t, of("bob", "request1"))
		e.connect(t, of("alic", "request1"))
		e.connect(t, of("", "request1"))

		list := func() (ids []string) {
			t.Helper()
			grants, err := e.ListFor(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range grants {
				ids = append(ids, g.ID)
			}
			slices.Sort(ids)
			return ids
		}
		want := []string{first.ID, second.ID}
		slices.Sort(want)
		if diff := cmp.Diff(want, list()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(refreshLifetime / 2)
		e.refresh(t, token)
		time.Sleep(refreshLifetime / 2)
		if diff := cmp.Diff([]string{second.ID}, list()); diff != "" {
			t.Errorf("after the first one has expired: %s", diff)
		}
	})
}

// A code that is on its way to the client is not listed, and ends all the same.
func TestRevokeAllForEndsCodesAsWell(t *testing.T) {
	e := newEnv(t)
	_, token := e.connect(t, of("alice", "request1"))
	_, other := e.connect(t, of("alice", "another"))
	code, kept := e.allow(t, of("alice", "request2")), e.allow(t, of("bob", "request1"))
	ended, err := e.RevokeAllFor(t.Context(), "alice", func(g *grant.Grant) bool { return g.ID != e.KeyOf(other) })
	if err != nil || ended != 1 {
		t.Errorf("%d active grants have ended, %v; want 1", ended, err)
	}
	_, _, err = e.Redeem(t.Context(), redemption(code))
	wantCode(t, err, "invalid_grant")
	_, _, err = e.Refresh(t.Context(), renewal(token))
	wantCode(t, err, "invalid_grant")
	_, _, redeemErr := e.Redeem(t.Context(), redemption(kept))
	_, _, refreshErr := e.Refresh(t.Context(), renewal(other))
	for name, err := range map[string]error{"bob's code": redeemErr, "the grant that was not picked": refreshErr} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ended, err := e.RevokeAllFor(t.Context(), "alice", func(*grant.Grant) bool { return true }); err != nil || ended != 1 {
		t.Errorf("the rest: %d, %v", ended, err)
	}
}

func TestRevokeForReachesOwnGrantsOnly(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, of("alice", "request1"))
	for _, tc := range []struct{ rule, subject, id string }{
		{"another user", "bob", g.ID},
		{"no user", "", g.ID},
		{"an unknown grant", "alice", strings.Repeat("0", len(g.ID))},
		{"no id", "alice", ""},
		{"an id with a slash", "alice", g.ID[:20] + "/" + g.ID[21:]},
		{"an id that would leave the user's grants", "alice", strings.Repeat("../", len(g.ID)/3)},
		{"an id in upper case", "alice", strings.ToUpper(g.ID)},
		{"an id with a NUL", "alice", g.ID[:len(g.ID)-1] + "\x00"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			e.unchanged(t, func() {
				if got, err := e.RevokeFor(t.Context(), tc.subject, tc.id); !errors.Is(err, store.ErrNotFound) || got != nil {
					t.Errorf("got %v, %v; want ErrNotFound", got, err)
				}
			})
		})
	}
	e.wantRevoked(t, false)
	got, err := e.RevokeFor(t.Context(), "alice", g.ID)
	if err != nil || got.ClientID != "client1" {
		t.Errorf("got %+v, %v", got, err)
	}
	e.wantRevoked(t, true)
	_, _, err = e.Refresh(t.Context(), renewal(token))
	wantCode(t, err, "invalid_grant")
}

func TestRevoke(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	for _, id := range []string{"", "x", strings.Repeat("0", len(g.ID)), strings.Repeat("A", 26)} {
		if err := e.Revoke(t.Context(), id); err != nil {
			t.Errorf("an unknown id %q: %v", id, err)
		}
	}
	e.wantRevoked(t, false)
	for range 2 {
		if err := e.Revoke(t.Context(), g.ID); err != nil {
			t.Fatal(err)
		}
		e.wantRevoked(t, true)
	}
	_, _, err := e.Refresh(t.Context(), renewal(token))
	wantCode(t, err, "invalid_grant")
	if grant.Reused(err) {
		t.Error("a token of a revoked grant is reported as a replay")
	}
}

func TestRevokeBeforeTheCodeIsRedeemed(t *testing.T) {
	e := newEnv(t)
	code := e.allow(t, consent("request1"))
	if err := e.Revoke(t.Context(), e.stored(t).ID); err != nil {
		t.Fatal(err)
	}
	_, _, err := e.Redeem(t.Context(), redemption(code))
	wantCode(t, err, "invalid_grant")
	if e.stored(t).Code.Used {
		t.Error("the code of a revoked grant was used up")
	}
}

func TestRevokeRefreshToken(t *testing.T) {
	for _, tc := range []struct {
		rule, client string
		old, revoked bool
	}{
		{"by its client", "client1", false, true},
		{"by its client, one that was replaced", "client1", true, true},
		{"by another client it does nothing", "client2", false, false},
		{"by no client it does nothing", "", false, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			e := newEnv(t)
			_, old := e.connect(t, consent("request1"))
			_, token := e.refresh(t, old)
			presented := token
			if tc.old {
				presented = old
			}
			for _, want := range []bool{tc.revoked, false} {
				if ended, err := e.RevokeRefreshToken(t.Context(), presented, tc.client); err != nil || ended != want {
					t.Errorf("ended: %v, want %v; got %v, but the answer tells nothing about the token", ended, want, err)
				}
			}
			e.wantRevoked(t, tc.revoked)
			want := ""
			if tc.revoked {
				want = "invalid_grant"
			}
			_, _, err := e.Refresh(t.Context(), renewal(token))
			wantCode(t, err, want)
		})
	}
}

func TestClientOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		_, old := e.connect(t, consent("request1"))
		_, token := e.refresh(t, old)
		for _, presented := range []string{token, old} {
			if got, err := e.ClientOf(t.Context(), presented); got != "client1" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
		time.Sleep(refreshLifetime)
		_, err := e.ClientOf(t.Context(), token)
		wantCode(t, err, "invalid_grant")
	})
}
