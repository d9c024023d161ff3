package filestore

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// stampLength is the length of an expiry as it stands before a value, and
// before a key in the expiry index.
const stampLength = 8

// stamp is a moment in Unix milliseconds; zero is never.
type stamp uint64

// stampOf cuts off what is finer than a millisecond, so that a record never
// lives longer than its owner said.
func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixMilli())
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(s)) //nolint:gosec // G115: readers check the range when they decode
}

func (s stamp) passed(now time.Time) bool {
	return s != 0 && !now.Before(s.time())
}

// encode returns the stored form of r. It shares no memory with r.
func encode(r store.Record) []byte {
	b := make([]byte, 0, stampLength+len(r.Value))
	b = binary.BigEndian.AppendUint64(b, uint64(stampOf(r.Expires)))
	return append(b, r.Value...)
}

// decode splits the stored form of a record. The value shares memory with b.
func decode(b []byte) (expires stamp, value []byte, err error) {
	if len(b) < stampLength {
		return 0, nil, fmt.Errorf("%w: a record has only %d bytes", ErrDamaged, len(b))
	}
	u := binary.BigEndian.Uint64(b)
	if u > math.MaxInt64 {
		return 0, nil, fmt.Errorf("%w: a record has an impossible expiry", ErrDamaged)
	}
	if len(b) > stampLength+store.MaxValueLength {
		return 0, nil, fmt.Errorf("%w: a record has %d bytes, which is too many", ErrDamaged, len(b))
	}
	return stamp(u), b[stampLength:], nil
}

// indexKey is the key in the expiry index of a record.
func indexKey(expires stamp, key []byte) []byte {
	b := make([]byte, 0, stampLength+len(key))
	b = binary.BigEndian.AppendUint64(b, uint64(expires))
	return append(b, key...)
}

// parseIndexKey splits a key of the expiry index. The record's key shares
// memory with b.
func parseIndexKey(b []byte) (expires stamp, key []byte, err error) {
	if len(b) <= stampLength {
		return 0, nil, fmt.Errorf("%w: an entry of the expiry index has only %d bytes", ErrDamaged, len(b))
	}
	u := binary.BigEndian.Uint64(b)
	if u == 0 || u > math.MaxInt64 {
		return 0, nil, fmt.Errorf("%w: an entry of the expiry index has an impossible expiry", ErrDamaged)
	}
	return stamp(u), b[stampLength:], nil
}

var errNoBucket = fmt.Errorf("%w: a bucket is missing", ErrDamaged)

// tables gives access to records and expiry index within one transaction and
// keeps the two in step. The first error of the database sticks in err, and the
// transaction must then be rolled back.
type tables struct {
	records *bbolt.Bucket
	expiry  *bbolt.Bucket
	err     error
}

func tablesOf(tx *bbolt.Tx) (*tables, error) {
	t := &tables{records: tx.Bucket(recordsBucket), expiry: tx.Bucket(expiryBucket)}
	if t.records == nil || t.expiry == nil {
		return nil, errNoBucket
	}
	return t, nil
}

// get returns a copy of the record at key, or the zero Record.
func get(tx *bbolt.Tx, key string, now time.Time) (store.Record, error) {
	records := tx.Bucket(recordsBucket)
	if records == nil {
		return store.Record{}, errNoBucket
	}
	b := records.Get([]byte(key))
	if b == nil {
		return store.Record{}, nil
	}
	expires, value, err := decode(b)
	if err != nil {
		return store.Record{}, err
	}
	if expires.passed(now) {
		return store.Record{}, nil
	}
	r := store.Record{Value: make([]byte, len(value)), Expires: expires.time()}
	copy(r.Value, value)
	return r, nil
}

// put writes an encoded record.
func (t *tables) put(key, encoded []byte) {
	expires := stamp(binary.BigEndian.Uint64(encoded))
	old, had := t.stampAt(key)
	if had && old != expires {
		t.unindex(old, key)
	}
	if expires != 0 && (!had || old != expires) && t.err == nil {
		t.err = t.expiry.Put(indexKey(expires, key), nil)
	}
	if t.err == nil {
		t.err = t.records.Put(key, encoded)
	}
}

// remove deletes the record at key, and reports whether there was one that had
// not expired, and whether anything was deleted at all.
func (t *tables) remove(key []byte, now time.Time) (lived, changed bool) {
	if t.records.Get(key) == nil {
		return false, false
	}
	expires, ok := t.stampAt(key)
	if ok {
		t.unindex(expires, key)
	}
	if t.err == nil {
		t.err = t.records.Delete(key)
	}
	return !ok || !expires.passed(now), true
}

// stampAt returns the expiry of the record at key. A record that cannot be read
// counts as none, so that writing over it mends it; Sweep drops what that may
// leave behind in the index.
func (t *tables) stampAt(key []byte) (stamp, bool) {
	b := t.records.Get(key)
	if b == nil {
		return 0, false
	}
	expires, _, err := decode(b)
	return expires, err == nil
}

func (t *tables) unindex(expires stamp, key []byte) {
	if expires != 0 && t.err == nil {
		t.err = t.expiry.Delete(indexKey(expires, key))
	}
}
