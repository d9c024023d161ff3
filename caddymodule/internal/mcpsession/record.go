package mcpsession

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// RecordVersion is the schema version of stored sessions.
const RecordVersion = 1

// record is the stored form of a session. Neither it nor its key tells anything
// about the session or the caller to somebody without the key of the MACs.
type record struct {
	Version int    `json:"v"`
	Owner   []byte `json:"owner"` // MAC of the caller
}

func decode(data []byte) (owner digest, err error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return owner, errors.New("stored MCP session cannot be read")
	}
	if rec.Version != RecordVersion {
		return owner, fmt.Errorf("stored MCP session has version %d; this program reads version %d", rec.Version, RecordVersion)
	}
	if len(rec.Owner) != len(owner) {
		return owner, errors.New("stored MCP session is incomplete")
	}
	return digest(rec.Owner), nil
}

func encode(owner digest) []byte {
	data, err := json.Marshal(record{RecordVersion, owner[:]})
	if err != nil {
		panic(err) // numbers and bytes always marshal
	}
	return data
}

var nameEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// CheckRecord returns an error for a stored session that this package could not
// have written at a key, of which name is what follows "mcpsession/".
func CheckRecord(name string, value []byte) error {
	raw, err := nameEncoding.DecodeString(strings.ToUpper(name))
	if err != nil || len(raw) != sha256.Size || nameOf(digest(raw)) != name {
		return errors.New("the key is not that of an MCP session")
	}
	_, err = decode(value)
	return err
}

func nameOf(d digest) string { return strings.ToLower(nameEncoding.EncodeToString(d[:])) }

// digest is a MAC.
type digest [sha256.Size]byte

// macer is what computing a MAC needs. It is used again, since to set a MAC up
// takes longer than to compute it.
type macer struct {
	hash       hash.Hash
	input, sum []byte
}

func newMacer(key []byte) *macer { return &macer{hash: hmac.New(sha256.New, key)} }

func appendText(to []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint64(to, uint64(len(text))), text...)
}

// mac is the MAC of some texts for a purpose. Each has its length before it, so
// that no two lists look the same.
func (s *Sessions) mac(purpose string, texts ...string) (out digest) {
	m := s.macs.Get().(*macer)
	defer s.macs.Put(m)
	m.input = appendText(m.input[:0], purpose)
	for _, text := range texts {
		m.input = appendText(m.input, text)
	}
	m.hash.Reset()
	m.hash.Write(m.input)
	m.sum = m.hash.Sum(m.sum[:0])
	copy(out[:], m.sum)
	return out
}
