package grant_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// device is a device that waits.
type device struct {
	code     string
	userCode oauth.UserCode
	id       string
}

func startDevice(t testing.TB, s *grant.Service) device {
	t.Helper()
	code, userCode, err := s.StartDevice(t.Context(), grant.DeviceRequest{
		ClientID: "client1", Resource: resource, Scopes: oauth.Scopes{"mcp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.FindDevice(t.Context(), userCode)
	if err != nil {
		t.Fatal(err)
	}
	return device{code, userCode, found.ID()}
}

func agreement(d device) grant.Consent {
	return grant.Consent{
		Request: d.id, User: login.Identity{Subject: "alice", Name: "Alice", Provider: "local"},
		ClientID: "client1", Resource: resource, Scopes: oauth.Scopes{"mcp", "admin"},
	}
}

func allowDevice(t testing.TB, s *grant.Service, d device) {
	t.Helper()
	if err := s.AllowDevice(t.Context(), d.userCode, agreement(d)); err != nil {
		t.Fatal(err)
	}
}

func pollDevice(t testing.TB, s *grant.Service, d device) (*grant.Grant, string, error) {
	t.Helper()
	return s.RedeemDevice(t.Context(), grant.DeviceRedemption{DeviceCode: d.code, ClientID: "client1", Resource: resource})
}

func TestADeviceWaitsAndGetsWhatWasAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		d := startDevice(t, e.Service)
		wantPoll(t, e.Service, d, "authorization_pending")
		time.Sleep(interval)
		wantPoll(t, e.Service, d, "authorization_pending")
		allowDevice(t, e.Service, d)
		time.Sleep(interval)
		g, refresh, err := pollDevice(t, e.Service, d)
		wantCode(t, err, "")
		if g.User.Subject != "alice" || g.ClientID != "client1" || g.Resource != resource || g.Scopes.String() != "mcp admin" || !g.Active(time.Now()) {
			t.Errorf("got %+v", g)
		}
		if all, err := e.ListFor(t.Context(), "alice"); err != nil || len(all) != 1 || all[0].ID != g.ID {
			t.Errorf("the user's apps are %v, %v", all, err)
		}
		e.refresh(t, refresh)
	})
}

func TestADeniedDeviceIsTold(t *testing.T) {
	e := newEnv(t)
	d := startDevice(t, e.Service)
	wantCode(t, e.DenyDevice(t.Context(), d.userCode, d.id), "")
	// However often it asks, this is no news that it has to wait for.
	for range 3 {
		wantPoll(t, e.Service, d, "access_denied")
	}
}

func TestADeviceCodeExpires(t *testing.T) {
	for _, tc := range []struct {
		rule    string
		age     time.Duration
		allowed bool
		want    string
	}{
		{"in its last moment it is good", grant.DeviceLifetime - time.Nanosecond, true, ""},
		{"and can still be waited for", grant.DeviceLifetime - time.Nanosecond, false, "authorization_pending"},
		{"at its end it is not", grant.DeviceLifetime, true, "expired_token"},
		{"nor a day later", 24 * time.Hour, false, "expired_token"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				d := startDevice(t, e.Service)
				if tc.allowed {
					allowDevice(t, e.Service, d)
				}
				time.Sleep(tc.age)
				before := len(e.store.Calls())
				wantPoll(t, e.Service, d, tc.want)
				if tc.want == "expired_token" && len(e.store.Calls()) > before {
					t.Error("the store was asked about a code that says itself that it is over")
				}
			})
		})
	}
}

func TestARecordThatIsGoneIsAnExpiredCode(t *testing.T) {
	e := newEnv(t)
	d := startDevice(t, e.Service)
	for key := range snapshot(t, e.store.Inner()) {
		if err := e.store.Inner().Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	wantPoll(t, e.Service, d, "expired_token")
	if err := e.AllowDevice(t.Context(), d.userCode, agreement(d)); !errors.Is(err, grant.ErrDecided) {
		t.Errorf("allowing it: %v", err)
	}
}

func TestARequestOfADeviceIsDecidedOnce(t *testing.T) {
	bob := func(d device) grant.Consent {
		c := agreement(d)
		c.User.Subject = "bob"
		return c
	}
	for _, tc := range []struct {
		rule          string
		first, second func(e *env, d device) error
		want          error
		poll          string
	}{
		{"yes, twice", allowAs(agreement), allowAs(agreement), nil, ""},
		{"yes, and another yes", allowAs(agreement), allowAs(bob), grant.ErrDecided, ""},
		{"yes, then no", allowAs(agreement), denyIt, grant.ErrDecided, ""},
		{"no, then yes", denyIt, allowAs(agreement), grant.ErrDecided, "access_denied"},
		{"no, twice", denyIt, denyIt, nil, "access_denied"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			e := newEnv(t)
			d := startDevice(t, e.Service)
			if err := tc.first(e, d); err != nil {
				t.Fatal(err)
			}
			if err := tc.second(e, d); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if _, err := e.FindDevice(t.Context(), d.userCode); !errors.Is(err, grant.ErrDecided) {
				t.Errorf("it can still be found: %v", err)
			}
			wantPoll(t, e.Service, d, tc.poll)
			if tc.poll == "" {
				if all, err := e.ListFor(t.Context(), "alice"); err != nil || len(all) != 1 {
					t.Errorf("alice has %d grants, %v", len(all), err)
				}
			}
		})
	}
}

func allowAs(c func(device) grant.Consent) func(*env, device) error {
	return func(e *env, d device) error { return e.AllowDevice(context.Background(), d.userCode, c(d)) }
}

func denyIt(e *env, d device) error { return e.DenyDevice(context.Background(), d.userCode, d.id) }

func TestADecisionIsAboutTheRequestThatWasShown(t *testing.T) {
	e := newEnv(t)
	d, other := startDevice(t, e.Service), startDevice(t, e.Service)
	d.id = other.id
	if err := e.AllowDevice(t.Context(), d.userCode, agreement(d)); !errors.Is(err, grant.ErrDecided) {
		t.Errorf("allowed: %v", err)
	}
	if err := e.DenyDevice(t.Context(), d.userCode, d.id); !errors.Is(err, grant.ErrDecided) {
		t.Errorf("denied: %v", err)
	}
	wantPoll(t, e.Service, d, "authorization_pending")
}

func TestAnUnknownUserCode(t *testing.T) {
	e := newEnv(t)
	startDevice(t, e.Service)
	if _, err := e.FindDevice(t.Context(), oauth.NewUserCode()); !errors.Is(err, grant.ErrNoDevice) {
		t.Errorf("got %v", err)
	}
}

// An operator takes back what a user has allowed devices that have not come for it.
func TestTakingBackWhatDevicesWereAllowed(t *testing.T) {
	e := newEnv(t)
	allowed, open, ofBob := startDevice(t, e.Service), startDevice(t, e.Service), startDevice(t, e.Service)
	allowDevice(t, e.Service, allowed)
	bob := agreement(ofBob)
	bob.User.Subject = "bob"
	if err := e.AllowDevice(t.Context(), ofBob.userCode, bob); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.TakeBackDevices(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
	}
	wantPoll(t, e.Service, allowed, "access_denied")
	wantPoll(t, e.Service, open, "authorization_pending")
	if g, _, err := pollDevice(t, e.Service, ofBob); err != nil || g.User.Subject != "bob" {
		t.Errorf("bob's device: %v", err)
	}
	if err := e.AllowDevice(t.Context(), allowed.userCode, agreement(allowed)); !errors.Is(err, grant.ErrDecided) {
		t.Errorf("the form once more: %v", err)
	}
}

func TestARecordThatCannotBeReadKeepsNoDeviceFromBeingTakenBack(t *testing.T) {
	e := newEnv(t)
	broken := startDevice(t, e.Service)
	for key, err := range e.store.Inner().Keys(t.Context(), "test/device/") {
		if err != nil {
			t.Fatal(err)
		}
		if err := e.store.Inner().Put(t.Context(), key, store.Record{Value: []byte(`{"v":9}`)}); err != nil {
			t.Fatal(err)
		}
	}
	allowed := startDevice(t, e.Service)
	allowDevice(t, e.Service, allowed)
	if err := e.TakeBackDevices(t.Context(), "alice"); err == nil {
		t.Errorf("nobody is told of the record of %s", broken.userCode)
	}
	wantPoll(t, e.Service, allowed, "access_denied")
	e.store.FailMethods(storetest.Before)
	if err := e.TakeBackDevices(t.Context(), "alice"); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("a fault of the store: %v", err)
	}
}
