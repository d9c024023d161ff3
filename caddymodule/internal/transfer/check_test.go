package transfer_test

import (
	"context"
	encoding "encoding/base32"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func base32(b []byte) string {
	return encoding.StdEncoding.WithPadding(encoding.NoPadding).EncodeToString(b)
}

// changed changes fields of a record in JSON; null removes one.
func changed(t *testing.T, s store.Store, key, fields string) {
	t.Helper()
	must(t, s.Update(t.Context(), key, func(r store.Record) (store.Record, error) {
		var object map[string]any
		if err := json.Unmarshal(r.Value, &object); err != nil {
			return r, err
		}
		if err := json.Unmarshal([]byte(fields), &object); err != nil {
			return r, err
		}
		var err error
		r.Value, err = json.Marshal(object)
		return r, err
	}))
}

func put(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	must(t, s.Put(t.Context(), key, store.Record{Value: []byte(value)}))
}

// damages are ways to damage a sound store, each with the key at which it is found
// and what is said about it.
var damages = map[string]struct {
	damage func(t *testing.T, s store.Store, st state)
	key    func(st state) string
	want   string
}{
	"signing keys that are no JSON": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"keys", "s3cret") },
		func(state) string { return issuer + "keys" }, "signing keys cannot be read; restore a backup: without these keys",
	},
	"signing keys without a key": {
		func(t *testing.T, s store.Store, _ state) { changed(t, s, issuer+"keys", `{"signing":[]}`) },
		func(state) string { return issuer + "keys" }, "signing keys are incomplete",
	},
	"a signing key that is none": {
		func(t *testing.T, s store.Store, _ state) {
			changed(t, s, issuer+"keys", `{"signing":[{"kid":"k1","created":"2026-01-02T03:04:05Z","pkcs8":"AAAA"}]}`)
		},
		func(state) string { return issuer + "keys" }, `signing key "k1" cannot be read`,
	},
	"newer signing keys": {
		func(t *testing.T, s store.Store, _ state) { changed(t, s, issuer+"keys", `{"v":2}`) },
		func(state) string { return issuer + "keys" }, "have version 2; this program reads version 1; a newer version of this program has written it: go on with that version",
	},
	"sealed signing keys without the key": {
		func(t *testing.T, s store.Store, st state) {
			r, err := s.Get(t.Context(), issuer+"keys")
			must(t, err)
			sealed, err := newBox(t).Seal(issuer+"keys", r.Value)
			must(t, err)
			put(t, s, issuer+"keys", string(sealed))
		},
		func(state) string { return issuer + "keys" }, "it is sealed, and there is no encryption_key",
	},
	"no signing keys": {
		func(t *testing.T, s store.Store, _ state) { must(t, s.Delete(t.Context(), issuer+"keys")) },
		func(state) string { return "" }, "the issuer abcdefghijklmnop has records and no signing keys; restore a backup",
	},
	"a client that is no JSON": {
		func(t *testing.T, s store.Store, st state) { put(t, s, st.client, "{") },
		func(st state) string { return st.client }, "stored client cannot be read",
	},
	"a newer client": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.client, `{"v":7}`) },
		func(st state) string { return st.client }, "version 7; this program reads version 1; a newer version",
	},
	"a client without a date": {
		func(t *testing.T, s store.Store, st state) {
			changed(t, s, st.client, `{"issued":"0001-01-01T00:00:00Z"}`)
		},
		func(st state) string { return st.client }, "stored client is incomplete",
	},
	"a client with half a secret": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.client, `{"secret_hash":"AAAA"}`) },
		func(st state) string { return st.client }, "a secret that does not fit",
	},
	"a client with another key": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"client/x", "{}") },
		func(state) string { return issuer + "client/x" }, "the key is not that of a client",
	},
	"a grant that is no JSON": {
		func(t *testing.T, s store.Store, st state) { put(t, s, st.grant, "") },
		func(st state) string { return st.grant }, "stored grant cannot be read",
	},
	"a newer grant": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.grant, `{"v":2}`) },
		func(st state) string { return st.grant }, "a newer version of this program",
	},
	"an older grant": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.grant, `{"v":0}`) },
		func(st state) string { return st.grant }, "version 0; this program reads version 1; restore a backup, or do without it",
	},
	"a grant at another key": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.grant, `{"id":"x"}`) },
		func(st state) string { return st.grant }, "an id that does not match its key",
	},
	"a grant of nobody": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.grant, `{"user":{}}`) },
		func(st state) string { return st.grant }, "stored grant is incomplete",
	},
	"a grant without the hash of its code": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.grant, `{"code":{}}`) },
		func(st state) string { return st.grant }, "stored grant is incomplete",
	},
	"a grant without a refresh token": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.grant, `{"refresh":{}}`) },
		func(st state) string { return st.grant }, "a used code and no refresh token",
	},
	"a grant with another key": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"grant/x", "{}") },
		func(state) string { return issuer + "grant/x" }, "the key is not that of a grant",
	},
	"a factor that is no JSON": {
		func(t *testing.T, s store.Store, st state) { put(t, s, st.factor, "[]") },
		func(st state) string { return st.factor }, "stored factors cannot be read",
	},
	"a newer factor": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.factor, `{"v":2}`) },
		func(st state) string { return st.factor }, "a newer version of this program",
	},
	"a factor that is not sealed": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.factor, `{"totp":{"secret":"AAAA"}}`) },
		func(st state) string { return st.factor }, "incomplete; restore a backup, or do without it: 'caddy mcp-auth user reset-factors'",
	},
	"a session that is no JSON": {
		func(t *testing.T, s store.Store, st state) { put(t, s, st.session, "[]") },
		func(st state) string { return st.session }, "stored session cannot be read",
	},
	"a newer session": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.session, `{"v":2}`) },
		func(st state) string { return st.session }, "a newer version of this program",
	},
	"a session of nobody": {
		func(t *testing.T, s store.Store, st state) { changed(t, s, st.session, `{"user":{}}`) },
		func(st state) string { return st.session }, "stored session is incomplete; it does no harm",
	},
	"a session with another key": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"session/x/y", "{}") },
		func(state) string { return issuer + "session/x/y" }, "the key is not that of a session",
	},
	"a revocation with a value": {
		func(t *testing.T, s store.Store, st state) { put(t, s, st.revoked, "x") },
		func(st state) string { return st.revoked }, "stored revocation has a value",
	},
	"a revocation of nothing": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"revoked/x", "") },
		func(state) string { return issuer + "revoked/x" }, "the key is not that of a revocation",
	},
	"a record of another kind": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"policy/x", "") },
		func(state) string { return issuer + "policy/x" }, "no known kind",
	},
	"something below the signing keys": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, issuer+"keys/x", "") },
		func(state) string { return issuer + "keys/x" }, "no known kind",
	},
	"a record of another program": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, "session:1", "") },
		func(state) string { return "session:1" }, "another program",
	},
	"an issuer that is none": {
		func(t *testing.T, s store.Store, _ state) { put(t, s, "abcdefghijklmno1/keys", "{}") },
		func(state) string { return "abcdefghijklmno1/keys" }, "no known kind",
	},
}

func TestDamageIsFound(t *testing.T) {
	for rule, tt := range damages {
		t.Run(rule, func(t *testing.T) {
			s := memstore.New(0)
			st := filled(t, s, nil)
			tt.damage(t, s, st)
			report, err := checker.Check(t.Context(), s)
			if err != nil || len(report.Findings) != 1 {
				t.Fatalf("found %+v with the error %v, want one", report.Findings, err)
			}
			if f := report.Findings[0]; f.Key != tt.key(st) || !strings.Contains(f.Problem, tt.want) {
				t.Errorf("found %+v, want %q with %q", f, tt.key(st), tt.want)
			}
			if text, _ := json.Marshal(report); strings.Contains(string(text), "s3cret") {
				t.Errorf("the report holds what it should not: %s", text)
			}
		})
	}
}

func TestEachIssuerNeedsKeysOfItsOwn(t *testing.T) {
	s := memstore.New(0)
	st := filled(t, s, nil)
	r, err := s.Get(t.Context(), st.session)
	must(t, err)
	must(t, s.Put(t.Context(), strings.Replace(st.session, issuer, "zzzzzzzzzzzzzzzz/", 1), r))
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Problem, "the issuer zzzzzzzzzzzzzzzz has records") {
		t.Errorf("found %+v with the error %v", report.Findings, err)
	}
}

// skewed is a store with an index that does not agree with the records.
type skewed struct {
	store.Store
	hidden  string               // not listed
	ghosts  []store.Entry        // listed without a record
	expires map[string]time.Time // listed with another expiry
}

func (s skewed) List(ctx context.Context, folder string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, e := range s.ghosts {
			if store.Folder(e.Key) == folder && !yield(e, nil) {
				return
			}
		}
		for e, err := range s.Store.List(ctx, folder) {
			if at, ok := s.expires[e.Key]; ok {
				e.Expires = at
			}
			if e.Key != s.hidden && !yield(e, err) {
				return
			}
		}
	}
}

func TestFoldersThatDisagreeWithTheRecordsAreFound(t *testing.T) {
	inner := memstore.New(0)
	st := filled(t, inner, nil)
	for rule, tt := range map[string]struct {
		s         skewed
		key, want string
	}{
		"a record is not listed": {skewed{hidden: st.session}, st.session, "the record is missing in its folder"},
		"no record is listed": {
			skewed{ghosts: []store.Entry{{Key: issuer + "client/ghost"}}}, issuer + "client/ghost", "an entry without a record",
		},
		"another expiry is listed": {
			skewed{expires: map[string]time.Time{st.session: time.Now().Add(24 * time.Hour)}}, st.session, "another expiry",
		},
	} {
		t.Run(rule, func(t *testing.T) {
			tt.s.Store = inner
			report, err := checker.Check(t.Context(), tt.s)
			if err != nil || len(report.Findings) != 1 || report.Findings[0].Key != tt.key ||
				!strings.Contains(report.Findings[0].Problem, tt.want) {
				t.Errorf("found %+v with the error %v, want %q at %s", report.Findings, err, tt.want, tt.key)
			}
		})
	}
}

// busy is a store into which others write while it is checked.
type busy struct {
	store.Store
	write func()
}

func (s busy) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range s.Store.Keys(ctx, prefix) {
			for range 2 { // a key may come up again
				if !yield(key, err) {
					return
				}
			}
		}
		s.write()
	}
}

func TestWritesMeanwhileAreNoDamage(t *testing.T) {
	inner := memstore.New(0)
	st := filled(t, inner, nil)
	other := strings.Repeat("b", 16)
	s := busy{inner, func() {
		r, err := inner.Get(t.Context(), st.session)
		must(t, err)
		must(t, inner.Delete(t.Context(), st.client))
		r.Expires = r.Expires.Add(time.Hour)
		must(t, inner.Put(t.Context(), st.session, r))
		must(t, inner.Put(t.Context(), strings.Replace(st.session, strings.Repeat("a", 16), other, 1), r))
	}}
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.Records != filledWith.Records {
		t.Errorf("found %+v with the error %v", report, err)
	}
}

func TestACheckThatFailsSaysSo(t *testing.T) {
	storetest.FailEachCall(t, func(t *testing.T) store.Store { return memstore.New(0) }, func(t *testing.T, f *storetest.Faulty) {
		filled(t, f.Inner(), nil)
		report, err := checker.Check(t.Context(), f)
		if noticed := err != nil || len(report.Findings) > 0; noticed != (f.Injected() > 0) {
			t.Errorf("found %+v with the error %v after %d faults", report.Findings, err, f.Injected())
		}
	})
}

func TestAStoreThatIsAwayIsNotDamaged(t *testing.T) {
	s := memstore.New(0)
	for i := range 200 {
		put(t, s, issuer+"session/"+strings.Repeat("a", 16)+"/"+sessionHash(i), "{}")
	}
	f := storetest.NewFaulty(s)
	f.FailMethods(storetest.Before, storetest.Get)
	if _, err := checker.Check(t.Context(), f); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("got %v, want the error of the store", err)
	}
}

// deepStore finds damage below the records.
type deepStore struct{ store.Store }

func (deepStore) Check(context.Context) (int, error) { return 0, errors.New("the index is damaged") }

func TestStoresThatCanLookDeeperAreAsked(t *testing.T) {
	s := memstore.New(0)
	filled(t, s, nil)
	report, err := checker.Check(t.Context(), deepStore{s})
	want := transfer.Finding{Problem: "the index is damaged; restore a backup"}
	if err != nil || len(report.Findings) != 1 || report.Findings[0] != want {
		t.Errorf("found %+v with the error %v", report.Findings, err)
	}
}

func TestAReportIsBounded(t *testing.T) {
	s := memstore.New(0)
	for i := range 1500 {
		put(t, s, "foreign/"+sessionHash(i), "{}")
	}
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 1000 || report.Omitted != 500 {
		t.Errorf("%d findings and %d more, with the error %v", len(report.Findings), report.Omitted, err)
	}
}
