package grant_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// wantPoll demands what a poll is answered; "" is a grant.
func wantPoll(t testing.TB, s *grant.Service, d device, code string) {
	t.Helper()
	g, refresh, err := pollDevice(t, s, d)
	wantCode(t, err, code)
	if (code == "") != (g != nil && refresh != "") {
		t.Errorf("got %v and %q", g, refresh)
	}
}

const interval = grant.DeviceInterval * time.Second

func TestPollsThatComeTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		d := startDevice(t, e.Service)
		wantPoll(t, e.Service, d, "authorization_pending")
		time.Sleep(interval - time.Second)
		wantPoll(t, e.Service, d, "authorization_pending") // networks shake
		time.Sleep(interval - time.Second - time.Nanosecond)
		wantPoll(t, e.Service, d, "slow_down")
		// It is ten seconds from now on, counted from the last poll that was in time.
		time.Sleep(interval + time.Nanosecond)
		wantPoll(t, e.Service, d, "authorization_pending")
		time.Sleep(interval)
		wantPoll(t, e.Service, d, "slow_down")
		allowDevice(t, e.Service, d)
		wantPoll(t, e.Service, d, "slow_down")
		time.Sleep(15 * time.Second)
		wantPoll(t, e.Service, d, "")
	})
}

// A device that never listens makes the store write no more than one that does.
func TestAFloodOfPollsWritesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		d := startDevice(t, e.Service)
		wantPoll(t, e.Service, d, "authorization_pending")
		writes, last := 0, ""
		for range 1000 {
			wantPoll(t, e.Service, d, "slow_down")
			if _, r := e.record(t); string(r.Value) != last {
				writes, last = writes+1, string(r.Value)
			}
		}
		if writes > 12 {
			t.Errorf("1000 polls have changed the record %d times", writes)
		}
		time.Sleep(time.Minute)
		wantPoll(t, e.Service, d, "authorization_pending")
	})
}

func TestPollRefusals(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		change func(*grant.DeviceRedemption)
		code   string
	}{
		{"another client", func(r *grant.DeviceRedemption) { r.ClientID = "client2" }, "invalid_grant"},
		{"no client", func(r *grant.DeviceRedemption) { r.ClientID = "" }, "invalid_grant"},
		{"another resource", func(r *grant.DeviceRedemption) { r.Resource = "https://mcp.example.com/other" }, "invalid_target"},
		{"no code", func(r *grant.DeviceRedemption) { r.DeviceCode = "" }, "invalid_grant"},
		{"a code that was changed", func(r *grant.DeviceRedemption) { r.DeviceCode = flip(r.DeviceCode, 60) }, "invalid_grant"},
		{"a code that was cut", func(r *grant.DeviceRedemption) { r.DeviceCode = r.DeviceCode[:40] }, "invalid_grant"},
		{"a user that is gone", func(r *grant.DeviceRedemption) {
			r.Accept = func(*grant.Grant) error { return oauth.InvalidGrant("the user has to sign in again") }
		}, "invalid_grant"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				d := startDevice(t, e.Service)
				allowDevice(t, e.Service, d)
				r := grant.DeviceRedemption{DeviceCode: d.code, ClientID: "client1", Resource: resource}
				tc.change(&r)
				g, refresh, err := e.RedeemDevice(t.Context(), r)
				wantCode(t, err, tc.code)
				if g != nil || refresh != "" || len(snapshot(t, e.store.Inner())) != 1 {
					t.Errorf("got %v and %q", g, refresh)
				}
				// Nothing was used up.
				time.Sleep(interval)
				wantPoll(t, e.Service, d, "")
			})
		})
	}
}

// What another client polls is not counted against the one that waits.
func TestAnotherClientSlowsNobodyDown(t *testing.T) {
	e := newEnv(t)
	d := startDevice(t, e.Service)
	e.unchangedRecord(t, func() {
		for range 3 {
			_, _, err := e.RedeemDevice(t.Context(), grant.DeviceRedemption{DeviceCode: d.code, ClientID: "client2"})
			wantCode(t, err, "invalid_grant")
		}
	})
	wantPoll(t, e.Service, d, "authorization_pending")
}

// unchangedRecord is unchanged for a request of a device.
func (e *env) unchangedRecord(t testing.TB, do func()) {
	t.Helper()
	_, before := e.record(t)
	do()
	if _, after := e.record(t); string(before.Value) != string(after.Value) {
		t.Errorf("the record has changed\nfrom %s\nto   %s", before.Value, after.Value)
	}
}

func TestJunkDeviceCodesDoNotReachTheStore(t *testing.T) {
	e := newEnv(t)
	code := e.allow(t, consent("request1"))
	before := len(e.store.Calls())
	for _, junk := range []string{"", "mcpd_", "mcpd_" + strings.Repeat("A", 94), code, "mcpd_" + strings.TrimPrefix(code, "mcpc_")} {
		_, _, err := e.RedeemDevice(t.Context(), grant.DeviceRedemption{DeviceCode: junk, ClientID: "client1"})
		wantCode(t, err, "invalid_grant")
		if e.IsDeviceCode(junk) {
			t.Errorf("%q is a device code", junk)
		}
	}
	if calls := e.store.Calls()[before:]; len(calls) > 0 {
		t.Errorf("the store was asked: %v", calls)
	}
}

// An answer that was lost can be had again for a while, and is the same.
func TestALostAnswerCanBeHadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		d := startDevice(t, e.Service)
		allowDevice(t, e.Service, d)
		g, refresh, err := pollDevice(t, e.Service, d)
		wantCode(t, err, "")
		time.Sleep(refreshGrace)
		again, same, err := pollDevice(t, e.Service, d)
		wantCode(t, err, "")
		if again.ID != g.ID || same != refresh {
			t.Errorf("got %s and %s, then %s and %s", g.ID, refresh, again.ID, same)
		}
		if all, err := e.ListFor(t.Context(), "alice"); err != nil || len(all) != 1 {
			t.Errorf("%d grants, %v", len(all), err)
		}
	})
}

func TestASecondRedemptionRevokes(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		before func(t *testing.T, e *env, refresh string)
	}{
		{"after the window", func(*testing.T, *env, string) { time.Sleep(refreshGrace + time.Second) }},
		{"when the answer has been used", func(t *testing.T, e *env, refresh string) {
			e.refresh(t, refresh)
			time.Sleep(interval)
		}},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				d := startDevice(t, e.Service)
				allowDevice(t, e.Service, d)
				g, refresh, err := pollDevice(t, e.Service, d)
				wantCode(t, err, "")
				tc.before(t, e, refresh)
				_, _, err = pollDevice(t, e.Service, d)
				wantCode(t, err, "invalid_grant")
				if !grant.Reused(err) || !e.revoker.has(g.ID) {
					t.Errorf("%v; access tokens ended: %v", err, e.revoker.has(g.ID))
				}
				_, _, err = e.Refresh(t.Context(), renewal(refresh))
				wantCode(t, err, "invalid_grant")
				time.Sleep(interval)
				wantPoll(t, e.Service, d, "invalid_grant")
			})
		})
	}
}

// A grant that lives shorter than the device code is remembered all the same, or
// the code could be used anew.
func TestAShortGrantCannotBeHadTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(0)
		t.Cleanup(func() { _ = s.Close() })
		cfg := config
		cfg.RefreshLifetime, cfg.RefreshGrace = time.Second, time.Second
		service := grant.NewService(s, "test/", derive("server"), cfg, &revoker{})
		d := startDevice(t, service)
		allowDevice(t, service, d)
		wantPoll(t, service, d, "")
		time.Sleep(grant.DeviceLifetime - time.Second)
		wantPoll(t, service, d, "invalid_grant")
	})
}

func TestOfPollsAtOnceOneCounts(t *testing.T) {
	e := newEnv(t)
	d := startDevice(t, e.Service)
	allowDevice(t, e.Service, d)
	var mu sync.Mutex
	answers := map[string]int{}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, _, err := pollDevice(t, e.Service, d)
			code := ""
			if refusal, ok := errors.AsType[*oauth.Error](err); ok {
				code = refusal.Code
			}
			mu.Lock()
			defer mu.Unlock()
			answers[code]++
		})
	}
	all.Wait()
	if answers[""] != 1 || answers["slow_down"] != 19 {
		t.Errorf("answers %v, want one grant and 19 times slow_down", answers)
	}
	if len(e.revoker.ids) > 0 {
		t.Error("the polls have revoked each other's grant")
	}
}
