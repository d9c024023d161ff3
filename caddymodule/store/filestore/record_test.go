package filestore

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func TestEncodedRecordsAreAsDocumented(t *testing.T) {
	tests := []struct {
		name string
		r    store.Record
		want string
	}{
		{"never expires", store.Record{Value: []byte("v")}, "\x00\x00\x00\x00\x00\x00\x00\x00v"},
		{"empty value", store.Record{Value: []byte{}}, "\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"cut to milliseconds, downwards", store.Record{Value: []byte("v"), Expires: time.Unix(1, 2_999_999)},
			"\x00\x00\x00\x00\x00\x00\x03\xeav"},
	}
	for _, test := range tests {
		if got := encode(test.r); string(got) != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestIndexKeysSortByExpiry(t *testing.T) {
	keys := [][]byte{
		indexKey(1, []byte("z")), indexKey(255, []byte("y")), indexKey(256, []byte("x")),
		indexKey(math.MaxInt64-1, []byte("w")), indexKey(math.MaxInt64, []byte("a")), indexKey(math.MaxInt64, []byte("b")),
	}
	if !slices.IsSortedFunc(keys, bytes.Compare) {
		t.Errorf("%q is not in order", keys)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("1234567"))
	f.Add(encode(store.Record{Value: []byte{}}))
	f.Add(encode(record("v")))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Add(make([]byte, stampLength+store.MaxValueLength+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		expires, value, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v, want an ErrDamaged", err)
			}
			return
		}
		if value == nil {
			t.Error("the value of a record is nil")
		}
		// UnixMilli and back loses nothing, and so does the encoding.
		r := store.Record{Value: value, Expires: expires.time()}
		if got := encode(r); !bytes.Equal(got, b) {
			t.Errorf("decoded to %v, which encodes to %q instead of %q", r, got, b)
		}
	})
}

func FuzzParseIndexKey(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("12345678"))
	f.Add(indexKey(1, []byte("k")))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		expires, key, err := parseIndexKey(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v, want an ErrDamaged", err)
			}
			return
		}
		if expires == 0 || len(key) == 0 {
			t.Errorf("%q has the expiry %d and the key %q", b, expires, key)
		}
		if got := indexKey(expires, key); !bytes.Equal(got, b) {
			t.Errorf("%q became %q", b, got)
		}
	})
}
