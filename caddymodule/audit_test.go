package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
)

// audited returns the lines of the audit log so far.
func (m *machine) audited() (lines []map[string]any) {
	m.t.Helper()
	for line := range strings.Lines(m.logs()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			m.t.Fatal(err)
		}
		if fields["logger"] == "mcp_auth.audit" {
			lines = append(lines, fields)
		}
	}
	return lines
}

// post sends a message to an MCP endpoint. Headers are pairs.
func (m *machine) post(target, token, body string, headers ...string) reply {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return m.do(r)
}

func TestRefusedRequestsInTheAuditLog(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\n"+alice+"}", `http://a.localhost:%[1]d {
		mcp_auth {
			bearer_token narrow_token_12345 bugs:write
			scope bugs:write "Write" {
				tools write_*
			}
			scope bugs:read "Read" {
				tools read_*
			}
		}
		respond ok
	}`)
	a := m.url("a.localhost", 1)
	m.status("with a token", a+"/mcp", "narrow_token_12345", http.StatusOK)
	m.status("without one", a+"/mcp", "", http.StatusUnauthorized)
	m.status("elsewhere", a+"/elsewhere", "", http.StatusUnauthorized)
	if lines := m.audited(); len(lines) != 0 {
		t.Errorf("what happens every day is told: %v", lines)
	}

	m.status("with a wrong token", a+"/mcp", "a-wrong-token-of-somebody", http.StatusUnauthorized)
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_bug"}}`
	if got := m.post(a+"/mcp", "narrow_token_12345", call); got.status != http.StatusForbidden {
		t.Errorf("a call without the scope answers %d %s", got.status, got.body)
	}
	lines := m.audited()
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %v", len(lines), lines)
	}
	for i, want := range []map[string]any{
		{"status": 401.0, "token": audit.Fingerprint("a-wrong-token-of-somebody"), "reason": lines[0]["reason"]},
		{
			"status": 403.0, "token": audit.Fingerprint("narrow_token_12345"), "reason": lines[1]["reason"],
			"method": "tools/call", "tool": "read_bug", "user": "bearer", "client_id": "bearer", "scopes": "bugs:write",
		},
	} {
		want["event"], want["outcome"], want["ip"], want["issuer"], want["resource"] = "request.refuse", "refused", "127.0.0.1", a, a+"/mcp"
		got := lines[i]
		if got["request_id"] == nil || got["reason"] == nil || got["level"] != "info" || got["msg"] != "request.refuse" {
			t.Errorf("the line is %v", got)
		}
		for _, name := range []string{"request_id", "level", "msg", "logger", "ts"} {
			delete(got, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i, diff)
		}
	}
}

// Whoever is told to wait may go on asking.
func TestOneRequestThatIsHeldBackIsInTheAuditLog(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nbearer_token dev_token_12345\n}", `http://a.localhost:%[1]d {
		mcp_auth {
			rate_limit mcp 1 1h
		}
		respond ok
	}`)
	m.status("the first request", m.url("a.localhost", 1)+"/mcp", "dev_token_12345", http.StatusOK)
	for range 3 {
		m.status("one too many", m.url("a.localhost", 1)+"/mcp", "dev_token_12345", http.StatusTooManyRequests)
	}
	if lines := m.audited(); len(lines) != 1 || lines[0]["status"] != 429.0 || lines[0]["user"] != "bearer" {
		t.Errorf("the lines are %v", lines)
	}
}

func TestCallsInTheAuditLog(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nbearer_token dev_token_12345\n}", `http://rules.localhost:%[1]d {
		mcp_auth {
			audit {
				tool_calls
			}
			scope all "All" {
				tools *
			}
		}
		respond ok
	}
	http://headers.localhost:%[1]d {
		mcp_auth {
			audit {
				tool_calls
			}
		}
		respond ok
	}
	http://off.localhost:%[1]d {
		mcp_auth
		respond ok
	}`)
	const (
		token = "dev_token_12345"
		call  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one"}}`
		list  = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	)
	for _, tt := range []struct {
		name, host, token, body string
		headers                 []string
		want                    []string
	}{
		{"a call where bodies are read", "rules", token, call, nil, []string{"one"}},
		{"two in a batch", "rules", token, "[" + call + "," + strings.Replace(call, "one", "two", 1) + "]", nil, []string{"one", "two"}},
		{"no call", "rules", token, list, nil, nil},
		{"a call as its headers tell it", "headers", token, call, []string{"Mcp-Method", "tools/call", "Mcp-Name", "one"}, []string{"one"}},
		{"no call by its headers", "headers", token, list, []string{"Mcp-Method", "tools/list"}, nil},
		{"a call that is refused", "headers", "wrong", call, []string{"Mcp-Method", "tools/call", "Mcp-Name", "one"}, nil},
		{"where it is not asked for", "off", token, call, []string{"Mcp-Method", "tools/call", "Mcp-Name", "one"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(m.audited())
			m.post(m.url(tt.host+".localhost", 1)+"/mcp", tt.token, tt.body, tt.headers...)
			var got []string
			for _, line := range m.audited()[before:] {
				if line["event"] == "tool.call" {
					got = append(got, fmt.Sprint(line["tool"]))
					if line["outcome"] != "success" || line["user"] != "bearer" {
						t.Errorf("the line is %v", line)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What operators look for in a log has to be in the manual.
func TestLogsAreDocumented(t *testing.T) {
	manual, err := os.ReadFile("../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("internal/audit/audit.go")
	if err != nil {
		t.Fatal(err)
	}
	_, auditLog, _ := strings.Cut(string(manual), "\n## Audit log\n")
	auditLog, accessLog, _ := strings.Cut(auditLog, "\n## Access log\n")
	names := regexp.MustCompile(`(?:Name += |text\(|number\(|zap\.String\()"([a-z_.]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(names) < 40 {
		t.Errorf("only %d names have been found", len(names))
	}
	for _, name := range names {
		if !strings.Contains(auditLog, "`"+name[1]+"`") {
			t.Errorf("the manual says nothing of %s", name[1])
		}
	}
	for name := range secretParameters {
		if !strings.Contains(accessLog, "`"+name+"`") {
			t.Errorf("the manual says nothing of the parameter %s", name)
		}
	}
}
