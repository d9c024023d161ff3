package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
)

var (
	keyA = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)) // has + and /
	keyB = hex.EncodeToString(bytes.Repeat([]byte{0xb0}, 32))
)

const (
	place  = "issuer/keys"
	secret = `{"v":1,"secret":"do not tell"}`
)

func box(t *testing.T, keys ...string) *seal.Box {
	t.Helper()
	b, err := seal.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealWith(t *testing.T, b *seal.Box) []byte {
	t.Helper()
	stored, err := b.Seal(place, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestOpenAfterSeal(t *testing.T) {
	plain := sealWith(t, nil)
	withA := sealWith(t, box(t, keyA))
	for _, tc := range []struct {
		rule    string
		box     *seal.Box
		stored  []byte
		current bool
		err     error
	}{
		{"its own key", box(t, keyA), withA, true, nil},
		{"an old key", box(t, keyB, keyA), withA, false, nil},
		{"a key that is not current yet", box(t, keyA, keyB), withA, true, nil},
		{"another key", box(t, keyB), withA, false, seal.ErrOtherKey},
		{"no key", nil, withA, false, seal.ErrNoKey},
		{"what was never sealed, without a key", nil, plain, true, nil},
		{"what was never sealed, with a key", box(t, keyA), plain, false, nil},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			got, current, err := tc.box.Open(place, tc.stored)
			if !errors.Is(err, tc.err) || current != tc.current {
				t.Fatalf("current %v, %v; want %v, %v", current, err, tc.current, tc.err)
			}
			if err == nil && string(got) != secret {
				t.Errorf("got %q", got)
			}
		})
	}
	if bytes.Contains(withA, []byte("do not tell")) || bytes.Contains(withA, []byte("secret")) {
		t.Errorf("the value shows: %s", withA)
	}
	if bytes.Equal(withA, sealWith(t, box(t, keyA))) {
		t.Error("sealing twice gives the same bytes")
	}
}

func TestASealedValueBelongsToItsPlaceAndIsWhole(t *testing.T) {
	b := box(t, keyA)
	stored := sealWith(t, b)
	if _, _, err := b.Open("other/keys", stored); !errors.Is(err, seal.ErrBroken) {
		t.Errorf("at another place: %v, want ErrBroken", err)
	}
	var parts map[string]any
	if err := json.Unmarshal(stored, &parts); err != nil {
		t.Fatal(err)
	}
	data, err := base64.StdEncoding.DecodeString(parts["data"].(string))
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		parts["data"] = changed
		again, err := json.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Open(place, again); !errors.Is(err, seal.ErrBroken) {
			t.Fatalf("with the byte at %d changed: %v, want ErrBroken", i, err)
		}
	}
	for _, cut := range []string{`{"sealed":1}`, `{"sealed":1,"key":"x","data":""}`, strings.Replace(string(stored), `"sealed":1`, `"sealed":2`, 1)} {
		if got, _, err := b.Open(place, []byte(cut)); err == nil {
			t.Errorf("%s opens as %q", cut, got)
		}
	}
}

func TestKeysAreThirtyTwoBytes(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb}, 32)
	for _, good := range []string{
		keyA, strings.TrimRight(keyA, "="), keyB, strings.ToUpper(keyB), base64.URLEncoding.EncodeToString(raw), " " + keyA + "\n",
	} {
		if _, err := seal.New(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "hunter2", keyA[:40], keyA + "AA", keyB[:62], strings.Repeat("é", 16)} {
		b, err := seal.New(bad)
		if err == nil || b != nil || !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%q: %v, want an error that tells how to make a key", bad, err)
		}
		if bad != "" && err != nil && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}

func TestFingerprintsTellBoxesApart(t *testing.T) {
	prints := map[string]bool{}
	for _, b := range []*seal.Box{nil, box(t, keyA), box(t, keyB), box(t, keyA, keyB), box(t, keyB, keyA)} {
		if prints[b.Fingerprint()] {
			t.Errorf("%q twice", b.Fingerprint())
		}
		prints[b.Fingerprint()] = true
	}
	if box(t, keyA).Fingerprint() != box(t, strings.TrimRight(keyA, "=")).Fingerprint() {
		t.Error("two spellings of one key differ")
	}
}

func FuzzOpen(f *testing.F) {
	b, err := seal.New(keyA)
	if err != nil {
		f.Fatal(err)
	}
	stored, err := b.Seal(place, []byte(secret))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stored)
	f.Add([]byte(`{"sealed":1,"key":"","data":"AAAA"}`))
	f.Add([]byte(`{"sealed":-1}`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		plain, current, err := b.Open(place, stored)
		switch {
		case err != nil && (plain != nil || current):
			t.Fatalf("an error with %q", plain)
		case current && string(plain) != secret:
			t.Fatalf("%q opens as %q", stored, plain)
		}
	})
}
