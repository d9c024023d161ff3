package transfer_test

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// Whose the sessions of MCP servers are moves with the rest, and damage is found.
func TestMCPSessionsAreKnown(t *testing.T) {
	s := memstore.New(0)
	defer s.Close()
	filled(t, s, nil)
	session, caller := mcpsession.Session{Resource: "https://mcp.example/mcp", ID: "1"}, mcpsession.Caller{Subject: "alice"}
	mcpsession.New(s, issuer, []byte("a key"), zap.NewNop()).Bind(t.Context(), session, caller)
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.MCPSessions != 1 || report.Unknown != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	copied := memstore.New(0)
	defer copied.Close()
	if got, err := importInto(t, copied, export(t, s), false); err != nil || got.MCPSessions != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := mcpsession.New(copied, issuer, []byte("a key"), zap.NewNop()).Check(t.Context(), session, caller); err != nil {
		t.Errorf("after the move: %v", err)
	}
	for key := range contents(t, s) {
		if strings.Contains(key, "/mcpsession/") {
			changed(t, s, key, `{"v":2}`)
		}
	}
	put(t, s, issuer+"mcpsession/"+strings.Repeat("A", 52), `{"v":1}`)
	report, err = checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 2 {
		t.Fatalf("of two that are damaged it finds %+v, %v", report.Findings, err)
	}
	for i, want := range []string{"the key is not that of an MCP session; it does no harm", "go on with that version"} {
		if got := report.Findings[i].Problem; !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", report.Findings[i].Key, got, want)
		}
	}
}
