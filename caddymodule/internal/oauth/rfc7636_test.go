package oauth_test

import (
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// The example of RFC 7636 appendix B.
const (
	exampleVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	exampleChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

func TestVerifyChallenge(t *testing.T) {
	for _, tc := range []struct {
		rule                        string
		method, challenge, verifier string
		want                        bool
	}{
		{"the example of the RFC", oauth.ChallengeS256, exampleChallenge, exampleVerifier, true},
		{"plain is the verifier itself", oauth.ChallengePlain, exampleVerifier, exampleVerifier, true},
		{"another verifier", oauth.ChallengeS256, exampleChallenge, strings.Repeat("a", 43), false},
		{"no verifier", oauth.ChallengeS256, exampleChallenge, "", false},
		{"the challenge is not its own verifier", oauth.ChallengeS256, exampleChallenge, exampleChallenge, false},
		{"a verifier of S256 does not pass as plain", oauth.ChallengePlain, exampleChallenge, exampleVerifier, false},
		{"an empty challenge has no verifier", oauth.ChallengePlain, "", "", false},
		{"a short verifier is refused even when it hashes right", oauth.ChallengeS256, oauth.S256("short"), "short", false},
		{"a verifier that is too long", oauth.ChallengeS256, oauth.S256(strings.Repeat("a", 129)), strings.Repeat("a", 129), false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if got := oauth.VerifyChallenge(tc.method, tc.challenge, tc.verifier); got != tc.want {
				t.Errorf("VerifyChallenge(%q, %q, %q) = %v, want %v", tc.method, tc.challenge, tc.verifier, got, tc.want)
			}
		})
	}
}

func TestValidChallenge(t *testing.T) {
	for _, tc := range []struct {
		rule, method, challenge string
		want                    bool
	}{
		{"S256", oauth.ChallengeS256, exampleChallenge, true},
		{"plain of the least length", oauth.ChallengePlain, strings.Repeat("~", 43), true},
		{"plain of the greatest length", oauth.ChallengePlain, strings.Repeat("a", 128), true},
		{"plain that is too long", oauth.ChallengePlain, strings.Repeat("a", 129), false},
		{"plain that is too short", oauth.ChallengePlain, strings.Repeat("a", 42), false},
		{"plain with a reserved character", oauth.ChallengePlain, strings.Repeat("a", 43) + "+", false},
		{"S256 that is too short", oauth.ChallengeS256, exampleChallenge[1:], false},
		{"S256 with padding", oauth.ChallengeS256, exampleChallenge[1:] + "=", false},
		{"S256 in standard base64", oauth.ChallengeS256, strings.Replace(exampleChallenge, "-", "+", 1), false},
		{"S256 whose last bits are not zero", oauth.ChallengeS256, exampleChallenge[:42] + "N", false},
		{"S256 with line breaks", oauth.ChallengeS256, "\n\n" + exampleChallenge[2:], false},
		{"nothing but line breaks", oauth.ChallengeS256, strings.Repeat("\n", 43), false},
		{"an unknown method", "S512", exampleChallenge, false},
		{"no method", "", exampleChallenge, false},
		{"a method in other case", "s256", exampleChallenge, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if got := oauth.ValidChallenge(tc.method, tc.challenge); got != tc.want {
				t.Errorf("ValidChallenge(%q, %q) = %v, want %v", tc.method, tc.challenge, got, tc.want)
			}
		})
	}
}
