package grant_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestRefreshTokensRotate(t *testing.T) {
	e := newEnv(t)
	_, token := e.connect(t, consent("request1"))
	seen := map[string]bool{token: true}
	for i := range 10 {
		g, next := e.refresh(t, token)
		if seen[next] {
			t.Fatalf("rotation %d gives a token that was there before", i)
		}
		if g.Refresh.Generation != uint32(i+2) {
			t.Fatalf("rotation %d leads to generation %d", i, g.Refresh.Generation)
		}
		seen[next], token = true, next
	}
	e.wantRevoked(t, false)
}

func TestOneOfManyRefreshesRotates(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		e := newEnv(t)
		_, token := e.connect(t, consent("request1"))
		if repeat {
			e.store.RepeatUpdates()
		}
		answers := make([]string, 100)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				_, next, err := e.Refresh(t.Context(), renewal(token))
				wantCode(t, err, "")
				answers[i] = next
			})
		}
		wg.Wait()
		for _, next := range answers {
			if next != answers[0] || next == token {
				t.Fatalf("two answers differ: %s and %s", next, answers[0])
			}
		}
		if g := e.stored(t); g.Refresh.Generation != 2 {
			t.Errorf("the grant is at generation %d, want one rotation", g.Refresh.Generation)
		}
		e.wantRevoked(t, false)
		if _, after := e.refresh(t, answers[0]); after == answers[0] {
			t.Error("the successor does not rotate")
		}
	}
}

func TestReplayOfARefreshToken(t *testing.T) {
	for _, tc := range []struct {
		rule      string
		rotations int
		later     time.Duration
		revoked   bool
	}{
		{"at once it gets the same successor", 1, 0, false},
		{"at the end of the grace time it gets the same successor", 1, refreshGrace, false},
		{"after the grace time it revokes the grant", 1, refreshGrace + time.Nanosecond, true},
		{"weeks later it revokes the grant", 1, 20 * 24 * time.Hour, true},
		{"of two generations ago it revokes the grant at once", 2, 0, true},
		{"of many generations ago it revokes the grant", 5, time.Hour, true},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				_, first := e.connect(t, consent("request1"))
				current := first
				for range tc.rotations {
					_, current = e.refresh(t, current)
				}
				time.Sleep(tc.later)
				_, got, err := e.Refresh(t.Context(), renewal(first))
				e.wantRevoked(t, tc.revoked)
				if !tc.revoked {
					wantCode(t, err, "")
					if got != current {
						t.Error("the successor is another one")
					}
					return
				}
				wantCode(t, err, "invalid_grant")
				if !grant.Reused(err) {
					t.Errorf("%v is not reported as a replay", err)
				}
				for _, token := range []string{first, current} {
					_, _, err = e.Refresh(t.Context(), renewal(token))
					wantCode(t, err, "invalid_grant")
					if grant.Reused(err) {
						t.Error("the replay is reported twice")
					}
				}
			})
		})
	}
}

// The grace time runs from the rotation, however often it is used meanwhile.
func TestReplaysDoNotExtendTheGraceTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		_, first := e.connect(t, consent("request1"))
		e.refresh(t, first)
		for range 4 {
			time.Sleep(refreshGrace / 4)
			e.refresh(t, first)
		}
		time.Sleep(time.Second)
		_, _, err := e.Refresh(t.Context(), renewal(first))
		wantCode(t, err, "invalid_grant")
		e.wantRevoked(t, true)
	})
}

func TestRefreshRefusals(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		change func(*grant.Renewal)
		code   string
	}{
		{"another client", func(r *grant.Renewal) { r.ClientID = "client2" }, "invalid_grant"},
		{"no client", func(r *grant.Renewal) { r.ClientID = "" }, "invalid_grant"},
		{"another resource", func(r *grant.Renewal) { r.Resource = "https://mcp.example.com/other" }, "invalid_target"},
		{"scopes that were not granted", func(r *grant.Renewal) { r.Scope = oauth.Scopes{"root"} }, "invalid_scope"},
		{"no token", func(r *grant.Renewal) { r.Token = "" }, "invalid_grant"},
		{"a token that was changed", func(r *grant.Renewal) { r.Token = flip(r.Token, 20) }, "invalid_grant"},
		{"a token that was cut", func(r *grant.Renewal) { r.Token = r.Token[:len(r.Token)-1] }, "invalid_grant"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				_, old := e.connect(t, consent("request1"))
				_, token := e.refresh(t, old)
				time.Sleep(time.Hour)
				// Not even the replay of an old token by another client counts:
				// anybody could otherwise end other people's access.
				for _, presented := range []string{token, old} {
					e.unchanged(t, func() {
						r := renewal(presented)
						tc.change(&r)
						g, next, err := e.Refresh(t.Context(), r)
						wantCode(t, err, tc.code)
						if g != nil || next != "" || grant.Reused(err) {
							t.Errorf("got %v, %q; reuse: %v", g, next, grant.Reused(err))
						}
					})
				}
				e.refresh(t, token)
			})
		})
	}
}

func TestScopeNarrowsForOneTokenOnly(t *testing.T) {
	for _, tc := range []struct {
		rule            string
		requested, want oauth.Scopes
	}{
		{"nothing asked is everything granted", nil, oauth.Scopes{"mcp", "admin"}},
		{"a part", oauth.Scopes{"mcp"}, oauth.Scopes{"mcp"}},
		{"more than was granted", oauth.Scopes{"root", "admin"}, oauth.Scopes{"admin"}},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			e := newEnv(t)
			_, token := e.connect(t, consent("request1"))
			r := renewal(token)
			r.Scope = tc.requested
			g, next, err := e.Refresh(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, g.Narrowed(tc.requested)); diff != "" {
				t.Error(diff)
			}
			g, _ = e.refresh(t, next)
			if diff := cmp.Diff(oauth.Scopes{"mcp", "admin"}, g.Scopes); diff != "" {
				t.Errorf("the grant itself has changed: %s", diff)
			}
		})
	}
}

func TestExpirySlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		_, token := e.connect(t, consent("request1"))
		for range 6 {
			time.Sleep(refreshLifetime - time.Second)
			_, token = e.refresh(t, token)
		}
		time.Sleep(refreshLifetime)
		_, _, err := e.Refresh(t.Context(), renewal(token))
		wantCode(t, err, "invalid_grant")
		if left := snapshot(t, e.store.Inner()); len(left) != 0 {
			t.Errorf("%d records outlive the grant", len(left))
		}
	})
}

// A store that lost its last write gets a token that it does not know yet. That
// is no sign of theft.
func TestATokenOfALostWriteRevokesNothing(t *testing.T) {
	for _, rotations := range []int{1, 2} {
		e := newEnv(t)
		_, first := e.connect(t, consent("request1"))
		key, lost := e.record(t)
		token := first
		for range rotations {
			_, token = e.refresh(t, token)
		}
		if err := e.store.Inner().Put(t.Context(), key, lost); err != nil {
			t.Fatal(err)
		}
		e.unchanged(t, func() {
			_, _, err := e.Refresh(t.Context(), renewal(token))
			wantCode(t, err, "invalid_grant")
			if grant.Reused(err) {
				t.Error("reported as a replay")
			}
		})
		e.wantRevoked(t, false)
		e.refresh(t, first)
	}
}

func TestCodesAndRefreshTokensDoNotPassForEachOther(t *testing.T) {
	e := newEnv(t)
	code := e.allow(t, consent("request1"))
	asRefresh := "mcpr_" + strings.TrimPrefix(code, "mcpc_")
	for _, token := range []string{code, asRefresh} {
		_, _, err := e.Refresh(t.Context(), renewal(token))
		wantCode(t, err, "invalid_grant")
	}
	_, refresh, err := e.Redeem(t.Context(), redemption(code))
	wantCode(t, err, "")
	asCode := "mcpc_" + strings.TrimPrefix(refresh, "mcpr_")
	for _, code := range []string{refresh, asCode} {
		_, _, err := e.Redeem(t.Context(), redemption(code))
		wantCode(t, err, "invalid_grant")
	}
	e.wantRevoked(t, false)
}

func TestAGrantWhoseCodeIsUnusedHasNoRefreshToken(t *testing.T) {
	// A second server with the same keys and a store of its own knows which
	// refresh token the code will lead to.
	e, twin := newEnv(t), newEnv(t)
	e.allow(t, consent("request1"))
	_, refresh := twin.connect(t, consent("request1"))
	e.unchanged(t, func() {
		_, _, err := e.Refresh(t.Context(), renewal(refresh))
		wantCode(t, err, "invalid_grant")
	})
}

func TestJunkNeverTouchesTheStore(t *testing.T) {
	e := newEnv(t)
	code := e.allow(t, consent("request1"))
	_, refresh, err := e.Redeem(t.Context(), redemption(code))
	wantCode(t, err, "")
	foreign := grant.NewService(newEnv(t).store, "test/", derive("another server"), config, &revoker{})
	foreignCode, err := foreign.Allow(t.Context(), consent("request1"))
	if err != nil {
		t.Fatal(err)
	}
	n := len(refresh) - len("mcpr_")
	junk := []string{
		"", "x", "mcpc_", "mcpr_", strings.Repeat("A", n), "mcpr_" + strings.Repeat("A", n), "mcpc_" + strings.Repeat("A", n),
		"mcpr_" + strings.Repeat("\n", n), "mcpc_" + strings.Repeat("\r\n", n/2), "mcpr_" + strings.Repeat("=", n),
		refresh + "A", refresh + "=", " " + refresh, refresh + "\n", strings.ToUpper(refresh), refresh[:len(refresh)-1] + "\n",
		strings.Repeat("mcpr_", 10_000), foreignCode, "mcpr_" + strings.TrimPrefix(foreignCode, "mcpc_"),
	}
	for at := range len(refresh) {
		junk = append(junk, flip(refresh, at), flip(code, at))
	}
	before := len(e.store.Calls())
	for _, s := range junk {
		if s == refresh || s == code {
			continue
		}
		_, _, err := e.Redeem(t.Context(), redemption(s))
		wantCode(t, err, "invalid_grant")
		_, _, err = e.Refresh(t.Context(), renewal(s))
		wantCode(t, err, "invalid_grant")
		_, err = e.ClientOf(t.Context(), s)
		wantCode(t, err, "invalid_grant")
		if _, err := e.RevokeRefreshToken(t.Context(), s, "client1"); err != nil {
			t.Errorf("revoking %q: %v", s, err)
		}
	}
	if calls := e.store.Calls()[before:]; len(calls) != 0 {
		t.Errorf("%d pieces of junk made %d calls to the store", len(junk), len(calls))
	}
	e.refresh(t, refresh)
}
