package grant

import (
	"bytes"
	"encoding/base64"
	"math"
	"strings"
	"testing"
)

var testCodec = codec{tagKey: bytes.Repeat([]byte{1}, 32), deriveKey: bytes.Repeat([]byte{2}, 32)}

func testHandle(k kind, generation uint32) handle {
	h := handle{kind: k, generation: generation}
	copy(h.id[:], "0123456789abcdefghijklmnop")
	copy(h.secret[:], "a secret of 24 bytes long")
	return h
}

func TestHandlesComeBackAsTheyWere(t *testing.T) {
	for _, k := range []kind{kindCode, kindRefresh, kindDevice} {
		for _, generation := range []uint32{0, 1, math.MaxUint32} {
			h := testHandle(k, generation)
			got, ok := testCodec.decode(k, testCodec.encode(h))
			if !ok || got != h {
				t.Errorf("got %+v, %v; want %+v", got, ok, h)
			}
		}
	}
}

func TestDecodeRefusesWhatTheServerDidNotMake(t *testing.T) {
	good := testCodec.encode(testHandle(kindRefresh, 1))
	n := len(good) - len(kindRefresh)
	otherTag, otherDerive := testCodec, testCodec
	otherTag.tagKey = bytes.Repeat([]byte{3}, 32)
	otherDerive.deriveKey = bytes.Repeat([]byte{3}, 32)
	if _, ok := otherDerive.decode(kindRefresh, good); !ok {
		t.Fatal("the tag depends on the wrong key")
	}
	for _, tc := range []struct {
		rule, s string
	}{
		{"nothing", ""},
		{"the prefix alone", string(kindRefresh)},
		{"another kind", testCodec.encode(testHandle(kindCode, 1))},
		{"another kind under our prefix", string(kindRefresh) + strings.TrimPrefix(testCodec.encode(testHandle(kindCode, 1)), string(kindCode))},
		{"no prefix", good[len(kindRefresh):]},
		{"the prefix in other case", "MCPR_" + good[len(kindRefresh):]},
		{"one character less", good[:len(good)-1]},
		{"one character more", good + "A"},
		{"padding", good + "=="},
		{"line breaks of the right length", string(kindRefresh) + strings.Repeat("\n", n)},
		{"carriage returns of the right length", string(kindRefresh) + strings.Repeat("\r", n)},
		{"a line break instead of the last character", good[:len(good)-1] + "\n"},
		{"line breaks instead of the tag", good[:len(good)-22] + strings.Repeat("\n", 22)},
		{"bits behind the last byte", good[:len(good)-1] + string(good[len(good)-1]+1)},
		{"the standard alphabet", string(kindRefresh) + strings.Repeat("+", n)},
		{"zeros", string(kindRefresh) + base64.RawURLEncoding.EncodeToString(make([]byte, bodyLength+tagLength))},
		{"a handle of another server", otherTag.encode(testHandle(kindRefresh, 1))},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if h, ok := testCodec.decode(kindRefresh, tc.s); ok || h != (handle{}) {
				t.Errorf("%q is accepted as %+v", tc.s, h)
			}
		})
	}
}

func TestSuccessor(t *testing.T) {
	h := testHandle(kindRefresh, 7)
	next := testCodec.successor(h)
	if next != testCodec.successor(h) {
		t.Error("one token has two successors")
	}
	if next.kind != kindRefresh || next.generation != 8 || next.id != h.id || next.secret == h.secret {
		t.Errorf("got %+v", next)
	}
	others := map[string]handle{}
	changed := h
	changed.secret[0]++
	others["another secret"] = testCodec.successor(changed)
	changed = h
	changed.id[0]++
	others["another grant"] = testCodec.successor(changed)
	changed = h
	changed.generation++
	others["another generation"] = testCodec.successor(changed)
	server := testCodec
	server.deriveKey = bytes.Repeat([]byte{9}, 32)
	others["another server"] = server.successor(h)
	for rule, other := range others {
		if other.secret == next.secret {
			t.Errorf("%s leads to the same secret", rule)
		}
	}
}

func FuzzDecodeHandle(f *testing.F) {
	good := map[string]handle{}
	for _, h := range []handle{testHandle(kindCode, 0), testHandle(kindRefresh, 1), testHandle(kindRefresh, math.MaxUint32), testHandle(kindDevice, 1)} {
		s := testCodec.encode(h)
		good[s] = h
		f.Add(s)
		f.Add(strings.ReplaceAll(s, "A", "\n"))
	}
	f.Add("mcpr_" + strings.Repeat("\n", 94))
	f.Fuzz(func(t *testing.T, s string) {
		for _, k := range []kind{kindCode, kindRefresh, kindDevice} {
			h, ok := testCodec.decode(k, s)
			if !ok {
				continue
			}
			if want, known := good[s]; !known || h != want || h.kind != k {
				t.Fatalf("%q is accepted as %+v", s, h)
			}
		}
	})
}
