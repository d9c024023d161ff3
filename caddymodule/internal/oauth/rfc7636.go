// This file implements RFC 7636 (Proof Key for Code Exchange).

package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// Code challenge methods (RFC 7636 section 4.2).
const (
	ChallengeS256  = "S256"
	ChallengePlain = "plain"
)

// ValidVerifier checks the grammar of a code_verifier, and of a plain
// code_challenge: 43 to 128 unreserved characters (section 4.1).
func ValidVerifier(s string) bool {
	if len(s) < 43 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if !isUnreserved(s[i]) {
			return false
		}
	}
	return true
}

// ValidChallenge checks the grammar of a code_challenge of the method. An S256
// challenge is the base64url form of 32 bytes.
func ValidChallenge(method, challenge string) bool {
	if method != ChallengeS256 {
		return method == ChallengePlain && ValidVerifier(challenge)
	}
	if len(challenge) != 43 {
		return false
	}
	// The decoder skips line breaks, so its result is measured as well.
	sum, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	return err == nil && len(sum) == sha256.Size
}

// VerifyChallenge reports whether the verifier belongs to the challenge
// (section 4.6), in constant time.
func VerifyChallenge(method, challenge, verifier string) bool {
	if !ValidVerifier(verifier) {
		return false
	}
	derived := verifier
	if method == ChallengeS256 {
		derived = S256(verifier)
	}
	return subtle.ConstantTimeCompare([]byte(derived), []byte(challenge)) == 1
}

// S256 derives the code_challenge of a verifier (section 4.2).
func S256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
