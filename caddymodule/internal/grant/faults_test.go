package grant_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// storedRevoker keeps revocations in the store that fails.
type storedRevoker struct{ store store.Store }

func (r storedRevoker) Add(ctx context.Context, grantID string) error {
	return r.store.Put(ctx, "revoked/"+grantID, store.Record{Value: []byte{}, Expires: time.Now().Add(time.Hour)})
}

// faultCase is one step of a grant, with a store that fails somewhere in it.
type faultCase struct {
	rule string

	// prepare brings the grant to where the step begins and returns the token
	// that the step takes.
	prepare func(t *testing.T, s *grant.Service) string
	step    func(t *testing.T, s *grant.Service, token string) error

	// code is the refusal that the step ends with when nothing fails.
	code string

	// done describes the record after the step. Before it, it does not hold.
	done func(g *grant.Grant) bool

	// again repeats the step's request once the store works, which must bring
	// about what the step was to bring about. It is nil where the step is used
	// up by then.
	again bool

	// ends says that the access tokens have to be revoked in the end.
	ends bool
}

func prepareCode(t *testing.T, s *grant.Service) string {
	code, err := s.Allow(t.Context(), consent("request1"))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func prepareRefresh(t *testing.T, s *grant.Service) string {
	_, token, err := s.Redeem(t.Context(), redemption(prepareCode(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func redeemStep(t *testing.T, s *grant.Service, token string) error {
	_, _, err := s.Redeem(t.Context(), redemption(token))
	return err
}

func refreshStep(t *testing.T, s *grant.Service, token string) error {
	_, _, err := s.Refresh(t.Context(), renewal(token))
	return err
}

func isRevoked(g *grant.Grant) bool { return !g.Revoked.IsZero() && g.Code.Used }

var faultCases = []faultCase{
	{
		rule: "allow", again: true,
		prepare: func(*testing.T, *grant.Service) string { return "" },
		step: func(t *testing.T, s *grant.Service, _ string) error {
			_, err := s.Allow(t.Context(), consent("request1"))
			return err
		},
		done: func(g *grant.Grant) bool { return !g.Denied && len(g.Code.Hash) == 32 && !g.Code.Used },
	},
	{
		rule: "deny", again: true,
		prepare: func(*testing.T, *grant.Service) string { return "" },
		step:    func(t *testing.T, s *grant.Service, _ string) error { return s.Deny(t.Context(), consent("request1")) },
		done:    func(g *grant.Grant) bool { return g.Denied && g.Code.Hash == nil },
	},
	{
		rule: "redeem", prepare: prepareCode, step: redeemStep,
		done: func(g *grant.Grant) bool {
			return g.Code.Used && g.Refresh.Generation == 1 && len(g.Refresh.Hash) == 32 && g.Expires.Sub(g.Created) > codeLifetime
		},
	},
	{
		rule: "refresh", prepare: prepareRefresh, step: refreshStep, again: true,
		done: func(g *grant.Grant) bool {
			return g.Refresh.Generation == 2 && len(g.Refresh.Hash) == 32 && len(g.Refresh.Previous) == 32 &&
				!bytes.Equal(g.Refresh.Hash, g.Refresh.Previous)
		},
	},
	{
		rule: "the replay of a code", code: "invalid_grant", again: true, ends: true, done: isRevoked,
		prepare: func(t *testing.T, s *grant.Service) string {
			code := prepareCode(t, s)
			if err := redeemStep(t, s, code); err != nil {
				t.Fatal(err)
			}
			return code
		},
		step: redeemStep,
	},
	{
		rule: "the replay of a refresh token", code: "invalid_grant", again: true, ends: true, done: isRevoked,
		prepare: func(t *testing.T, s *grant.Service) string {
			first := prepareRefresh(t, s)
			token := first
			for range 2 {
				var err error
				if _, token, err = s.Refresh(t.Context(), renewal(token)); err != nil {
					t.Fatal(err)
				}
			}
			return first
		},
		step: refreshStep,
	},
	{
		rule: "the revocation of a refresh token", prepare: prepareRefresh, again: true, ends: true, done: isRevoked,
		step: func(t *testing.T, s *grant.Service, token string) error {
			_, err := s.RevokeRefreshToken(t.Context(), token, "client1")
			return err
		},
	},
	{
		rule: "the revocation by the user", prepare: prepareRefresh, again: true, ends: true, done: isRevoked,
		step: func(t *testing.T, s *grant.Service, _ string) error {
			// The id does not depend on the store.
			twin := grant.NewService(memstore.New(0), "test/", derive("server"), config, &revoker{})
			g, _, err := twin.Redeem(t.Context(), redemption(prepareCode(t, twin)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.RevokeFor(t.Context(), "alice", g.ID)
			return err
		},
	},
}

func TestAFaultAtAnyCallLeavesNoHalfGrant(t *testing.T) {
	open := func(*testing.T) store.Store { return memstore.New(0) }
	for _, tc := range faultCases {
		t.Run(tc.rule, func(t *testing.T) {
			storetest.FailEachCall(t, open, func(t *testing.T, f *storetest.Faulty) {
				sound := grant.NewService(f.Inner(), "test/", derive("server"), config, storedRevoker{f.Inner()})
				token := tc.prepare(t, sound)
				before := grantRecord(t, f.Inner())

				s := grant.NewService(f, "test/", derive("server"), config, storedRevoker{f})
				err := tc.step(t, s, token)
				if f.Injected() == 0 {
					wantCode(t, err, tc.code)
				} else if _, refusal := errors.AsType[*oauth.Error](err); refusal || !errors.Is(err, storetest.ErrInjected) {
					t.Errorf("got %v, want the store's error: a refusal would make the client throw its tokens away", err)
				}
				after := grantRecord(t, f.Inner())
				if !bytes.Equal(before, after) && !tc.isDone(t, after) {
					t.Errorf("the record is neither as before nor as after\nbefore %s\nafter  %s", before, after)
				}
				if tc.again {
					wantCode(t, tc.step(t, sound, token), tc.code)
					if after = grantRecord(t, f.Inner()); !tc.isDone(t, after) {
						t.Errorf("trying again does not get there: %s", after)
					}
				}
				if tc.ends {
					id := parse(t, store.Record{Value: after}).ID
					if _, err := f.Inner().Get(t.Context(), "revoked/"+id); err != nil {
						t.Errorf("the access tokens live on: %v", err)
					}
				}
			})
		})
	}
}

func (tc *faultCase) isDone(t *testing.T, value []byte) bool {
	t.Helper()
	return value != nil && tc.done(parse(t, store.Record{Value: value}))
}

// grantRecord is the value of the only grant, or nil.
func grantRecord(t *testing.T, s store.Store) []byte {
	t.Helper()
	var value []byte
	for key, r := range snapshot(t, s) {
		if strings.HasPrefix(key, "test/grant/") {
			if value != nil {
				t.Fatal("there are two grants")
			}
			value = r.Value
		}
	}
	return value
}

func TestReadsThatFailAreNoRefusals(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	e.store.FailMethods(storetest.Before)
	for name, read := range map[string]func() error{
		"ListFor":   func() error { _, err := e.ListFor(t.Context(), "alice"); return err },
		"ClientOf":  func() error { _, err := e.ClientOf(t.Context(), token); return err },
		"RevokeFor": func() error { _, err := e.RevokeFor(t.Context(), "alice", g.ID); return err },
		"Revoke":    func() error { return e.Revoke(t.Context(), g.ID) },
	} {
		err := read()
		if _, refusal := errors.AsType[*oauth.Error](err); refusal || !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("%s: got %v, want the store's error", name, err)
		}
	}
	e.store.Heal()
	e.store.FailMethods(storetest.Before, storetest.Get)
	if _, err := e.ListFor(t.Context(), "alice"); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("ListFor with records that cannot be read: %v, want the store's error", err)
	}
}

func TestARecordThatCannotBeReadIsNoRefusal(t *testing.T) {
	for _, tc := range []struct{ rule, value, says string }{
		{"damaged", `{"v":1,"id`, "cannot be read"},
		{"of a newer program", `{"v":2}`, "version 2; this program reads version 1"},
		{"empty", ``, "cannot be read"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			e := newEnv(t)
			code := e.allow(t, consent("request1"))
			key, r := e.record(t)
			r.Value = []byte(tc.value)
			if err := e.store.Inner().Put(t.Context(), key, r); err != nil {
				t.Fatal(err)
			}
			e.unchanged(t, func() {
				for name, err := range map[string]error{
					"redeem": redeemStep(t, e.Service, code),
					"allow":  func() error { _, err := e.Allow(t.Context(), consent("request1")); return err }(),
					"deny":   e.Deny(t.Context(), consent("request1")),
				} {
					if _, refusal := errors.AsType[*oauth.Error](err); err == nil || refusal || !strings.Contains(err.Error(), tc.says) {
						t.Errorf("%s: got %v, want an error that says %q and is no refusal", name, err, tc.says)
					}
				}
			})
		})
	}
}

// Whoever gets hold of the store finds nothing that can be presented, and nothing
// to compute it from.
func TestAStolenStoreHoldsNoToken(t *testing.T) {
	e := newEnv(t)
	code := e.allow(t, consent("request1"))
	_, first, err := e.Redeem(t.Context(), redemption(code))
	wantCode(t, err, "")
	_, second := e.refresh(t, first)
	all := snapshot(t, e.store.Inner())
	for name, handle := range map[string]string{"code": code, "first": first, "second": second} {
		raw, err := base64.RawURLEncoding.DecodeString(handle[len("mcpc_"):])
		if err != nil {
			t.Fatal(err)
		}
		// The secret is what follows the grant's id and the generation.
		secret := raw[30:54]
		for _, needle := range [][]byte{
			[]byte(handle), []byte(handle[len("mcpc_"):]), secret,
			[]byte(hex.EncodeToString(secret)),
			[]byte(base64.RawURLEncoding.EncodeToString(secret)),
			[]byte(base64.StdEncoding.EncodeToString(secret)),
			[]byte(base64.StdEncoding.EncodeToString(raw)),
		} {
			for key, r := range all {
				if strings.Contains(key, string(needle)) || bytes.Contains(r.Value, needle) {
					t.Errorf("the %s can be read from the store: %s", name, r.Value)
				}
			}
		}
	}
	// The search itself works: the hashes are there.
	raw, _ := base64.RawURLEncoding.DecodeString(second[len("mcpr_"):])
	sum := sha256.Sum256(raw[30:54])
	if _, r := e.record(t); !bytes.Contains(r.Value, []byte(base64.StdEncoding.EncodeToString(sum[:]))) {
		t.Errorf("the hash of the refresh token is not where it should be: %s", r.Value)
	}
}
