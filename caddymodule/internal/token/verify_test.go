package token_test

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
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

// forgery is what an attacker may know and have: a good token, the public key and
// keys of his own.
type forgery struct {
	raw                  string // a token that is good
	kid                  string
	own                  *ecdsa.PrivateKey // the key of the server, for what only the server could make
	attacker             *ecdsa.PrivateKey
	header, claims       string // of a good token, rebuilt
	headerPart, bodyPart string // of raw
}

func newForgery(t *testing.T, n *node) forgery {
	t.Helper()
	stored := readKeys(t, n.store).Signing[0]
	_, attacker := newStoredKey(t, "attacker")
	f := forgery{raw: n.mint(t, "grant1"), kid: stored.ID, own: stored.private(t), attacker: attacker}
	f.header = fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":%q}`, f.kid)
	f.claims = claimsText(t, nil)
	f.headerPart, f.bodyPart = strings.Split(f.raw, ".")[0], strings.Split(f.raw, ".")[1]
	return f
}

// claimsText is the payload of a good token with some claims changed; a nil value
// takes a claim away.
func claimsText(t *testing.T, change map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": issuer, "sub": "alice", "aud": issuer + "/mcp", "client_id": "mcp_client", "scope": "mcp",
		"iat": now, "exp": now + 3600, "jti": "1", "grant_id": "grant1",
	}
	for name, value := range change {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// longer is a good token that is longer than n bytes, by five at most.
func (f forgery) longer(t *testing.T, n int) string {
	t.Helper()
	for pad := n / 2; ; pad++ {
		payload := claimsText(t, map[string]any{"name": strings.Repeat("a", pad)})
		input := base64.RawURLEncoding.EncodedLen(len(f.header)) + base64.RawURLEncoding.EncodedLen(len(payload))
		if signature := base64.RawURLEncoding.EncodedLen(64); input+signature+2 > n {
			return forge(f.header, payload, es256(t, f.own))
		}
	}
}

// jwk is the public half of a key in the form of RFC 7517.
func jwk(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, encode(point[1:33]), encode(point[33:]))
}

// hs256 signs with a public thing as if it were a shared secret.
func hs256(secret []byte) func(string) []byte {
	return func(input string) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
}

func TestVerifyRefusesForgeries(t *testing.T) {
	n := newNode(t, newStore(t))
	f := newForgery(t, n)
	own, attacker := es256(t, f.own), es256(t, f.attacker)
	der, err := x509.MarshalPKIXPublicKey(&f.own.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	header := func(format string, args ...any) string { return fmt.Sprintf(format, args...) }

	// The tools themselves have to work, or every forgery would be refused for
	// a reason of its own.
	if _, err := n.verifier.Verify(t.Context(), forge(f.header, f.claims, own)); err != nil {
		t.Fatalf("a token that is signed with the right key: %v", err)
	}
	for _, tc := range []struct{ rule, raw string }{
		// Shape.
		{"nothing", ""},
		{"junk", "junk"},
		{"dots only", ".."},
		{"no signature part", f.headerPart + "." + f.bodyPart},
		{"an empty signature", f.headerPart + "." + f.bodyPart + "."},
		{"a fourth part", f.raw + ".x"},
		{"the five parts of a JWE", f.raw + ".x.y"},
		{"a thousand dots", strings.Repeat(".", 1000)},
		{"a line break inside", strings.Replace(f.raw, ".", ".\n", 1)},
		{"a space before", " " + f.raw},
		{"padding", f.raw + "="},
		{"the JSON form", header(`{"protected":%q,"payload":%q,"signature":%q}`, f.headerPart, f.bodyPart, f.raw[strings.LastIndexByte(f.raw, '.')+1:])},
		{"a good token of more than 8 KiB", f.longer(t, oauth.MaxTokenLength)},
		{"a NUL", f.raw + "\x00"},

		// Algorithms.
		{"alg none without a signature", forge(header(`{"alg":"none","typ":"at+jwt","kid":%q}`, f.kid), f.claims, signed(nil))},
		{"alg NONE with the signature of another token", forge(header(`{"alg":"NONE","typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"no alg", forge(header(`{"typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"HS256 with the public key as PEM", forge(header(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(public))},
		{"HS256 with the public key as DER", forge(header(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(der))},
		{"HS256 with the key set", forge(header(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(n.keys.JWKS()))},
		{"HS256 with nothing", forge(header(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(nil))},
		{"ES384 on the right key", forge(header(`{"alg":"ES384","typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"alg in lower case", forge(header(`{"alg":"es256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"alg twice", forge(header(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, attacker)},

		// Keys.
		{"another key under our kid", forge(f.header, f.claims, attacker)},
		{"a key in the header", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":%q,"jwk":%s}`, f.kid, jwk(t, f.attacker)), f.claims, attacker)},
		{"a key in the header and no kid", forge(header(`{"alg":"ES256","typ":"at+jwt","jwk":%s}`, jwk(t, f.attacker)), f.claims, attacker)},
		{"the address of a key set", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":"x","jku":"https://evil.example/jwks"}`), f.claims, attacker)},
		{"the address of a certificate", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":"x","x5u":"https://evil.example/c"}`), f.claims, attacker)},
		{"a certificate that is none", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":%q,"x5c":["AAAA"]}`, f.kid), f.claims, own)},
		{"an unknown kid", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":"unknown"}`), f.claims, own)},
		{"a kid that is a path", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":"../../../dev/null"}`), f.claims, own)},
		{"a kid that names a store key", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":"%skeys"}`, prefix), f.claims, own)},
		{"a kid that is a number", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":0}`), f.claims, own)},
		{"no kid", forge(`{"alg":"ES256","typ":"at+jwt"}`, f.claims, own)},

		// Headers.
		{"another type of JWT", forge(header(`{"alg":"ES256","typ":"JWT","kid":%q}`, f.kid), f.claims, own)},
		{"the type of an ID-JAG", forge(header(`{"alg":"ES256","typ":"oauth-id-jag+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"no type", forge(header(`{"alg":"ES256","kid":%q}`, f.kid), f.claims, own)},
		{"a type that is no text", forge(header(`{"alg":"ES256","typ":["at+jwt"],"kid":%q}`, f.kid), f.claims, own)},
		{"a critical header that is not understood", forge(header(`{"alg":"ES256","typ":"at+jwt","kid":%q,"crit":["x"],"x":1}`, f.kid), f.claims, own)},
		{"a header that is null", forge("null", f.claims, own)},
		{"a header that is no JSON", forge("{", f.claims, own)},

		// Signatures.
		{"r and s of zero", forge(f.header, f.claims, signed(make([]byte, 64)))},
		{"a signature in DER", forge(f.header, f.claims, func(input string) []byte {
			sum := sha256.Sum256([]byte(input))
			der, _ := ecdsa.SignASN1(rand.Reader, f.own, sum[:])
			return der
		})},
		{"a signature that was cut", f.raw[:len(f.raw)-4]},
		{"the signature of another payload", f.headerPart + "." + base64.RawURLEncoding.EncodeToString([]byte(f.claims)) + f.raw[strings.LastIndexByte(f.raw, '.'):]},

		// Claims that only the server could have signed.
		{"another issuer", forge(f.header, claimsText(t, map[string]any{"iss": "https://evil.example"}), own)},
		{"the issuer with a slash", forge(f.header, claimsText(t, map[string]any{"iss": issuer + "/"}), own)},
		{"no issuer", forge(f.header, claimsText(t, map[string]any{"iss": nil}), own)},
		{"no audience", forge(f.header, claimsText(t, map[string]any{"aud": nil}), own)},
		{"an empty list of audiences", forge(f.header, claimsText(t, map[string]any{"aud": []string{}}), own)},
		{"several audiences", forge(f.header, claimsText(t, map[string]any{"aud": []string{issuer + "/mcp", "x"}}), own)},
		{"no grant", forge(f.header, claimsText(t, map[string]any{"grant_id": nil}), own)},
		{"an expiry that is text", forge(f.header, claimsText(t, map[string]any{"exp": "9999999999"}), own)},
		{"an expiry beyond all numbers", forge(f.header, claimsText(t, map[string]any{"exp": 1e300}), own)},
		{"issued in the future", forge(f.header, claimsText(t, map[string]any{"iat": time.Now().Unix() + 90}), own)},
		{"a payload that is null", forge(f.header, "null", own)},
		{"a payload that is an array", forge(f.header, "[]", own)},
		{"a payload that is no JSON", forge(f.header, "{", own)},
		{"no payload", forge(f.header, "", own)},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			for _, way := range []string{"first", "again"} {
				claims, err := n.verifier.Verify(t.Context(), tc.raw)
				if !errors.Is(err, token.ErrMalformed) || claims != nil {
					t.Errorf("%s: got %v and claims: %v; want ErrMalformed", way, err, claims != nil)
				}
			}
		})
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
		c.Placeholders = c.Subject + "!"
	})
	raw := n.mint(t, "grant1")
	for range 3 {
		got, err := v.Verify(t.Context(), raw)
		if err != nil || got.Placeholders != "alice!" {
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
