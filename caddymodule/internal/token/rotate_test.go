package token_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const rotateAfter = 12 * time.Hour

// newRotatingNode is a node whose keys are followed until the test ends.
func newRotatingNode(t *testing.T, s store.Store, cfg token.KeysConfig) *node {
	t.Helper()
	n := &node{store: s}
	var err error
	if n.keys, err = token.OpenKeys(t.Context(), s, prefix, cfg); err != nil {
		t.Fatal(err)
	}
	if n.revocations, err = token.OpenRevocations(t.Context(), s, prefix, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	n.verifier = token.NewVerifier(issuer, n.keys, n.revocations, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.keys.Follow(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return n
}

func kidOf(t *testing.T, raw string) string {
	t.Helper()
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	_, kid, _ := strings.Cut(string(header), `"kid":"`)
	kid, _, _ = strings.Cut(kid, `"`)
	return kid
}

// states are the states of the keys in order.
func (n *node) states() string {
	var out []string
	for _, k := range n.keys.List() {
		out = append(out, k.State)
	}
	return strings.Join(out, " ")
}

func TestKeysRotateOnScheduleWithoutAFailedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		cfg := token.KeysConfig{RotateAfter: rotateAfter, TokenLifetime: accessLifetime}
		a, b := newRotatingNode(t, s, cfg), newRotatingNode(t, s, cfg)
		first := kidOf(t, a.mint(t, "grant1"))
		kids := map[string]bool{}
		var tokens []string
		// A token of each quarter of an hour around the change must be good on
		// the other node for as long as it lives.
		time.Sleep(rotateAfter - 3*time.Hour)
		for range 6 * 4 {
			raw := a.mint(t, "grant1")
			kids[kidOf(t, raw)] = true
			tokens = append(tokens, raw)
			if len(tokens) > 4 { // older ones have expired
				tokens = tokens[1:]
			}
			for _, raw := range tokens {
				for _, n := range []*node{a, b} {
					if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
						t.Fatalf("%v: %v", time.Now(), err)
					}
				}
			}
			time.Sleep(accessLifetime / 4)
			synctest.Wait()
		}
		if len(kids) != 2 || !kids[first] {
			t.Errorf("tokens were signed with the keys %v, want the first one and one more", kids)
		}
		if a.states() != "current" || !bytes.Equal(a.keys.JWKS(), b.keys.JWKS()) || strings.Contains(string(a.keys.JWKS()), first) {
			t.Errorf("after the last token of the first key has expired: %s", a.states())
		}
	})
}

func TestAKeyIsPublishedBeforeItSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newRotatingNode(t, s, token.KeysConfig{TokenLifetime: accessLifetime}), newRotatingNode(t, s, token.KeysConfig{TokenLifetime: accessLifetime})
		infos, err := a.keys.Rotate(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		next := infos[0].ID
		synctest.Wait()
		if a.states() != "next current" || b.states() != "next current" || !strings.Contains(string(b.keys.JWKS()), next) {
			t.Fatalf("at once: %s here, %s on the other node", a.states(), b.states())
		}
		if again, err := b.keys.Rotate(t.Context(), false); err != nil || len(again) != 2 || again[0].ID != next {
			t.Errorf("rotating again: %v, %v; want the key that waits", again, err)
		}
		for _, n := range []*node{a, b} {
			if kidOf(t, n.mint(t, "grant1")) == next {
				t.Error("the key signs before its time")
			}
		}
		time.Sleep(token.PublishLead)
		for _, n := range []*node{a, b} {
			if kidOf(t, n.mint(t, "grant1")) != next {
				t.Error("the key does not sign when its time has come")
			}
		}
		if got := a.keys.List()[1]; got.State != "previous" || time.Until(got.AcceptedUntil) < accessLifetime {
			t.Errorf("the one before: %+v; want it to be accepted for as long as its tokens live", got)
		}
		time.Sleep(accessLifetime + 3*time.Minute)
		if a.states() != "current" || b.states() != "current" {
			t.Errorf("in the end: %s and %s", a.states(), b.states())
		}
	})
}

func TestKeysOutliveTheLongestTokenTheyMayHaveSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		n := newRotatingNode(t, s, token.KeysConfig{TokenLifetime: 72 * time.Hour})
		raw, err := n.keys.Mint(claimsOf("grant1"), 72*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		// The next configuration has shorter tokens, but that one lives on.
		if err := n.keys.Configure(t.Context(), token.KeysConfig{TokenLifetime: accessLifetime}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.keys.Rotate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(72*time.Hour - time.Minute)
		if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
			t.Errorf("a minute before its end: %v", err)
		}
		time.Sleep(time.Hour)
		if n.states() != "current" {
			t.Errorf("an hour after it: %s", n.states())
		}
	})
}

func TestAStolenKeyIsReplacedImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newRotatingNode(t, s, token.KeysConfig{}), newRotatingNode(t, s, token.KeysConfig{})
		raw, unseen := a.mint(t, "grant1"), a.mint(t, "grant1")
		for _, n := range []*node{a, b} {
			if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
		}
		derived := a.keys.Derive("x")
		if _, err := a.keys.Rotate(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, n := range []*node{a, b} {
			for what, raw := range map[string]string{"that was verified before": raw, "that was not": unseen} {
				if _, err := n.verifier.Verify(t.Context(), raw); err == nil {
					t.Errorf("a token of the old key, %s, is good", what)
				}
			}
		}
		if _, err := b.verifier.Verify(t.Context(), a.mint(t, "grant1")); err != nil {
			t.Errorf("a token of the new key: %v", err)
		}
		if !bytes.Equal(a.keys.Derive("x"), derived) {
			t.Error("refresh tokens and sessions depend on derived keys, which have changed")
		}
	})
}

func TestTwoNodesDoNotRotateTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		s.RepeatUpdates()
		cfg := token.KeysConfig{RotateAfter: rotateAfter, TokenLifetime: accessLifetime}
		for range 4 {
			newRotatingNode(t, s, cfg)
		}
		time.Sleep(rotateAfter)
		if keys := readKeys(t, s); len(keys.Signing) != 2 {
			t.Errorf("%d keys, want the old and one new one", len(keys.Signing))
		}
	})
}

func TestRotationSurvivesAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		n := newRotatingNode(t, s, token.KeysConfig{RotateAfter: rotateAfter, TokenLifetime: accessLifetime})
		raw := n.mint(t, "grant1")
		time.Sleep(rotateAfter - accessLifetime)
		s.FailMethods(storetest.Before)
		if _, err := n.keys.Rotate(t.Context(), false); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("rotating: %v, want the store's error", err)
		}
		time.Sleep(2 * accessLifetime)
		again := n.mint(t, "grant1")
		if kidOf(t, again) != kidOf(t, raw) {
			t.Error("a key signs that nobody else knows")
		}
		s.Heal()
		time.Sleep(token.PublishLead + 2*time.Minute)
		if raw := n.mint(t, "grant1"); kidOf(t, raw) == kidOf(t, again) {
			t.Error("the key has not been rotated after the store came back")
		}
		if _, err := n.verifier.Verify(t.Context(), again); err != nil {
			t.Errorf("the token of between: %v", err)
		}
	})
}

func TestRecordsOfBeforeTheFirstRotationAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		old, _ := newStoredKey(t, "old")
		writeKeys(t, s, storedKeys{1, make([]byte, 32), []storedKey{old}})
		n := newRotatingNode(t, s, token.KeysConfig{TokenLifetime: accessLifetime})
		raw, err := n.keys.Mint(claimsOf("grant1"), 20*time.Hour) // as it was configured before
		if err != nil || kidOf(t, raw) != "old" {
			t.Fatalf("signed with %s, %v", kidOf(t, raw), err)
		}
		if _, err := n.keys.Rotate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Hour - time.Second)
		if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
			t.Errorf("before its end: %v", err)
		}
	})
}

func TestKeysThatTheStoreHasLostAreWrittenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		n := newRotatingNode(t, s, token.KeysConfig{})
		raw := n.mint(t, "grant1")
		if err := s.Delete(t.Context(), prefix+"keys"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := newNode(t, s).verifier.Verify(t.Context(), raw); err != nil {
			t.Errorf("on a node that starts afterwards: %v", err)
		}
	})
}

func TestKeysAreSealed(t *testing.T) {
	box := func(keys ...string) *seal.Box {
		b, err := seal.New(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const first, second = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
	s := newStore(t)
	stored := func() []byte {
		r, err := s.Get(t.Context(), prefix+"keys")
		if err != nil {
			t.Fatal(err)
		}
		return r.Value
	}
	var keys []*token.Keys
	open := func(b *seal.Box) error {
		k, err := token.OpenKeys(t.Context(), s, prefix, token.KeysConfig{Box: b})
		keys = append(keys, k)
		return err
	}
	steps := []struct {
		what   string
		box    *seal.Box
		err    error
		sealed bool
	}{
		{"no key", nil, nil, false},
		{"the first key seals what is there", box(first), nil, true},
		{"again", box(first), nil, true},
		{"no key any more", nil, seal.ErrNoKey, true},
		{"another key", box(second), seal.ErrOtherKey, true},
		{"a new key with the old one", box(second, first), nil, true},
		{"the new key alone", box(second), nil, true},
		{"the old key alone", box(first), seal.ErrOtherKey, true},
	}
	for _, step := range steps {
		before := stored
		if len(keys) == 0 {
			before = func() []byte { return nil }
		}
		was := before()
		err := open(step.box)
		if !errors.Is(err, step.err) {
			t.Fatalf("%s: %v, want %v", step.what, err, step.err)
		}
		if err != nil && !bytes.Equal(was, stored()) {
			t.Errorf("%s: refused, and something was written", step.what)
		}
		if got := !bytes.Contains(stored(), []byte("pkcs8")); got != step.sealed {
			t.Errorf("%s: sealed: %v, want %v", step.what, got, step.sealed)
		}
	}
	keys = slices.DeleteFunc(keys, func(k *token.Keys) bool { return k == nil })
	for _, k := range keys {
		if !bytes.Equal(k.JWKS(), keys[0].JWKS()) || !bytes.Equal(k.Derive("x"), keys[0].Derive("x")) {
			t.Error("the keys have changed on the way")
		}
	}
	// A reload with a key that is wrong leaves the running node as it was.
	running := keys[len(keys)-1]
	if err := running.Configure(t.Context(), token.KeysConfig{Box: box(first)}); !errors.Is(err, seal.ErrOtherKey) {
		t.Errorf("a wrong key in the next configuration: %v", err)
	}
	if _, err := running.Rotate(t.Context(), false); err != nil {
		t.Errorf("the running configuration cannot rotate afterwards: %v", err)
	}
}
