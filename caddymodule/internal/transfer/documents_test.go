package transfer_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// Copies of metadata documents and marks of assertions move with the rest, and
// damage to them is found.
func TestDocumentsAndAssertionsAreKnown(t *testing.T) {
	s := memstore.New(0)
	defer s.Close()
	filled(t, s, nil)
	body := []byte(`{"client_id":"https://app.example/c","client_name":"App","redirect_uris":["https://app.example/cb"]}`)
	value, err := json.Marshal(map[string]any{"v": 1, "fresh": time.Now(), "document": body})
	must(t, err)
	// The key is the hash of the client_id with its length before it.
	const document = issuer + "document/" + "P2FCIMBALFS2OIQTH7BHXXVROQKOZVSZSWPEA5SLIYYUKMG77L5Q"
	assertion := issuer + "assertion/" + strings.Repeat("A", 52)
	for key, value := range map[string][]byte{document: value, assertion: []byte(`{"v":1}`)} {
		must(t, s.Put(t.Context(), key, store.Record{Value: value, Expires: time.Now().Add(time.Hour)}))
	}
	knowing := transfer.Checker{Session: func(string, []byte) error { return nil }, SessionVersion: 1}
	report, err := knowing.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.Documents != 1 || report.Assertions != 1 || report.Unknown != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	copied := memstore.New(0)
	defer copied.Close()
	if got, err := importInto(t, copied, export(t, s), false); err != nil || got.Documents != 1 || got.Assertions != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	changed(t, s, document, `{"document":"e30="}`)
	changed(t, s, assertion, `{"v":2}`)
	report, err = knowing.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 2 {
		t.Errorf("of two that are damaged it finds %+v, %v", report.Findings, err)
	}
	for _, f := range report.Findings {
		want := "the app has to be connected again"
		if f.Key == assertion {
			want = "go on with that version"
		}
		if !strings.Contains(f.Problem, want) {
			t.Errorf("%s: %s", f.Key, f.Problem)
		}
	}
	if client.DocumentVersion != 1 || client.AssertionVersion != 1 {
		t.Error("the schema has a new version; write the old one here too")
	}
}

// So do clients that an operator has added, and the marks of removed ones.
func TestAddedAndRemovedClientsAreKnown(t *testing.T) {
	s := memstore.New(0)
	defer s.Close()
	filled(t, s, nil)
	directory := client.NewDirectory(s, issuer, client.Config{ExpireAfter: time.Hour})
	for _, a := range []client.Addition{
		{ID: "robot"}, {ID: "app", Public: true, RedirectURIs: []string{"https://app.example/cb"}}, {ID: "signer", JWKSURI: "https://app.example/jwks"},
	} {
		_, _, err := directory.Add(t.Context(), a)
		must(t, err)
	}
	revocations, err := token.OpenRevocations(t.Context(), s, issuer, zap.NewNop())
	must(t, err)
	must(t, revocations.AddClient(t.Context(), "gone", time.Now(), time.Hour))
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.Added != 3 || report.Unknown != 0 || report.Revoked != filledWith.Revoked+1 {
		t.Errorf("%+v, %v", report, err)
	}
	copied := memstore.New(0)
	defer copied.Close()
	if got, err := importInto(t, copied, export(t, s), false); err != nil || got.Added != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if c, err := client.NewDirectory(copied, issuer, client.Config{}).Get(t.Context(), "robot"); err != nil || c.Public() {
		t.Errorf("in the copy: %+v, %v", c, err)
	}
	if after, err := token.OpenRevocations(t.Context(), copied, issuer, zap.NewNop()); err != nil || !after.RefusesClient("gone", 0) {
		t.Errorf("in the copy the removed client is good: %v", err)
	}
	damage := map[string]string{`{"id":"other"}`: "add the client again", `{"v":2}`: "go on with that version", `{"secret_hash":"AAAA"}`: "add the client again"}
	for key := range contents(t, s) {
		if strings.HasPrefix(key, issuer+"added/") {
			for fields, want := range damage {
				changed(t, s, key, fields)
				delete(damage, fields)
				if report, err = checker.Check(t.Context(), s); err != nil || !slices.ContainsFunc(report.Findings, func(f transfer.Finding) bool {
					return f.Key == key && strings.Contains(f.Problem, want)
				}) {
					t.Errorf("after %s it finds %+v, %v", fields, report.Findings, err)
				}
				break
			}
		}
	}
	if client.AddedVersion != 1 || token.RemovalVersion != 1 {
		t.Error("the schema has a new version; write the old one here too")
	}
}
