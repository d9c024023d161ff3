package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func newLog() (*audit.Log, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return audit.New(zap.New(core), "https://mcp.example"), logs
}

func source(ip string) audit.Source {
	return audit.Source{IP: func() string { return ip }, RequestID: func() string { return "r1" }}
}

func TestWhatALineHas(t *testing.T) {
	log, logs := newLog()
	ctx := audit.Begin(t.Context(), source("192.0.2.1"))
	audit.Know(ctx, func(e *audit.Event) {
		e.ClientID, e.RedirectURI = "https://app.example/client.json", "http://127.0.0.1:33418/cb?x=1"
	})
	log.Write(ctx, audit.Event{
		Name: audit.TokenIssue, User: "alice", Scopes: oauth.Scopes{"mcp", "write"}, Resource: "https://mcp.example/mcp",
		GrantID: "g1", GrantType: "refresh_token", Token: "secret-token",
	})
	log.Write(t.Context(), audit.Event{Name: audit.KeysRotate, By: audit.ByOperator, Reason: "immediately"})
	want := []map[string]any{
		{
			"event": "token.issue", "outcome": "success", "user": "alice", "client_id": "https://app.example/client.json",
			"client_host": "app.example", "redirect_host": "127.0.0.1:33418", "scopes": "mcp write", "resource": "https://mcp.example/mcp",
			"grant_id": "g1", "grant_type": "refresh_token", "token": audit.Fingerprint("secret-token"),
			"ip": "192.0.2.1", "request_id": "r1", "issuer": "https://mcp.example",
		},
		{"event": "keys.rotate", "outcome": "success", "by": "operator", "reason": "immediately", "issuer": "https://mcp.example"},
	}
	for i, entry := range logs.All() {
		if diff := cmp.Diff(want[i], entry.ContextMap()); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i, diff)
		}
		if entry.Message != want[i]["event"] || entry.Level != zapcore.InfoLevel {
			t.Errorf("line %d says %s at level %s", i, entry.Message, entry.Level)
		}
	}
}

func TestATokenCannotBeToldByItsFingerprint(t *testing.T) {
	const token = "mcpr_secret"
	print := audit.Fingerprint(token)
	if len(print) != 16 || strings.Contains(token, print) || print == audit.Fingerprint("mcpr_secret2") || audit.Fingerprint("") != "" {
		t.Errorf("the fingerprint is %q", print)
	}
}

func TestWhereAnswersGo(t *testing.T) {
	for uri, want := range map[string]any{
		"https://app.example:8443/cb?code=x": "app.example:8443", "cursor://anysphere.cursor-mcp/cb": "cursor:", "cursor:cb": "cursor:",
		"http://[::1]:1/": "[::1]:1", "": nil, "://": nil, "\x00": nil, "/x": nil,
	} {
		log, logs := newLog()
		log.Write(t.Context(), audit.Event{Name: audit.Authorization, RedirectURI: uri})
		if got := logs.All()[0].ContextMap()["redirect_host"]; got != want {
			t.Errorf("%q goes to %v, want %v", uri, got, want)
		}
	}
}

// Whoever can choose a text cannot make a line that is long, or two lines.
func TestTextsOfOthersAreBounded(t *testing.T) {
	var out strings.Builder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zapcore.InfoLevel)
	long := strings.Repeat("ü\n\xff\"", 5000)
	audit.New(zap.New(core), "i").Write(t.Context(), audit.Event{
		Name: audit.ToolCall, User: long, Provider: long, ClientID: "https://" + long, RedirectURI: "x:" + long, Resource: long, GrantID: long,
		GrantType: long, Token: long, Tool: long, Method: long, Reason: long, Scopes: make(oauth.Scopes, 100000),
	})
	if line := strings.TrimSuffix(out.String(), "\n"); strings.Contains(line, "\n") || len(line) > 30<<10 {
		t.Errorf("the line has %d bytes", len(line))
	}
}

func TestAFloodOfRefusalsIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := newLog()
		refuse := func(ip string) {
			log.Write(audit.Begin(t.Context(), source(ip)), audit.Event{Name: audit.RequestRefuse, Outcome: audit.Refused})
		}
		for range 1000 {
			refuse("192.0.2.1")
			refuse("2001:db8::1")
			refuse("2001:db8::2") // the same network
		}
		if n := logs.Len(); n != 120 {
			t.Errorf("%d lines for two networks", n)
		}
		refuse("192.0.2.2")
		suppressed := int64(0)
		for _, entry := range logs.All() {
			n, _ := entry.ContextMap()["suppressed"].(int64)
			suppressed += n
		}
		if last := logs.All()[logs.Len()-1].ContextMap(); logs.Len() != 121 || last["ip"] != "192.0.2.2" || suppressed != 3000-120 {
			t.Errorf("somebody else's refusal is %v, and %d are said to be suppressed", last, suppressed)
		}
		for i := range 5000 {
			refuse(fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		}
		if n := logs.Len(); n != 1200 {
			t.Errorf("%d lines for thousands of addresses", n)
		}
		// What has happened is told whatever is refused.
		log.Write(t.Context(), audit.Event{Name: audit.Login})
		if logs.Len() != 1201 {
			t.Error("a sign-in is missing")
		}
		// A token that comes back is refused, and has ended a grant.
		log.Write(audit.Begin(t.Context(), source("192.0.2.1")), audit.Event{Name: audit.TokenReuse, Outcome: audit.Refused, GrantID: "g1"})
		if last := logs.All()[logs.Len()-1].ContextMap(); logs.Len() != 1202 || last["grant_id"] != "g1" {
			t.Error("the end of a grant is missing")
		}
		time.Sleep(time.Hour)
		refuse("192.0.2.1")
		if last := logs.All()[logs.Len()-1].ContextMap(); logs.Len() != 1203 || last["suppressed"] == nil {
			t.Errorf("after an hour: %v", last)
		}
	})
}

func TestNoLogTellsNothing(t *testing.T) {
	var none *audit.Log
	none.Write(t.Context(), audit.Event{Name: audit.Login, Outcome: audit.Refused})
	audit.Know(t.Context(), func(*audit.Event) { t.Error("something is known outside of a request") })
}
