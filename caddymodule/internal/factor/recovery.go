package factor

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
)

const (
	recoveryCodes = 10 // that a user gets at a time
	recoveryBytes = 10 // of chance in each: too many to guess or to search for, also with the hashes at hand
)

// newRecoveryCodes returns codes as they are shown, and their hashes as they are
// stored.
func newRecoveryCodes() (codes []string, hashes [][]byte) {
	for range recoveryCodes {
		raw := make([]byte, recoveryBytes)
		rand.Read(raw)
		text := lowerBase32.EncodeToString(raw)
		codes = append(codes, text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:])
		hashes = append(hashes, hashRecovery(text))
	}
	return codes, hashes
}

// hashRecovery hashes a recovery code, however it was typed: in capitals, with
// hyphens or spaces, and with digits that look like the letters that were meant.
func hashRecovery(typed string) []byte {
	text := strings.ToLower(strings.Join(strings.Fields(typed), ""))
	sum := sha256.Sum256([]byte(strings.NewReplacer("-", "", "0", "o", "1", "l").Replace(text)))
	return sum[:]
}

// findRecovery returns the place of a recovery code, or -1. It compares with all
// of them.
func (t *totp) findRecovery(typed string) int {
	hash, found := hashRecovery(typed), -1
	for i, h := range t.Recovery {
		if subtle.ConstantTimeCompare(h, hash) == 1 {
			found = i
		}
	}
	return found
}
