package transfer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// anyProvider has given all tokens.
type anyProvider struct{ login.Delegate }

func (anyProvider) Recognizes(login.Identity) bool { return true }

// The tokens of login providers move with the rest, sealed, and damage is found.
func TestDelegationsAreKnown(t *testing.T) {
	s := memstore.New(0)
	defer s.Close()
	filled(t, s, nil)
	users := grant.NewService(s, issuer, func(label string) []byte { return []byte(label) }, grant.Config{}, nil)
	user := users.UserPart("acme:4")
	keeper := func(s store.Store) *delegation.Keeper {
		t.Helper()
		keys, err := token.OpenKeys(t.Context(), s, issuer, token.KeysConfig{})
		must(t, err)
		k, err := delegation.NewKeeper(s, issuer, keys.Derive)
		must(t, err)
		return k
	}
	id := login.Identity{Subject: "acme:4", Provider: "acme", Tokens: &login.Tokens{Access: "at", Refresh: "rt"}}
	must(t, keeper(s).Keep(t.Context(), user, id, time.Hour))
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.Delegations != 1 || report.Unknown != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	copied := memstore.New(0)
	defer copied.Close()
	if got, err := importInto(t, copied, export(t, s), false); err != nil || got.Delegations != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := keeper(copied).Token(t.Context(), user, delegation.Source{Provider: anyProvider{}, Lifetime: time.Hour}); got != "at" || err != nil {
		t.Errorf("after the move: %q, %v", got, err)
	}
	for i := range 100 { // each character of the alphabet turns up
		name := users.UserPart(fmt.Sprint("acme:", i))
		if err := delegation.CheckRecord(name, []byte(`{"v":1,"tokens":{"sealed":1}}`)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	changed(t, s, issuer+"delegation/"+user, `{"v":2}`)
	put(t, s, issuer+"delegation/"+strings.Repeat("b", 16), `{"v":1,"tokens":"at"}`)
	put(t, s, issuer+"delegation/acme:alice", `{"v":1}`)
	report, err = checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 3 {
		t.Fatalf("of three that are damaged it finds %+v, %v", report.Findings, err)
	}
	for i, want := range []string{"go on with that version", "the key is not that of a provider's tokens; it does no harm", "are not sealed; it does no harm"} {
		if !strings.Contains(report.Findings[0].Problem+report.Findings[1].Problem+report.Findings[2].Problem, want) {
			t.Errorf("finding %d: %+v, want %q", i, report.Findings, want)
		}
	}
}
