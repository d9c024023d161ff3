package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOperatorsAreWarned(t *testing.T) {
	m := newMachine(t)
	for name, tt := range map[string]struct {
		lines string
		want  []string // of messages, in their order
		about map[string]any
	}{
		"nothing to say": {alice, nil, nil},
		"omission": {"dangerously_omit_auth\nforward X-User {http.auth.user.id}\nforward X-Fixed gateway\n", []string{
			"authentication is switched off: everyone who reaches this site can use the MCP server",
			"forward tells the MCP server nothing about users while dangerously_omit_auth is on, as nobody signs in",
		}, nil},
		"omission with rules": {"dangerously_omit_auth\nscope mcp \"All\" {\ntools *\n}\n", []string{
			"authentication is switched off: everyone who reaches this site can use the MCP server",
			"what scopes say about tools and methods has no effect while dangerously_omit_auth is on: every tool can be called",
		}, nil},
		"omission with a fixed header": {"dangerously_omit_auth\nforward X-Fixed gateway\n", []string{
			"authentication is switched off: everyone who reaches this site can use the MCP server",
		}, nil},
		"old clients": {alice + "pkce_plain\nallow_query_token\nbearer_token dev_token_12345\n", []string{
			"pkce_plain is on: authorization codes of clients that use it are not protected",
			"allow_query_token is on: tokens in addresses end up in logs and browser histories",
		}, nil},
		"query tokens without tokens": {alice + "auth_type oauth2.1\nallow_query_token\n", []string{
			"allow_query_token has no effect, as auth_type oauth2.1 takes no static token; take the line away, or write: auth_type both",
		}, nil},
		"open service accounts": {"registration {\nservice_accounts open\n}\n", []string{
			"service_accounts open: everyone who reaches this site can register a client and use the MCP server",
		}, nil},
		"devices where nobody signs in": {robot + "device_authorization\n", []string{
			"these lines have no effect, as nobody gets tokens that way; take them away, or add a user line",
		}, map[string]any{"lines": []any{"device_authorization"}}},
		"documents for tests": {alice + "registration {\nmetadata_documents_on_loopback\n}\n", []string{
			"metadata_documents_on_loopback is on: documents that programs on this machine serve are accepted; this is for tests only",
		}, nil},
		"users in bearer mode": {"auth_type bearer\n" + alice + "session_lifetime 1h\naccess_token_lifetime 2h\n", []string{
			"these lines have no effect, as nobody gets tokens that way; take them away, or write: auth_type both",
		}, map[string]any{"lines": []any{"access_token_lifetime", "user", "session_lifetime"}}},
		"sessions without users": {robot + "session_lifetime 1h\naccess_token_lifetime 2h\nrate_limit login 5 1m\n", []string{
			"these lines have no effect, as nobody gets tokens that way; take them away, or add a user line",
		}, map[string]any{"lines": []any{"session_lifetime", "rate_limit login"}}},
		"limits in bearer mode": {"auth_type bearer\nbearer_token dev_token_12345\nrate_limit token 5 1m\nrate_limit mcp 5 1m\n", []string{
			"these lines have no effect, as nobody gets tokens that way; take them away, or write: auth_type both",
		}, map[string]any{"lines": []any{"rate_limit token"}}},
		"a limit of users without users": {"dangerously_omit_auth\nrate_limit mcp 5 1m\n", []string{
			"authentication is switched off: everyone who reaches this site can use the MCP server",
			"rate_limit mcp has no effect while dangerously_omit_auth is on, as nobody can tell whose requests those are",
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, fields := m.warns(t, "", tt.lines)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			for key, want := range tt.about {
				if diff := cmp.Diff(want, fields[key]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", key, diff)
				}
			}
		})
	}
}

func TestOperatorsAreWarnedOfMatchersThatHideEndpoints(t *testing.T) {
	const warning = "a matcher keeps requests for endpoints from mcp_auth, so clients cannot sign in; take it away and name the paths " +
		"of the MCP server inside, for example: mcp_auth localhost:3000 { resource /mcp }"
	m := newMachine(t)
	for name, tt := range map[string]struct {
		matcher, lines string
		hidden         []any
	}{
		"a matcher that hides what devices need": {"@device ", alice + "device_authorization\n", []any{"/device_authorization", "/device"}},
		"a matcher that hides the endpoints": {"/mcp ", alice, []any{
			"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/token", "/register", "/authorize", "/login",
		}},
		"a matcher that hides some of them":    {"@some ", robot, []any{"/.well-known/oauth-authorization-server", "/register"}},
		"a matcher that hides none":            {"/* ", alice, nil},
		"a matcher that is not about paths":    {"@get ", alice, nil},
		"a matcher in front of static tokens":  {"/mcp ", "bearer_token dev_token_12345\n", nil},
		"a matcher of a pattern that hides it": {"@pattern ", robot, []any{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/register"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, fields := m.warns(t, tt.matcher, tt.lines)
			if tt.hidden == nil {
				if len(got) > 0 {
					t.Errorf("warnings %q", got)
				}
				return
			}
			if diff := cmp.Diff([]string{warning}, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.hidden, fields["hidden"]); diff != "" {
				t.Errorf("hidden (-want +got):\n%s", diff)
			}
		})
	}
}

// warns loads a site and returns the messages that this makes operators read, and
// the fields of the last one.
func (m *machine) warns(t *testing.T, matcher, lines string) (messages []string, fields map[string]any) {
	t.Helper()
	begin := len(m.logs())
	m.mustLoad("mcp_auth {\nstore memory\n}", "http://localhost:%[1]d {\n@get method GET\n@pattern path_regexp ^/(mcp|token)\n"+
		"@device path /.well-known/* /token /register /authorize /login\n@some path /mcp /token /.well-known/oauth-protected-resource/*\nmcp_auth "+matcher+"{\n"+lines+"}\nrespond ok\n}")
	return warnings(t, m.logs()[begin:])
}

// warnings returns the messages of this module in a log, and the fields of the
// last one.
func warnings(t *testing.T, log string) (messages []string, fields map[string]any) {
	t.Helper()
	for line := range strings.Lines(log) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry["level"] == "warn" && entry["logger"] == "mcp_auth" {
			if site, _ := entry["site"].(string); !strings.HasPrefix(site, "http://localhost:") {
				t.Errorf("the warning names no site: %s", line)
			}
			messages, fields = append(messages, entry["msg"].(string)), entry
		}
	}
	return messages, fields
}
