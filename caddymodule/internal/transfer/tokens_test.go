package transfer_test

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// Tokens that were made by command move with the rest, and damage to them is found.
func TestBearerTokensAreKnown(t *testing.T) {
	s := memstore.New(0)
	defer s.Close()
	filled(t, s, nil)
	tokens, err := apitoken.Open(t.Context(), s, issuer, zap.NewNop())
	must(t, err)
	secret, _, err := tokens.Create(t.Context(), apitoken.Spec{Name: "ci"})
	must(t, err)
	for _, name := range []string{"newer", "damaged"} {
		_, _, err := tokens.Create(t.Context(), apitoken.Spec{Name: name})
		must(t, err)
	}
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.APITokens != 3 || report.Unknown != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	copied := memstore.New(0)
	defer copied.Close()
	if got, err := importInto(t, copied, export(t, s), false); err != nil || got.APITokens != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	moved, err := apitoken.Open(t.Context(), copied, issuer, zap.NewNop())
	must(t, err)
	if _, ok := moved.View(nil, nil).Find(secret); !ok {
		t.Error("the token is not good any more after the move")
	}

	changed(t, s, issuer+"apitoken/newer", `{"v":2}`)
	changed(t, s, issuer+"apitoken/damaged", `{"hash":"AAAA"}`)
	put(t, s, issuer+"apitoken/-x", `{"v":1}`)
	report, err = checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 3 {
		t.Fatalf("of three that are damaged it finds %+v, %v", report.Findings, err)
	}
	for i, want := range []string{
		"the key is not that of a token; restore a backup, or make a new token of that name",
		"stored token is incomplete", "version 2; this program reads version 1; a newer version of this program has written it",
	} {
		if got := report.Findings[i].Problem; !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", report.Findings[i].Key, got, want)
		}
	}
}
