package grant_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestRedeemGivesWhatWasAllowed(t *testing.T) {
	e := newEnv(t)
	c := consent("request1")
	g, refresh := e.connect(t, c)
	if refresh == "" || g.ID == "" {
		t.Errorf("refresh token %q, id %q", refresh, g.ID)
	}
	if diff := cmp.Diff(c.User, g.User); diff != "" {
		t.Error(diff)
	}
	if g.ClientID != c.ClientID || g.Resource != c.Resource || !g.Scopes.Within(c.Scopes) || len(g.Scopes) != len(c.Scopes) {
		t.Errorf("got %+v", g)
	}
	if !g.Active(time.Now()) {
		t.Error("the grant is not active")
	}
	e.wantRevoked(t, false)
}

func TestRedeemRefusals(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		change func(*grant.Redemption)
		code   string // "" when it is accepted
	}{
		{"everything is right", func(*grant.Redemption) {}, ""},
		{"redirect_uri may be left out", func(r *grant.Redemption) { r.RedirectURI = "" }, ""},
		{"resource may be left out", func(r *grant.Redemption) { r.Resource = "" }, ""},

		{"another verifier", func(r *grant.Redemption) { r.Verifier = wrong }, "invalid_grant"},
		{"no verifier", func(r *grant.Redemption) { r.Verifier = "" }, "invalid_grant"},
		{"the challenge as verifier", func(r *grant.Redemption) { r.Verifier = oauth.S256(verifier) }, "invalid_grant"},
		{"another client", func(r *grant.Redemption) { r.ClientID = "client2" }, "invalid_grant"},
		{"no client", func(r *grant.Redemption) { r.ClientID = "" }, "invalid_grant"},
		{"another redirect_uri", func(r *grant.Redemption) { r.RedirectURI = "http://localhost:33418/other" }, "invalid_grant"},
		{"a redirect_uri with another port", func(r *grant.Redemption) { r.RedirectURI = "http://localhost:1/callback" }, "invalid_grant"},
		{"another resource", func(r *grant.Redemption) { r.Resource = "https://mcp.example.com/other" }, "invalid_target"},
		{"no code", func(r *grant.Redemption) { r.Code = "" }, "invalid_grant"},
		{"a code that was changed", func(r *grant.Redemption) { r.Code = flip(r.Code, 20) }, "invalid_grant"},
		{"a code that was cut", func(r *grant.Redemption) { r.Code = r.Code[:len(r.Code)-1] }, "invalid_grant"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			e := newEnv(t)
			code := e.allow(t, consent("request1"))
			r := redemption(code)
			tc.change(&r)
			if tc.code == "" {
				_, _, err := e.Redeem(t.Context(), r)
				wantCode(t, err, "")
				return
			}
			e.unchanged(t, func() {
				g, refresh, err := e.Redeem(t.Context(), r)
				wantCode(t, err, tc.code)
				if g != nil || refresh != "" || grant.Reused(err) {
					t.Errorf("got %v, %q; reuse: %v", g, refresh, grant.Reused(err))
				}
			})
			// Nothing was used up.
			_, _, err := e.Redeem(t.Context(), redemption(code))
			wantCode(t, err, "")
			e.wantRevoked(t, false)
		})
	}
}

// flip changes one character of a handle to another one of the alphabet.
func flip(s string, at int) string {
	b := []byte(s)
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

func TestPlainChallenge(t *testing.T) {
	e := newEnv(t)
	c := consent("request1")
	c.Challenge, c.ChallengeMethod = verifier, oauth.ChallengePlain
	r := redemption(e.allow(t, c))
	r.Verifier = wrong
	_, _, err := e.Redeem(t.Context(), r)
	wantCode(t, err, "invalid_grant")
	r.Verifier = verifier
	_, _, err = e.Redeem(t.Context(), r)
	wantCode(t, err, "")
}

func TestCodeExpires(t *testing.T) {
	for _, tc := range []struct {
		rule string
		age  time.Duration
		code string
	}{
		{"in its last moment it is good", codeLifetime - time.Nanosecond, ""},
		{"at its end it is not", codeLifetime, "invalid_grant"},
		{"nor when its record is gone", 24 * time.Hour, "invalid_grant"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				code := e.allow(t, consent("request1"))
				time.Sleep(tc.age)
				_, _, err := e.Redeem(t.Context(), redemption(code))
				wantCode(t, err, tc.code)
				if grant.Reused(err) {
					t.Error("an expired code counts as a replay")
				}
			})
		})
	}
}

func TestOneOfManyRedemptionsWins(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		e := newEnv(t)
		if repeat {
			e.store.RepeatUpdates()
		}
		code := e.allow(t, consent("request1"))
		var won, reused atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, _, err := e.Redeem(t.Context(), redemption(code))
				switch {
				case err == nil:
					won.Add(1)
				case grant.Reused(err):
					reused.Add(1)
				default:
					wantCode(t, err, "invalid_grant")
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || reused.Load() != 1 {
			t.Errorf("%d redemptions won and %d were reported as replays, want one each", won.Load(), reused.Load())
		}
		// The second one was a replay with the right verifier.
		e.wantRevoked(t, true)
	}
}

func TestReplayOfACode(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		change func(*grant.Redemption)
		code   string
		theft  bool
	}{
		{"with the right verifier it revokes the grant", func(*grant.Redemption) {}, "invalid_grant", true},
		{"without the redirect_uri it does so too", func(r *grant.Redemption) { r.RedirectURI = "" }, "invalid_grant", true},
		{"with another verifier it does nothing", func(r *grant.Redemption) { r.Verifier = wrong }, "invalid_grant", false},
		{"by another client it does nothing", func(r *grant.Redemption) { r.ClientID = "client2" }, "invalid_grant", false},
		{"with another redirect_uri it does nothing", func(r *grant.Redemption) { r.RedirectURI = "x:/y" }, "invalid_grant", false},
		{"for another resource it does nothing", func(r *grant.Redemption) { r.Resource = "https://x" }, "invalid_target", false},
	} {
		for _, later := range []time.Duration{0, codeLifetime, 20 * 24 * time.Hour} {
			t.Run(tc.rule+" after "+later.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newEnv(t)
					code := e.allow(t, consent("request1"))
					_, refresh, err := e.Redeem(t.Context(), redemption(code))
					wantCode(t, err, "")
					time.Sleep(later)
					r := redemption(code)
					tc.change(&r)
					_, _, err = e.Redeem(t.Context(), r)
					wantCode(t, err, tc.code)
					if grant.Reused(err) != tc.theft {
						t.Errorf("reported as a replay: %v, want %v", grant.Reused(err), tc.theft)
					}
					e.wantRevoked(t, tc.theft)
					want := ""
					if tc.theft {
						want = "invalid_grant"
					}
					_, _, err = e.Refresh(t.Context(), renewal(refresh))
					wantCode(t, err, want)
				})
			})
		}
	}
}

func TestAReplayIsReportedOnce(t *testing.T) {
	e := newEnv(t)
	code := e.allow(t, consent("request1"))
	for i, want := range []bool{false, true, false, false} {
		if _, _, err := e.Redeem(t.Context(), redemption(code)); grant.Reused(err) != want {
			t.Errorf("redemption %d: %v, reported as a replay: %v, want %v", i+1, err, !want, want)
		}
	}
}

func TestDecisions(t *testing.T) {
	const (
		allow  = "allow"
		deny   = "deny"
		redeem = "redeem"
		expire = "expire"
	)
	for _, tc := range []struct {
		rule  string
		steps []string
		last  error // of the last step
	}{
		{"a form that was sent twice gets the same code", []string{allow, allow}, nil},
		{"denying twice is denying once", []string{deny, deny}, nil},
		{"what was denied cannot be allowed", []string{deny, allow}, grant.ErrDecided},
		{"what was allowed cannot be denied", []string{allow, deny}, grant.ErrDecided},
		{"a used code is not given again", []string{allow, redeem, allow}, grant.ErrDecided},
		{"a used code cannot be denied", []string{allow, redeem, deny}, grant.ErrDecided},
		{"a revoked grant is not given again", []string{allow, redeem, redeem, allow}, grant.ErrDecided},
		{"an expired code is not given again", []string{allow, expire, allow}, grant.ErrDecided},
		{"a denial lasts as long as the request", []string{deny, expire, expire, allow}, grant.ErrDecided},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				var codes []string
				var last error
				for _, step := range tc.steps {
					switch step {
					case allow:
						var code string
						if code, last = e.Allow(t.Context(), consent("request1")); last == nil {
							codes = append(codes, code)
						}
					case deny:
						last = e.Deny(t.Context(), consent("request1"))
					case redeem:
						_, _, _ = e.Redeem(t.Context(), redemption(codes[0]))
					case expire:
						time.Sleep(grant.RequestLifetime / 2)
					}
				}
				if !errors.Is(last, tc.last) {
					t.Errorf("got %v, want %v", last, tc.last)
				}
				for _, code := range codes {
					if code != codes[0] {
						t.Error("one request has two codes")
					}
				}
				if len(snapshot(t, e.store.Inner())) != 1 {
					t.Error("one request has made two records")
				}
			})
		})
	}
}

func TestASecondAllowChangesNothing(t *testing.T) {
	e := newEnv(t)
	first := consent("request1")
	first.Scopes = oauth.Scopes{"mcp"}
	code := e.allow(t, first)
	e.unchanged(t, func() {
		more := consent("request1")
		more.Challenge = oauth.S256(wrong)
		if again := e.allow(t, more); again != code {
			t.Error("got another code")
		}
	})
}

func TestADeniedRequestHasNoCode(t *testing.T) {
	e := newEnv(t)
	other := newEnv(t)
	code := other.allow(t, consent("request1")) // the code that the request would have had
	if err := e.Deny(t.Context(), consent("request1")); err != nil {
		t.Fatal(err)
	}
	e.unchanged(t, func() {
		_, _, err := e.Redeem(t.Context(), redemption(code))
		wantCode(t, err, "invalid_grant")
	})
	if g := e.stored(t); g.Active(time.Now()) || !g.Denied {
		t.Errorf("got %+v", g)
	}
}

func TestRequestsHaveCodesOfTheirOwn(t *testing.T) {
	e := newEnv(t)
	codes := map[string]bool{}
	for _, request := range []string{"request1", "request2", "Request1", ""} {
		codes[e.allow(t, consent(request))] = true
	}
	bob := consent("request1")
	bob.User.Subject = "bob"
	codes[e.allow(t, bob)] = true
	if len(codes) != 5 {
		t.Errorf("five consents have %d codes", len(codes))
	}
}
