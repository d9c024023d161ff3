package factor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// nothing is a store that holds nothing.
type nothing struct{ store.Store }

// Get implements store.Store.
func (nothing) Get(context.Context, string) (store.Record, error) {
	return store.Record{}, store.ErrNotFound
}

// full is a record with everything in it.
func (s *site) full() []byte {
	s.t.Helper()
	s.enrolled()
	if err := s.add(s.alice, newAuthenticator()); err != nil {
		s.t.Fatal(err)
	}
	return s.stored()
}

func TestRecordsAreChecked(t *testing.T) {
	s := newSite(t)
	value, name := s.full(), s.part("alice")
	if err := CheckRecord(name, value); err != nil {
		t.Errorf("a good record: %v", err)
	}
	for name := range map[string]bool{"": true, "alice": true, name + "/": true, strings.ToUpper(name): true, "a" + name: true} {
		if CheckRecord(name, value) == nil {
			t.Errorf("the key %q is good", name)
		}
	}
	for what, damage := range map[string]func(map[string]any){
		"no version":          func(r map[string]any) { delete(r, "v") },
		"another version":     func(r map[string]any) { r["v"] = 2 },
		"no user":             func(r map[string]any) { r["user"] = "" },
		"nothing set up":      func(r map[string]any) { delete(r, "totp"); delete(r, "passkeys") },
		"too many passkeys":   func(r map[string]any) { r["passkeys"] = make([]any, MaxPasskeys+1) },
		"an empty passkey":    func(r map[string]any) { r["passkeys"] = []any{map[string]any{}} },
		"an unsealed secret":  func(r map[string]any) { r["totp"].(map[string]any)["secret"] = "AAAA" },
		"no time":             func(r map[string]any) { delete(r["totp"].(map[string]any), "since") },
		"a short hash":        func(r map[string]any) { r["totp"].(map[string]any)["recovery"] = []string{"AAAA"} },
		"a number for a name": func(r map[string]any) { r["user"] = 1 },
	} {
		var r map[string]any
		if err := json.Unmarshal(value, &r); err != nil {
			t.Fatal(err)
		}
		damage(r)
		damaged, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if CheckRecord(name, damaged) == nil {
			t.Errorf("a record with %s is good: %s", what, damaged)
		}
	}
}

// A record that cannot be read may hold a second factor: it never counts as none.
func TestARecordThatCannotBeReadLetsNobodyIn(t *testing.T) {
	for name, value := range map[string]string{"a newer version": `{"v":2,"user":"alice"}`, "junk": "\x00", "nothing": ""} {
		s := newSite(t)
		if err := s.store.Put(t.Context(), s.key("alice"), store.Record{Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.State(t.Context(), s.alice); err == nil {
			t.Errorf("%s counts as nothing", name)
		}
		if err := s.Check(t.Context(), s.alice, Proof{Code: "123456"}); err == nil || errors.Is(err, ErrNone) || errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.add(s.alice, newAuthenticator()); err == nil || string(s.stored()) != value {
			t.Errorf("%s is written over: %v", name, err)
		}
		if _, err := s.Reset(t.Context(), "alice"); err != nil || s.stored() != nil {
			t.Errorf("%s cannot be reset: %v", name, err)
		}
	}
}

func TestAFaultOfTheStoreIsNoRefusal(t *testing.T) {
	s := newSite(t)
	secret, recovery := s.enrolled()
	for name, do := range map[string]func() error{
		"state":  func() error { _, err := s.State(t.Context(), s.alice); return err },
		"check":  func() error { return s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 0)}) },
		"remove": func() error { return s.Remove(t.Context(), s.alice, Proof{Recovery: recovery[0]}) },
		"renew":  func() error { _, err := s.Renew(t.Context(), s.alice, Proof{Recovery: recovery[1]}); return err },
		"enrol":  func() error { _, err := s.Enrol(t.Context(), s.alice, secret, codeAt(t, secret, 1)); return err },
		"reset":  func() error { _, err := s.Reset(t.Context(), "alice"); return err },
		"add":    func() error { return s.add(s.alice, newAuthenticator()) },
	} {
		s.store.FailCall(1, storetest.Before)
		if err := do(); err == nil || errors.Is(err, ErrDenied) || errors.Is(err, ErrNone) || errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A record never gets too long for a store.
func TestTheLongestRecordFits(t *testing.T) {
	rec := &record{Version: RecordVersion, User: strings.Repeat("ü", 128), TOTP: &totp{Secret: json.RawMessage(`{"sealed":1}`)}}
	for range recoveryCodes {
		rec.TOTP.Recovery = append(rec.TOTP.Recovery, make([]byte, 32))
	}
	for range MaxPasskeys {
		rec.Passkeys = append(rec.Passkeys, passkey{ID: make([]byte, maxCredentialID), PublicKey: make([]byte, maxPublicKey), Name: strings.Repeat("\x01", 200)})
	}
	value, err := rec.encode()
	if err != nil || len(value) > store.MaxValueLength {
		t.Errorf("%d bytes, %v", len(value), err)
	}
}

func TestUsersAreKeptApart(t *testing.T) {
	s := newSite(t)
	s.enrolled()
	bob := s.directory.set("bob", "1")
	if state, err := s.State(t.Context(), bob); err != nil || state.App {
		t.Errorf("another user has %+v, %v", state, err)
	}
	if err := s.Check(t.Context(), bob, Proof{Code: "123456"}); !errors.Is(err, ErrNone) {
		t.Errorf("another user: %v", err)
	}
	if state, err := s.State(t.Context(), login.Identity{Subject: "alice", Stamp: "2"}); err != nil || !state.App {
		t.Errorf("after a new password alice has %+v, %v; the second factor stays", state, err)
	}
}
