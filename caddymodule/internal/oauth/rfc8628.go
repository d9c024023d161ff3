// This file implements RFC 8628 (OAuth 2.0 Device Authorization Grant): what a
// device is answered, the codes that people type, and the refusals of the token
// endpoint while the device waits.

package oauth

import (
	"crypto/rand"
	"strings"
	"unicode"
)

// GrantDeviceCode is the grant type of section 3.4.
const GrantDeviceCode = "urn:ietf:params:oauth:grant-type:device_code"

// DeviceAuthorization is the answer of the device authorization endpoint (section
// 3.2).
type DeviceAuthorization struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"` // seconds
	Interval                int64  `json:"interval"`   // seconds between two polls
}

// AuthorizationPending says: nobody has decided yet; ask again (section 3.5).
func AuthorizationPending() *Error {
	return badRequest("authorization_pending", "nobody has answered the request yet; ask again after the interval")
}

// SlowDown says: the device asks too often, and waits five seconds longer from
// now on (section 3.5).
func SlowDown() *Error {
	return badRequest("slow_down", "wait five seconds longer between two requests from now on")
}

// ExpiredToken says: the device code is too old; the device begins anew (section
// 3.5).
func ExpiredToken() *Error {
	return badRequest("expired_token", "the device code has expired; ask for a new one")
}

// userCodeLetters are what user codes are made of: no vowels, so that no words
// come out, and nothing that looks or sounds like something else (section 6.1).
// Eight of these twenty letters are 2.56e10 codes, or 34.5 bits.
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// UserCode is a code that people type, in capital letters and without its dash.
type UserCode string

// NewUserCode returns a random code.
func NewUserCode() UserCode {
	code := make([]byte, 0, userCodeLength)
	random := make([]byte, 2*userCodeLength)
	for len(code) < userCodeLength {
		rand.Read(random) // never fails
		for _, b := range random {
			// The rest of 256 by 20 would make some letters likelier.
			if b < 240 && len(code) < userCodeLength {
				code = append(code, userCodeLetters[b%20])
			}
		}
	}
	return UserCode(code)
}

// maxTypedCode bounds what is read of a typed code in bytes.
const maxTypedCode = 128

// ParseUserCode reads a code as people type it: in either case, with any spaces
// and punctuation, and in the wide letters of Asian keyboards (section 6.1).
func ParseUserCode(typed string) (UserCode, bool) {
	if len(typed) > maxTypedCode {
		return "", false
	}
	var code strings.Builder
	for _, r := range typed {
		if r >= '！' && r <= '～' {
			r -= '！' - '!'
		}
		if r >= 'a' && r <= 'z' {
			r -= 'a' - 'A' // and no other letters, as capitals of some are ours
		}
		switch {
		case isSeparator(r):
		case !strings.ContainsRune(userCodeLetters, r) || code.Len() == userCodeLength:
			return "", false
		default:
			code.WriteRune(r)
		}
	}
	return UserCode(code.String()), code.Len() == userCodeLength
}

// isSeparator reports whether r may stand between the letters of a code: what
// comes along when a code is copied, and what keyboards have in place of a dash.
func isSeparator(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.In(r, unicode.Cf, unicode.Cc) || r == 'ー' || r == '−'
}

// String returns the code as people see it, such as WDJB-MJHT.
func (c UserCode) String() string {
	if len(c) != userCodeLength {
		return string(c)
	}
	return string(c[:userCodeLength/2] + "-" + c[userCodeLength/2:])
}
