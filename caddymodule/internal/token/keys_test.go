package token_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestConcurrentFirstStartsMakeOneKeySet(t *testing.T) {
	s := storetest.NewFaulty(newStore(t))
	s.RepeatUpdates()
	var wg sync.WaitGroup
	nodes := make([]*token.Keys, 16)
	for i := range nodes {
		wg.Go(func() {
			var err error
			if nodes[i], err = token.OpenKeys(t.Context(), s, prefix, token.KeysConfig{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, k := range nodes {
		if !bytes.Equal(k.JWKS(), nodes[0].JWKS()) || !bytes.Equal(k.Derive("x"), nodes[0].Derive("x")) {
			t.Errorf("node %d has other keys than node 0", i)
		}
	}
	if stored := readKeys(t, s); len(stored.Signing) != 1 || len(stored.Secret) != 32 {
		t.Errorf("%d signing keys and a secret of %d bytes are stored", len(stored.Signing), len(stored.Secret))
	}
}

func TestKeysOutliveARestart(t *testing.T) {
	s := newStore(t)
	raw := newNode(t, s).mint(t, "grant1")
	if _, err := newNode(t, s).verifier.Verify(t.Context(), raw); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	other, err := token.OpenKeys(t.Context(), s, "other/", token.KeysConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.JWKS(), newNode(t, s).keys.JWKS()) {
		t.Error("two issuers of one store share their keys")
	}
}

func TestDerivedKeys(t *testing.T) {
	n := newNode(t, newStore(t))
	a, b := n.keys.Derive("a"), n.keys.Derive("b")
	if len(a) != 32 || bytes.Equal(a, b) {
		t.Errorf("keys of %d bytes, equal for two labels: %v", len(a), bytes.Equal(a, b))
	}
	if !bytes.Equal(a, n.keys.Derive("a")) {
		t.Error("one label gives two keys")
	}
	if bytes.Contains(a, readKeys(t, n.store).Secret) {
		t.Error("a derived key is the secret itself")
	}
}

func TestJWKSIsPublicAndComplete(t *testing.T) {
	n := newNode(t, newStore(t))
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(n.keys.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 {
		t.Fatalf("%d keys", len(set.Keys))
	}
	k := set.Keys[0]
	if !k.IsPublic() || !k.Valid() || k.Algorithm != "ES256" || k.Use != "sig" || k.KeyID != readKeys(t, n.store).Signing[0].ID {
		t.Errorf("got %+v", k)
	}
	if bytes.Contains(n.keys.JWKS(), []byte(`"d"`)) {
		t.Error("the private key is published")
	}
	// Others verify our tokens with nothing but this set.
	signed, err := jose.ParseSignedCompact(n.mint(t, "grant1"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Verify(set); err != nil {
		t.Errorf("a token does not verify with the published keys: %v", err)
	}
}

func TestStoredKeysThatCannotBeUsedAreAClearError(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	wrongCurve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good, _ := newStoredKey(t, "good")
	secret := make([]byte, 32)
	for _, tc := range []struct {
		rule   string
		record any
		says   string
	}{
		{"no JSON", "\x00\x01", "cannot be read"},
		{"an empty value", "", "cannot be read"},
		{"cut off", `{"v":1,"secret":"AA`, "cannot be read"},
		{"a newer version", storedKeys{2, secret, []storedKey{good}}, "have version 2; this program reads version 1"},
		{"no version", `{}`, "have version 0"},
		{"no secret", storedKeys{1, nil, []storedKey{good}}, "incomplete"},
		{"a short secret", storedKeys{1, secret[:31], []storedKey{good}}, "incomplete"},
		{"no signing key", storedKeys{1, secret, nil}, "incomplete"},
		{"a damaged key", storedKeys{1, secret, []storedKey{{ID: "bad", PKCS8: good.PKCS8[1:]}}}, `signing key "bad" cannot be read`},
		{"a damaged second key", storedKeys{1, secret, []storedKey{good, {ID: "bad"}}}, `signing key "bad" cannot be read`},
		{"an RSA key", storedKeys{1, secret, []storedKey{{ID: "rsa", PKCS8: pkcs8(rsaKey)}}}, `signing key "rsa" cannot be read`},
		{"a key on another curve", storedKeys{1, secret, []storedKey{{ID: "p384", PKCS8: pkcs8(wrongCurve)}}}, `signing key "p384" cannot be read`},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			s := newStore(t)
			switch record := tc.record.(type) {
			case string:
				if err := s.Put(t.Context(), prefix+"keys", store.Record{Value: []byte(record)}); err != nil {
					t.Fatal(err)
				}
			case storedKeys:
				writeKeys(t, s, record)
			}
			before, _ := s.Get(t.Context(), prefix+"keys")
			k, err := token.OpenKeys(t.Context(), s, prefix, token.KeysConfig{})
			if err == nil || k != nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want an error that says %q", err, tc.says)
			}
			if err != nil && strings.Contains(err.Error(), string(secret)) {
				t.Error("the error shows the secret")
			}
			if after, _ := s.Get(t.Context(), prefix+"keys"); !bytes.Equal(before.Value, after.Value) {
				t.Error("keys that could not be read were overwritten")
			}
		})
	}
}

func TestOpenKeysWithAStoreThatFails(t *testing.T) {
	open := func(t *testing.T) store.Store { return memstore.New(0) }
	storetest.FailEachCall(t, open, func(t *testing.T, f *storetest.Faulty) {
		k, err := token.OpenKeys(t.Context(), f, prefix, token.KeysConfig{})
		if f.Injected() > 0 && (k != nil || !errors.Is(err, storetest.ErrInjected)) {
			t.Errorf("got %v, want the store's error", err)
		}
		if k, err = token.OpenKeys(t.Context(), f.Inner(), prefix, token.KeysConfig{}); err != nil {
			t.Fatalf("the next start: %v", err)
		}
		if stored := readKeys(t, f.Inner()); !strings.Contains(string(k.JWKS()), stored.Signing[0].ID) {
			t.Error("the keys at hand are not the stored ones")
		}
	})
}

// rotate puts a new key in front of those in the store, as another node does.
func rotate(t *testing.T, s store.Store, id string) {
	t.Helper()
	stored := readKeys(t, s)
	added, _ := newStoredKey(t, id)
	stored.Signing = append([]storedKey{added}, stored.Signing...)
	writeKeys(t, s, stored)
}

func TestAKeyOfAnotherNodeIsFound(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	old := n.mint(t, "grant1")
	rotate(t, s, "newer")
	raw := newNode(t, s).mint(t, "grant1")
	if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
	if _, err := n.verifier.Verify(t.Context(), old); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
	if !strings.Contains(string(n.keys.JWKS()), `"newer"`) {
		t.Error("the key set does not have the new key")
	}
}

func TestUnknownKeyIDsDoNotBecomeStoreTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		n := newNode(t, s)
		junk := func(i int) string {
			return forge(fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":"junk%d"}`, i), `{}`, signed(make([]byte, 64)))
		}
		before := len(s.Calls())
		for second := range 10 {
			for i := range 100 {
				go func() {
					if _, err := n.verifier.Verify(t.Context(), junk(i)); !errors.Is(err, token.ErrMalformed) {
						t.Errorf("second %d: %v, want ErrMalformed", second, err)
					}
				}()
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if calls := len(s.Calls()) - before; calls != 2 {
			t.Errorf("1000 junk tokens in 10 s made %d calls to the store, want one in 5 s", calls)
		}
		// A key that appears now is found as soon as the store may be asked.
		rotate(t, s.Inner(), "newer")
		raw := newNode(t, s.Inner()).mint(t, "grant1")
		if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
			t.Errorf("a token of a new key: %v", err)
		}
	})
}

func TestAStoreThatFailsRefusesNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		n := newNode(t, s)
		known := n.mint(t, "grant1")
		rotate(t, s.Inner(), "newer")
		raw := newNode(t, s.Inner()).mint(t, "grant1")

		s.FailMethods(storetest.Before)
		if _, err := n.verifier.Verify(t.Context(), known); err != nil {
			t.Errorf("a token of a known key: %v", err)
		}
		for range 3 {
			if _, err := n.verifier.Verify(t.Context(), raw); !errors.Is(err, token.ErrUnavailable) || !errors.Is(err, storetest.ErrInjected) {
				t.Errorf("a token of an unknown key: %v, want ErrUnavailable", err)
			}
		}
		s.Heal()
		time.Sleep(5 * time.Second)
		if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
			t.Errorf("once the store is back: %v", err)
		}
	})
}

func TestAKeySetOfANewerProgramRefusesNoToken(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	rotate(t, s, "newer")
	raw := newNode(t, s).mint(t, "grant1")
	stored := readKeys(t, s)
	stored.Version = 2
	writeKeys(t, s, stored)
	if _, err := n.verifier.Verify(t.Context(), raw); !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestWhoeverHangsUpSpoilsNothingForOthers(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	rotate(t, s, "newer")
	raw := newNode(t, s).mint(t, "grant1")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = n.verifier.Verify(gone, forge(`{"alg":"ES256","typ":"at+jwt","kid":"junk"}`, `{}`, signed(make([]byte, 64))))
	if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
		t.Errorf("after a request that hung up: %v", err)
	}
}

func TestKeysThatAreGoneFromTheStoreStayInUse(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	raw := n.mint(t, "grant1")
	if err := s.Delete(t.Context(), prefix+"keys"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.verifier.Verify(t.Context(), forge(`{"alg":"ES256","typ":"at+jwt","kid":"junk"}`, `{}`, signed(nil))); !errors.Is(err, token.ErrMalformed) {
		t.Errorf("an unknown key: %v, want ErrMalformed", err)
	}
	if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
		t.Errorf("the key at hand: %v", err)
	}
}
