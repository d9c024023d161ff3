package grant_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// Two nodes with the same keys and one store are one server.
func TestADeviceOverTwoNodes(t *testing.T) {
	e := newEnv(t)
	two := grant.NewService(e.store.Inner(), "test/", derive("server"), config, e.revoker)
	d := startDevice(t, e.Service)
	if _, err := two.FindDevice(t.Context(), d.userCode); err != nil {
		t.Fatal(err)
	}
	allowDevice(t, two, d)
	wantPoll(t, e.Service, d, "")
	wantPoll(t, two, d, "slow_down")
	stranger := grant.NewService(e.store.Inner(), "test/", derive("another server"), config, e.revoker)
	wantPoll(t, stranger, d, "invalid_grant")
	if _, err := stranger.FindDevice(t.Context(), d.userCode); !errors.Is(err, grant.ErrNoDevice) {
		t.Errorf("another server finds the code: %v", err)
	}
}

func TestAStolenStoreHoldsNoCodeOfADevice(t *testing.T) {
	e := newEnv(t)
	d := startDevice(t, e.Service)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(d.code, "mcpd_"))
	if err != nil {
		t.Fatal(err)
	}
	key, r := e.record(t)
	for name, secret := range map[string]string{
		"device code": d.code, "secret": base64.StdEncoding.EncodeToString(raw[30:54]),
		"user code": string(d.userCode), "shown user code": d.userCode.String(),
	} {
		if strings.Contains(key+string(r.Value), secret) {
			t.Errorf("the store has the %s: %s %s", name, key, r.Value)
		}
	}
}

// A store that fails at any call leaves a request that can be gone on with, and
// never says no.
func TestAFaultLeavesNoHalfDevice(t *testing.T) {
	steps := []struct {
		rule string
		do   func(t *testing.T, s *grant.Service, d device) error
	}{
		{"allow", func(t *testing.T, s *grant.Service, d device) error {
			return s.AllowDevice(t.Context(), d.userCode, agreement(d))
		}},
		{"poll", func(t *testing.T, s *grant.Service, d device) error { _, _, err := pollDevice(t, s, d); return err }},
		{"find", func(t *testing.T, s *grant.Service, d device) error {
			_, err := s.FindDevice(t.Context(), d.userCode)
			return err
		}},
		{"deny", func(t *testing.T, s *grant.Service, d device) error {
			return s.DenyDevice(t.Context(), d.userCode, d.id)
		}},
	}
	for _, step := range steps {
		t.Run(step.rule, func(t *testing.T) {
			open := func(*testing.T) store.Store { return memstore.New(0) }
			storetest.FailEachCall(t, open, func(t *testing.T, f *storetest.Faulty) {
				sound := grant.NewService(f.Inner(), "test/", derive("server"), config, storedRevoker{f.Inner()})
				d := startDevice(t, sound)
				if step.rule == "poll" {
					allowDevice(t, sound, d)
				}
				err := step.do(t, grant.NewService(f, "test/", derive("server"), config, storedRevoker{f}), d)
				if f.Injected() == 0 {
					wantCode(t, err, "")
				} else if !errors.Is(err, storetest.ErrInjected) {
					t.Errorf("got %v, want the store's error", err)
				}
				if err := step.do(t, sound, d); err != nil && step.rule != "poll" {
					t.Errorf("again: %v", err)
				}
				if step.rule == "deny" {
					wantPoll(t, sound, d, "access_denied")
				}
			})
		})
	}
}

// A poll whose store failed at either of its two records is repeated after the
// interval, and gets one grant.
func TestAFaultOfAPollCostsOneInterval(t *testing.T) {
	for n := 1; n <= 2; n++ {
		for _, when := range []storetest.Moment{storetest.Before, storetest.During, storetest.After} {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				d := startDevice(t, e.Service)
				allowDevice(t, e.Service, d)
				e.store.FailCall(n, when)
				if _, _, err := pollDevice(t, e.Service, d); !errors.Is(err, storetest.ErrInjected) {
					t.Errorf("call %d fails %s: %v", n, when, err)
				}
				time.Sleep(interval)
				wantPoll(t, e.Service, d, "")
				if all, err := e.ListFor(t.Context(), "alice"); err != nil || len(all) != 1 || len(e.revoker.ids) > 0 {
					t.Errorf("call %d fails %s: %d grants, %v", n, when, len(all), err)
				}
			})
		}
	}
}

func TestCheckDevice(t *testing.T) {
	e := newEnv(t)
	startDevice(t, e.Service)
	key, r := e.record(t)
	name := strings.TrimPrefix(key, "test/device/")
	if err := grant.CheckDevice(name, r.Value); err != nil {
		t.Errorf("a sound request: %v", err)
	}
	change := func(field string, value any) []byte {
		fields := map[string]any{}
		if err := json.Unmarshal(r.Value, &fields); err != nil {
			t.Fatal(err)
		}
		fields[field] = value
		out, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for rule, tc := range map[string]struct {
		name  string
		value []byte
		want  string
	}{
		"another key":       {"x", r.Value, "the key is not that"},
		"no JSON":           {name, []byte("{"), "cannot be read"},
		"a newer version":   {name, change("v", 2), "version 2; this program reads version 1"},
		"no hash":           {name, change("hash", nil), "incomplete"},
		"no client":         {name, change("client_id", ""), "incomplete"},
		"no resource":       {name, change("resource", ""), "incomplete"},
		"no scopes":         {name, change("scopes", nil), "incomplete"},
		"no interval":       {name, change("interval", 0), "incomplete"},
		"no end of its own": {name, change("expires", time.Time{}), "incomplete"},
	} {
		if err := grant.CheckDevice(tc.name, tc.value); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", rule, err, tc.want)
		}
	}
}

func TestADeviceRecordThatCannotBeReadIsNoRefusal(t *testing.T) {
	e := newEnv(t)
	d := startDevice(t, e.Service)
	key, r := e.record(t)
	r.Value = []byte(`{"v":9}`)
	if err := e.store.Inner().Put(t.Context(), key, r); err != nil {
		t.Fatal(err)
	}
	_, _, polled := pollDevice(t, e.Service, d)
	_, found := e.FindDevice(t.Context(), d.userCode)
	for name, err := range map[string]error{"poll": polled, "find": found, "deny": e.DenyDevice(t.Context(), d.userCode, d.id)} {
		if _, refusal := errors.AsType[*oauth.Error](err); err == nil || refusal || errors.Is(err, grant.ErrNoDevice) || errors.Is(err, grant.ErrDecided) {
			t.Errorf("%s: %v, want a fault", name, err)
		}
	}
}
