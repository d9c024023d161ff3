package token_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

func TestMintedTokenIsVerified(t *testing.T) {
	n := newNode(t, newStore(t))
	want := claimsOf("grant1")
	want.Email, want.Name, want.Groups = "alice@example.com", "Alice", []string{"staff"}
	before := time.Now().Unix()
	raw, err := n.keys.Mint(want, accessLifetime)
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.verifier.Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.IssuedAt < before || got.Expires-got.IssuedAt != int64(accessLifetime/time.Second) || len(got.ID) < 20 {
		t.Errorf("iat %d, exp %d, jti %q", got.IssuedAt, got.Expires, got.ID)
	}
	want.IssuedAt, want.Expires, want.ID = got.IssuedAt, got.Expires, got.ID
	if diff := cmp.Diff(want, got.AccessTokenClaims); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(oauth.Scopes{"mcp", "extra"}, got.Scopes); diff != "" {
		t.Error(diff)
	}
}

func TestMintedTokenIsAnRFC9068Token(t *testing.T) {
	n := newNode(t, newStore(t))
	first, second := n.mint(t, "grant1"), n.mint(t, "grant1")
	var header, claims, others map[string]any
	for _, part := range []struct {
		text string
		into *map[string]any
	}{
		{strings.Split(first, ".")[0], &header},
		{strings.Split(first, ".")[1], &claims},
		{strings.Split(second, ".")[1], &others},
	} {
		raw, err := base64.RawURLEncoding.DecodeString(part.text)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, part.into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": readKeys(t, n.store).Signing[0].ID}, header); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope", "grant_id"} {
		if claims[name] == nil {
			t.Errorf("the claim %s is missing", name)
		}
	}
	if claims["jti"] == others["jti"] {
		t.Error("two tokens have the same jti")
	}
}

func TestVerifyAcceptsWhatItMust(t *testing.T) {
	n := newNode(t, newStore(t))
	f := newForgery(t, n)
	own := es256(t, f.own)
	for _, tc := range []struct{ rule, raw string }{
		{"the type in other case", forge(fmt.Sprintf(`{"alg":"ES256","typ":"AT+JWT","kid":%q}`, f.kid), f.claims, own)},
		{"a clock of another node that is a little ahead", forge(f.header, claimsText(t, map[string]any{"iat": time.Now().Unix() + 30}), own)},
		{"claims that are not known", forge(f.header, claimsText(t, map[string]any{"x": map[string]any{"y": 1}}), own)},
		{"almost 8 KiB", f.longer(t, oauth.MaxTokenLength-8)},
	} {
		if _, err := n.verifier.Verify(t.Context(), tc.raw); err != nil {
			t.Errorf("%s (%d bytes): %v", tc.rule, len(tc.raw), err)
		}
	}
}

// Of equal claims the last counts; the point is that what was checked is what is
// handed on.
func TestVerifyChecksTheClaimsItReturns(t *testing.T) {
	n := newNode(t, newStore(t))
	f := newForgery(t, n)
	twice := strings.Replace(f.claims, `{`, `{"sub":"mallory","iss":"https://evil.example",`, 1)
	got, err := n.verifier.Verify(t.Context(), forge(f.header, twice, es256(t, f.own)))
	if err != nil || got.Subject != "alice" || got.Issuer != issuer {
		t.Errorf("got %+v, %v; want the last ones", got, err)
	}
	last := strings.TrimSuffix(f.claims, "}") + `,"iss":"https://evil.example"}`
	if _, err := n.verifier.Verify(t.Context(), forge(f.header, last, es256(t, f.own))); !errors.Is(err, token.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed: the last issuer is another one", err)
	}
}

func TestExpiryIsNoticedWithAndWithoutTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newStore(t))
		raw, unseen := n.mint(t, "grant1"), n.mint(t, "grant1")
		for _, wait := range []time.Duration{0, time.Minute, accessLifetime - time.Minute - time.Second} {
			time.Sleep(wait)
			if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
				t.Fatalf("at %v: %v", time.Now(), err)
			}
		}
		time.Sleep(time.Second)
		for name, raw := range map[string]string{"cached": raw, "not cached": unseen} {
			for range 2 {
				if _, err := n.verifier.Verify(t.Context(), raw); !errors.Is(err, token.ErrExpired) {
					t.Errorf("%s: got %v, want ErrExpired", name, err)
				}
			}
		}
	})
}

func TestRevocationIsNoticedWithAndWithoutTheCache(t *testing.T) {
	n := newNode(t, newStore(t))
	raw, unseen, other := n.mint(t, "grant1"), n.mint(t, "grant1"), n.mint(t, "grant2")
	for _, raw := range []string{raw, other} {
		if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{"cached": raw, "not cached": unseen} {
		claims, err := n.verifier.Verify(t.Context(), raw)
		if !errors.Is(err, token.ErrRevoked) {
			t.Errorf("%s: got %v, want ErrRevoked", name, err)
		}
		if claims == nil || claims.GrantID != "grant1" {
			t.Errorf("%s: the claims are missing, with which it could be revoked again", name)
		}
	}
	if _, err := n.verifier.Verify(t.Context(), other); err != nil {
		t.Errorf("a token of another grant: %v", err)
	}
}

func TestACachedTokenVouchesForNoOther(t *testing.T) {
	n := newNode(t, newStore(t))
	raw := n.mint(t, "grant1")
	if _, err := n.verifier.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	for at := range len(raw) - 1 { // the last character has bits that carry nothing
		changed := []byte(raw)
		if changed[at] == '.' {
			continue
		}
		changed[at] = 'A' + (changed[at]+1)%26
		if slices.Equal(changed, []byte(raw)) || isLastOfPart(raw, at) {
			continue
		}
		if _, err := n.verifier.Verify(t.Context(), string(changed)); !errors.Is(err, token.ErrMalformed) {
			t.Fatalf("with the byte at %d changed: %v, want ErrMalformed", at, err)
		}
	}
}

// isLastOfPart reports whether the character at i ends a part, whose last bits
// may carry nothing.
func isLastOfPart(raw string, i int) bool { return i+1 == len(raw) || raw[i+1] == '.' }

func TestPrepareRunsOnceForEachToken(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	prepared := 0
	v := token.NewVerifier(issuer, n.keys, n.revocations, func(c *token.Claims) {
		prepared++
		c.Prepared = c.Subject + "!"
	})
	raw := n.mint(t, "grant1")
	for range 3 {
		got, err := v.Verify(t.Context(), raw)
		if err != nil || got.Prepared != "alice!" {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if _, err := v.Verify(t.Context(), raw+"x"); err == nil || prepared != 1 {
		t.Errorf("prepared %d times, want once", prepared)
	}
}

func TestVerifyWhileManyRequestsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newStore(t))
		tokens := make([]string, 8)
		for i := range tokens {
			tokens[i] = n.mint(t, fmt.Sprint("grant", i))
		}
		for i := range 64 {
			go func() {
				raw := tokens[i%len(tokens)]
				if got, err := n.verifier.Verify(t.Context(), raw); err != nil || got.GrantID != fmt.Sprint("grant", i%len(tokens)) {
					t.Errorf("token %d: %+v, %v", i, got, err)
				}
			}()
		}
		synctest.Wait()
	})
}

func FuzzVerify(f *testing.F) {
	n := newNode(f, newStore(f))
	good := n.mint(f, "grant1")
	if _, err := n.verifier.Verify(f.Context(), good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(forge(`{"alg":"none","typ":"at+jwt"}`, `{"iss":"`+issuer+`"}`, signed(nil)))
	f.Add(forge(`{"alg":"ES256","typ":"at+jwt","kid":"x","jwk":{"kty":"EC"}}`, `{}`, signed(make([]byte, 64))))
	f.Add(forge(`{"alg":"ES256","typ":"at+jwt","crit":["b64"],"b64":false}`, `{"exp":1e400}`, signed(nil)))
	f.Add("a.b.c.d.e")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := n.verifier.Verify(t.Context(), raw)
		if err != nil {
			if got != nil || !errors.Is(err, token.ErrMalformed) && !errors.Is(err, token.ErrExpired) {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		// The seed corpus has one good token, and nobody can make another: at
		// most the bits that carry nothing differ.
		if got.GrantID != "grant1" || len(raw) != len(good) {
			t.Fatalf("%q is accepted as %+v", raw, got)
		}
	})
}
