package factor

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The secret and the codes of RFC 6238, appendix B, cut to six digits.
func TestCodesOfTheRFC(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, code := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if step, ok := match(secret, code, time.Unix(at, 0), 0); !ok || step != at/30 {
			t.Errorf("the code at %d is of step %d, %t", at, step, ok)
		}
	}
}

func TestWhichCodesAreGood(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps int
		form  func(string) string
		good  bool
	}{
		{"now", 0, nil, true},
		{"one step ago", -1, nil, true},
		{"one step ahead", 1, nil, true},
		{"two steps ago", -2, nil, false},
		{"two steps ahead", 2, nil, false},
		{"in two groups", 0, func(c string) string { return " " + c[:3] + " " + c[3:] + "\n" }, true},
		{"with a digit less", 0, func(c string) string { return c[1:] }, false},
		{"with a digit more", 0, func(c string) string { return c + "0" }, false},
		{"nothing", 0, func(string) string { return "" }, false},
		{"in other digits", 0, func(c string) string { return strings.Map(func(r rune) rune { return r - '0' + '٠' }, c) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := NewSecret()
			code := codeAt(t, secret, tt.steps)
			if tt.form != nil {
				code = tt.form(code)
			}
			if _, ok := match(secret, code, time.Now(), 0); ok != tt.good {
				t.Errorf("%q is good: %t", code, ok)
			}
		})
	}
}

func TestACodeWorksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		secret, _ := s.enrolled()
		if err := s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, -1)}); !errors.Is(err, ErrDenied) {
			t.Errorf("the code that set the app up: %v", err)
		}
		next := codeAt(t, secret, 1)
		for i, want := range []error{nil, ErrDenied} {
			if err := s.Check(t.Context(), s.alice, Proof{Code: next}); !errors.Is(err, want) {
				t.Errorf("use %d of a code: %v", i+1, err)
			}
		}
		if err := s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 0)}); !errors.Is(err, ErrDenied) {
			t.Errorf("a code of before the last one: %v", err)
		}
		time.Sleep(time.Minute)
		if err := s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 0)}); err != nil {
			t.Errorf("a code of later: %v", err)
		}
	})
}

func TestACodeHasOneWinner(t *testing.T) {
	s := newSite(t)
	secret, recovery := s.enrolled()
	for name, proof := range map[string]Proof{"code": {Code: codeAt(t, secret, 1)}, "recovery code": {Recovery: recovery[3]}} {
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if s.Check(t.Context(), s.alice, proof) == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%s: %d of 20 at once are accepted", name, won.Load())
		}
	}
}

func TestARecoveryCodeWorksOnce(t *testing.T) {
	s := newSite(t)
	_, recovery := s.enrolled()
	for i, form := range []func(string) string{
		func(c string) string { return c },
		strings.ToUpper,
		func(c string) string { return strings.ReplaceAll(c, "-", "") },
		func(c string) string { return " " + strings.ReplaceAll(c, "-", "  ") + "\n" },
		func(c string) string { return strings.NewReplacer("o", "0", "l", "1").Replace(c) },
	} {
		for j, want := range []error{nil, ErrDenied} {
			if err := s.Check(t.Context(), s.alice, Proof{Recovery: form(recovery[i])}); !errors.Is(err, want) {
				t.Errorf("form %d, use %d: %v", i, j+1, err)
			}
		}
	}
	state, err := s.State(t.Context(), s.alice)
	if err != nil || state.RecoveryCodes != 5 {
		t.Errorf("%d codes are left, %v", state.RecoveryCodes, err)
	}
	for _, junk := range []string{" ", "-", "aaaa-aaaa-aaaa-aaaa", recovery[9] + "a", recovery[9][1:]} {
		if err := s.Check(t.Context(), s.alice, Proof{Recovery: junk}); !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v", junk, err)
		}
	}
}

func TestManyWrongCodesSwitchCodesOff(t *testing.T) {
	s := newSite(t)
	secret, recovery := s.enrolled()
	wrong := Proof{Code: codeAt(t, NewSecret(), 0)}
	for i := range maxWrong {
		if err := s.Check(t.Context(), s.alice, wrong); !errors.Is(err, ErrDenied) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	for name, do := range map[string]func(Proof) error{
		"signing in": func(p Proof) error { return s.Check(t.Context(), s.alice, p) },
		"removing":   func(p Proof) error { return s.Remove(t.Context(), s.alice, p) },
		"renewing":   func(p Proof) error { _, err := s.Renew(t.Context(), s.alice, p); return err },
	} {
		if err := do(Proof{Code: codeAt(t, secret, 0)}); !errors.Is(err, ErrLocked) {
			t.Errorf("%s with a right code: %v", name, err)
		}
	}
	if err := s.Check(t.Context(), s.alice, Proof{Recovery: recovery[0]}); err != nil {
		t.Errorf("a recovery code: %v", err)
	}
	if err := s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 0)}); err != nil {
		t.Errorf("a code after a recovery code: %v", err)
	}
	for range maxWrong - 1 {
		_ = s.Check(t.Context(), s.alice, wrong)
	}
	if err := s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 1)}); err != nil {
		t.Errorf("a right code before the last try: %v", err)
	}
	if err := s.Check(t.Context(), s.alice, wrong); !errors.Is(err, ErrDenied) {
		t.Errorf("the count goes on after a right code: %v", err)
	}
}

func TestEnrolling(t *testing.T) {
	s := newSite(t)
	secret := NewSecret()
	if _, err := s.Enrol(t.Context(), s.alice, secret, codeAt(t, NewSecret(), 0)); !errors.Is(err, ErrDenied) {
		t.Errorf("with the code of another app: %v", err)
	}
	if s.stored() != nil {
		t.Error("there is a record")
	}
	first, err := s.Enrol(t.Context(), s.alice, secret, codeAt(t, secret, -1))
	if err != nil {
		t.Fatal(err)
	}
	other := NewSecret()
	if _, err := s.Enrol(t.Context(), s.alice, other, codeAt(t, other, 0)); !errors.Is(err, ErrEnrolled) {
		t.Errorf("another app: %v", err)
	}
	// The page with the first codes may have got lost.
	if _, err := s.Enrol(t.Context(), s.alice, secret, codeAt(t, secret, -1)); !errors.Is(err, ErrDenied) {
		t.Errorf("again with the same code: %v", err)
	}
	second, err := s.Enrol(t.Context(), s.alice, secret, codeAt(t, secret, 0))
	if err != nil {
		t.Fatalf("again with the next code: %v", err)
	}
	if err := s.Check(t.Context(), s.alice, Proof{Recovery: first[0]}); !errors.Is(err, ErrDenied) {
		t.Errorf("a recovery code that was replaced: %v", err)
	}
	if err := s.Check(t.Context(), s.alice, Proof{Recovery: second[0]}); err != nil {
		t.Errorf("a new recovery code: %v", err)
	}
}

func TestRenewingAndRemoving(t *testing.T) {
	s := newSite(t)
	secret, first := s.enrolled()
	if _, err := s.Renew(t.Context(), s.alice, Proof{Code: "000000", Recovery: "wrong"}); !errors.Is(err, ErrDenied) {
		t.Errorf("renewing without a right code: %v", err)
	}
	second, err := s.Renew(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 0)})
	if err != nil || len(second) != 10 {
		t.Fatalf("renewing: %d codes, %v", len(second), err)
	}
	for name, tt := range map[string]struct {
		proof Proof
		want  error
	}{
		"an old recovery code": {Proof{Recovery: first[0]}, ErrDenied},
		"nothing":              {Proof{}, ErrDenied},
		"the code of before":   {Proof{Code: codeAt(t, secret, 0)}, ErrDenied},
	} {
		if err := s.Remove(t.Context(), s.alice, tt.proof); !errors.Is(err, tt.want) {
			t.Errorf("removing with %s: %v", name, err)
		}
	}
	if err := s.Remove(t.Context(), s.alice, Proof{Recovery: second[0]}); err != nil {
		t.Errorf("removing: %v", err)
	}
	if s.stored() != nil {
		t.Errorf("a record stays behind: %s", s.stored())
	}
	for _, err := range []error{
		s.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 1)}),
		s.Remove(t.Context(), s.alice, Proof{Recovery: second[1]}),
	} {
		if !errors.Is(err, ErrNone) {
			t.Errorf("after removing: %v", err)
		}
	}
}

// What is at hand in a stolen store, without the keys of the issuer, makes no code.
func TestTheStoreHoldsNothingToSignInWith(t *testing.T) {
	s := newSite(t)
	secret, recovery := s.enrolled()
	key, err := NewKey(secret, "Example", "alice")
	if err != nil {
		t.Fatal(err)
	}
	value := s.stored()
	for name, part := range map[string][]byte{
		"the secret": secret, "the secret as text": []byte(key.Text), "a recovery code": []byte(recovery[0]),
		"a recovery code without hyphens": []byte(strings.ReplaceAll(recovery[0], "-", "")),
	} {
		if bytes.Contains(value, part) || bytes.Contains(value, fmt.Appendf(nil, "%x", part)) {
			t.Errorf("the record holds %s: %s", name, value)
		}
	}
	other, err := New(s.store, "test/", func(label string) []byte {
		if label == "factor secret" {
			return make([]byte, 32)
		}
		return derive(label)
	}, Config{Origin: origin, Name: "Example", Users: s.directory})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Check(t.Context(), s.alice, Proof{Code: codeAt(t, secret, 0)}); err == nil || errors.Is(err, ErrDenied) || errors.Is(err, ErrNone) {
		t.Errorf("under other keys: %v", err)
	}
	// Nor does the record of one user do for another.
	bob := s.directory.set("bob", "1")
	r, err := s.store.Get(t.Context(), s.key("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Put(t.Context(), s.key("bob"), r); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), bob, Proof{Code: codeAt(t, secret, 0)}); err == nil || errors.Is(err, ErrDenied) || errors.Is(err, ErrNone) {
		t.Errorf("another user's record: %v", err)
	}
}

func TestTheKeyForTheApp(t *testing.T) {
	key, err := NewKey([]byte("12345678901234567890"), "Cisco: Support", "a/b@c?d")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(key.URI)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Cisco  Support:a/b@c?d" {
		t.Errorf("the address is %s, %v", key.URI, err)
	}
	q := u.Query()
	if q.Get("secret") != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" || q.Get("secret") != key.Text || q.Get("issuer") != "Cisco  Support" ||
		q.Get("digits") != "6" || q.Get("period") != "30" || q.Get("algorithm") != "SHA1" {
		t.Errorf("the address is %s", key.URI)
	}
	long, err := NewKey(NewSecret(), strings.Repeat("🐛", 300), strings.Repeat("🐛", 300))
	if err != nil || len(long.URI) > 2331 { // what a QR code of level M can hold
		t.Errorf("the address of long names has %d bytes, %v", len(long.URI), err)
	}
	if bytes.Equal(NewSecret(), NewSecret()) || len(NewSecret()) != 20 {
		t.Error("secrets are not made by chance")
	}
}
