package redisstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// A record is stored as
//
//	1 byte    layout, 1
//	16 bytes  version, random and new with each write
//	8 bytes   expiry, big endian, Unix milliseconds; 0 is never
//	the rest  value
//
// The script in script.go knows where the version is.
const (
	layout        = 1
	versionLength = 16
	headerLength  = 1 + versionLength + 8
)

// maxExpiry is the last expiry that Redis is told, the end of the year 9999:
// far beyond it, Redis would take the time for wrong.
const maxExpiry = 253_402_300_799_999

var errLayout = errors.New("the record at this key was not written by this version of the program")

// encode returns the record as it is stored, with a new version.
func encode(r store.Record) []byte {
	b := make([]byte, headerLength, headerLength+len(r.Value))
	b[0] = layout
	_, _ = rand.Read(b[1 : 1+versionLength])                             // it never fails: see crypto/rand
	binary.BigEndian.PutUint64(b[1+versionLength:], uint64(expiryOf(r))) //nolint:gosec // expiries lie after 1970
	return append(b, r.Value...)
}

// decode takes a stored record apart. The record shares the memory of b.
func decode(b []byte) (r store.Record, version string, err error) {
	if len(b) < headerLength || b[0] != layout {
		return store.Record{}, "", errLayout
	}
	if ms := int64(binary.BigEndian.Uint64(b[1+versionLength:])); ms != 0 { //nolint:gosec // what encode wrote
		r.Expires = time.UnixMilli(ms)
	}
	r.Value = b[headerLength:]
	return r, string(b[1 : 1+versionLength]), nil
}

// expiryOf returns the expiry in Unix milliseconds, and zero for never.
func expiryOf(r store.Record) int64 {
	if r.Expires.IsZero() {
		return 0
	}
	return r.Expires.UnixMilli()
}

// place is where a record lives.
type place struct {
	record  string // the key of Redis
	index   string // the key of its folder's index
	name    string // its name within the index
	channel string // where its changes are told
}

func (s *Store) place(key string) place {
	folder := store.Folder(key)
	name := key[len(folder):]
	return place{
		record:  s.prefix + ":r:{/" + folder + "}" + name,
		index:   s.index(folder),
		name:    name,
		channel: s.prefix + ":w:" + key,
	}
}

// index returns the key of Redis at which the names in a folder are. The slash
// keeps the hash tag between the braces from being empty, which would be none.
func (s *Store) index(folder string) string { return s.prefix + ":i:{/" + folder + "}" }

// keyOf turns the key of Redis back into that of the record in it. A name has no
// slash, so the brace that ends the folder stands after the last one.
func (s *Store) keyOf(record string) (string, bool) {
	rest, ok := strings.CutPrefix(record, s.prefix+":r:{/")
	if !ok {
		return "", false
	}
	folder := store.Folder(rest)
	name, ok := strings.CutPrefix(rest[len(folder):], "}")
	return folder + name, ok
}

// escape makes a pattern that matches s and nothing else.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
