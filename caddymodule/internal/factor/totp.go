// RFC 6238: TOTP, time-based one-time passwords, as authenticator apps make them:
// six digits, 30 seconds, SHA-1.

package factor

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	otptotp "github.com/pquerna/otp/totp"
)

const (
	period       = 30 // seconds of a time step (RFC 6238 section 4.1)
	skew         = 1  // steps that a clock may be wrong by (section 5.2)
	secretLength = 20 // bytes; as long as a SHA-1 (RFC 4226 section 4)
)

// maxWrong is how many wrong codes in a row switch codes off, until a recovery
// code is used: of a million codes three are right at a time, so whoever knows
// the password has a chance of 1 in 3,333 before.
const maxWrong = 100

// Key is the secret of an authenticator app that is being set up.
type Key struct {
	Secret []byte
	URI    string // otpauth://, for a QR code
	Text   string // the secret in base32, to be typed
}

// NewSecret returns a secret for NewKey.
func NewSecret() []byte {
	secret := make([]byte, secretLength)
	rand.Read(secret)
	return secret
}

// Bounds of the names that an app shows, in characters: however they have to be
// escaped, the address fits into a QR code.
const (
	maxServer  = 40
	maxAccount = 80
)

// NewKey writes a secret in the ways in which apps take it. server and account are
// the names that the app shows.
func NewKey(secret []byte, server, account string) (Key, error) {
	k, err := otptotp.Generate(otptotp.GenerateOpts{
		// Apps take the first colon for the end of the server's name.
		Issuer: cut(strings.ReplaceAll(server, ":", " "), maxServer), AccountName: cut(account, maxAccount),
		Secret: secret, Period: period, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return Key{}, err
	}
	return Key{Secret: secret, URI: k.URL(), Text: k.Secret()}, nil
}

func cut(name string, n int) string {
	if letters := []rune(name); len(letters) > n {
		return string(letters[:n-1]) + "…"
	}
	return name
}

// match returns the time step that a code is of, if it is one of those around now
// and comes after the step of the last code. All steps are looked at, so that the
// time taken does not tell which one it was.
func match(secret []byte, code string, now time.Time, last int64) (step int64, ok bool) {
	code = strings.Join(strings.Fields(code), "") // apps show groups of three
	text := base32.StdEncoding.EncodeToString(secret)
	current := now.Unix() / period
	for candidate := current - skew; candidate <= current+skew; candidate++ {
		right, err := hotp.ValidateCustom(code, uint64(candidate), text, hotp.ValidateOpts{ //nolint:gosec // G115: time is after 1970
			Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
		})
		if err == nil && right && candidate > last {
			step, ok = candidate, true
		}
	}
	return step, ok
}
