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
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

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

// wantForged checks that none of the tokens is taken, neither the first time nor
// when something may have been remembered.
func (n *node) wantForged(t *testing.T, f forgery, cases []forgedToken) {
	t.Helper()
	// The tools themselves have to work, or every forgery would be refused for
	// a reason of its own.
	if _, err := n.verifier.Verify(t.Context(), forge(f.header, f.claims, es256(t, f.own))); err != nil {
		t.Fatalf("a token that is signed with the right key: %v", err)
	}
	for _, tc := range cases {
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

// forgedToken is a token that must not be taken, and what is wrong about it.
type forgedToken struct{ rule, raw string }

func TestVerifyRefusesOtherShapesAndAlgorithms(t *testing.T) {
	n := newNode(t, newStore(t))
	f := newForgery(t, n)
	own, attacker := es256(t, f.own), es256(t, f.attacker)
	der, err := x509.MarshalPKIXPublicKey(&f.own.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	n.wantForged(t, f, []forgedToken{
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
		{"the JSON form", fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, f.headerPart, f.bodyPart, f.raw[strings.LastIndexByte(f.raw, '.')+1:])},
		{"a good token of more than 8 KiB", f.longer(t, oauth.MaxTokenLength)},
		{"a NUL", f.raw + "\x00"},

		// Algorithms.
		{"alg none without a signature", forge(fmt.Sprintf(`{"alg":"none","typ":"at+jwt","kid":%q}`, f.kid), f.claims, signed(nil))},
		{"alg NONE with the signature of another token", forge(fmt.Sprintf(`{"alg":"NONE","typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"no alg", forge(fmt.Sprintf(`{"typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"HS256 with the public key as PEM", forge(fmt.Sprintf(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(public))},
		{"HS256 with the public key as DER", forge(fmt.Sprintf(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(der))},
		{"HS256 with the key set", forge(fmt.Sprintf(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(n.keys.JWKS()))},
		{"HS256 with nothing", forge(fmt.Sprintf(`{"alg":"HS256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, hs256(nil))},
		{"ES384 on the right key", forge(fmt.Sprintf(`{"alg":"ES384","typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"alg in lower case", forge(fmt.Sprintf(`{"alg":"es256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"alg twice", forge(fmt.Sprintf(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":%q}`, f.kid), f.claims, attacker)},
	})
}

func TestVerifyRefusesOtherKeysAndHeaders(t *testing.T) {
	n := newNode(t, newStore(t))
	f := newForgery(t, n)
	own, attacker := es256(t, f.own), es256(t, f.attacker)
	n.wantForged(t, f, []forgedToken{
		// Keys.
		{"another key under our kid", forge(f.header, f.claims, attacker)},
		{"a key in the header", forge(fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":%q,"jwk":%s}`, f.kid, jwk(t, f.attacker)), f.claims, attacker)},
		{"a key in the header and no kid", forge(fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","jwk":%s}`, jwk(t, f.attacker)), f.claims, attacker)},
		{"the address of a key set", forge(`{"alg":"ES256","typ":"at+jwt","kid":"x","jku":"https://evil.example/jwks"}`, f.claims, attacker)},
		{"the address of a certificate", forge(`{"alg":"ES256","typ":"at+jwt","kid":"x","x5u":"https://evil.example/c"}`, f.claims, attacker)},
		{"a certificate that is none", forge(fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":%q,"x5c":["AAAA"]}`, f.kid), f.claims, own)},
		{"an unknown kid", forge(`{"alg":"ES256","typ":"at+jwt","kid":"unknown"}`, f.claims, own)},
		{"a kid that is a path", forge(`{"alg":"ES256","typ":"at+jwt","kid":"../../../dev/null"}`, f.claims, own)},
		{"a kid that names a store key", forge(fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":"%skeys"}`, prefix), f.claims, own)},
		{"a kid that is a number", forge(`{"alg":"ES256","typ":"at+jwt","kid":0}`, f.claims, own)},
		{"no kid", forge(`{"alg":"ES256","typ":"at+jwt"}`, f.claims, own)},

		// Headers.
		{"another type of JWT", forge(fmt.Sprintf(`{"alg":"ES256","typ":"JWT","kid":%q}`, f.kid), f.claims, own)},
		{"the type of an ID-JAG", forge(fmt.Sprintf(`{"alg":"ES256","typ":"oauth-id-jag+jwt","kid":%q}`, f.kid), f.claims, own)},
		{"no type", forge(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, f.kid), f.claims, own)},
		{"a type that is no text", forge(fmt.Sprintf(`{"alg":"ES256","typ":["at+jwt"],"kid":%q}`, f.kid), f.claims, own)},
		{"a critical header that is not understood", forge(fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":%q,"crit":["x"],"x":1}`, f.kid), f.claims, own)},
		{"a header that is null", forge("null", f.claims, own)},
		{"a header that is no JSON", forge("{", f.claims, own)},
	})
}

func TestVerifyRefusesOtherSignaturesAndClaims(t *testing.T) {
	n := newNode(t, newStore(t))
	f := newForgery(t, n)
	own := es256(t, f.own)
	n.wantForged(t, f, []forgedToken{
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
	})
}
