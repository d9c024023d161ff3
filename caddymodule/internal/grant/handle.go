package grant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// A handle is what the client holds: an authorization code, a refresh token or a
// device code. Its bytes are
//
//	user part 10 · random part 16 · generation 4 · secret 24 · tag 16
//
// in base64url behind a prefix that secret scanners can know. The first two
// parts are the grant's id. The tag is a MAC over the rest, so junk is refused
// without touching the store. The store holds the secret's hash only.
//
// A device code is made before anybody has agreed: its user part is zero, its
// random part leads to the request of the device, and its generation is the Unix
// time at which it ends.
type handle struct {
	kind       kind
	id         [idLength]byte
	generation uint32
	secret     [secretLength]byte
}

// kind tells codes and refresh tokens apart. It is under the MAC, so that none
// can pass for another.
type kind string

const (
	kindCode    kind = "mcpc_"
	kindRefresh kind = "mcpr_"
	kindDevice  kind = "mcpd_"
)

const (
	userLength   = 10
	randomLength = 16
	idLength     = userLength + randomLength
	secretLength = 24
	tagLength    = 16
	bodyLength   = idLength + 4 + secretLength
)

var idEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// userText and randomText are how the parts of an id stand in store keys.
func userText(b []byte) string   { return strings.ToLower(idEncoding.EncodeToString(b)) }
func randomText(b []byte) string { return strings.ToLower(idEncoding.EncodeToString(b)) }

// idText is the grant's id as tokens carry it.
func idText(id [idLength]byte) string {
	return userText(id[:userLength]) + randomText(id[userLength:])
}

// userTextLength is the length of userText: 10 bytes are 16 characters.
const userTextLength = 16

// codec makes and reads handles. Its keys never leave the server.
type codec struct {
	tagKey    []byte
	deriveKey []byte
}

func (c codec) encode(h handle) string {
	body := h.body()
	return string(h.kind) + base64.RawURLEncoding.EncodeToString(append(body, c.tag(h.kind, body)...))
}

// decode reads a handle and reports whether this server made it.
func (c codec) decode(k kind, s string) (handle, bool) {
	encoded, ok := strings.CutPrefix(s, string(k))
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(bodyLength+tagLength) {
		return handle{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	// The decoder skips line breaks, so the right length of the text does not
	// mean the right length of the bytes.
	if err != nil || len(raw) != bodyLength+tagLength {
		return handle{}, false
	}
	body, tag := raw[:bodyLength], raw[bodyLength:]
	if !hmac.Equal(tag, c.tag(k, body)) {
		return handle{}, false
	}
	h := handle{kind: k, generation: binary.BigEndian.Uint32(body[idLength:])}
	copy(h.id[:], body)
	copy(h.secret[:], body[idLength+4:])
	return h, true
}

func (h handle) body() []byte {
	body := make([]byte, 0, bodyLength+tagLength)
	body = append(body, h.id[:]...)
	body = binary.BigEndian.AppendUint32(body, h.generation)
	return append(body, h.secret[:]...)
}

func (c codec) tag(k kind, body []byte) []byte {
	mac := hmac.New(sha256.New, c.tagKey)
	mac.Write([]byte(k))
	mac.Write(body)
	return mac.Sum(nil)[:tagLength]
}

// successor derives the refresh token that follows a code or a refresh token.
// It needs both the server's key and the secret of the predecessor: whoever
// presents the predecessor twice gets the same successor, while the store, which
// has only hashes, could never produce it.
func (c codec) successor(h handle) handle {
	next := handle{kind: kindRefresh, id: h.id, generation: h.generation + 1}
	copy(next.secret[:], c.derive("successor", h.body()))
	return next
}

// derive returns 32 pseudo-random bytes for a purpose.
func (c codec) derive(purpose string, data []byte) []byte {
	mac := hmac.New(sha256.New, c.deriveKey)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write(data)
	return mac.Sum(nil)
}

// hash is what the store keeps of a handle's secret.
func (h handle) hash() []byte {
	sum := sha256.Sum256(h.secret[:])
	return sum[:]
}
