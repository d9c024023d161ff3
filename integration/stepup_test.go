package integration

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// toolScopes lets everyone search and, when that is asked for, make cases. update_case is in no scope.
const toolScopes = `
	scope bugs:read "Search and read bugs" {
		tools search_* get_*
	}
	scope cases:write "Create support cases" {
		tools create_case
		implies bugs:read
		optional
	}`

// stepUpStep is a line that node/step-up.mjs prints. Each step has only some of the fields.
type stepUpStep struct {
	Step, Wanted, Scope, Error, Text string
	Code                             any
	Failed                           bool
	Asked                            int
	Tools, Requests, Secrets         []string
}

// TestStepUp starts each of the official clients with the least, and lets it gain a scope when it calls a tool that needs
// one. The first generation of the TypeScript SDK refreshes first and would end there.
func TestStepUp(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + toolScopes +
		"\nclient " + public + " {\nredirect_uris " + redirectURI + "\n}\n}"})
	for _, way := range []struct{ generation, mode string }{{"v1", ""}, {"v2", "legacy"}, {"v2", "modern"}} {
		t.Run(strings.TrimSpace("TypeScript "+way.generation+" "+way.mode), func(t *testing.T) {
			t.Parallel()
			needNode(t)
			steps := map[string]stepUpStep{}
			env := g.trusting("MCP_SERVER="+g.origin+"/mcp", "MCP_USER="+userName, "MCP_PASSWORD="+userPassword)
			for _, line := range runScript(t, env, "step-up.mjs", way.generation, way.mode) {
				var s stepUpStep
				if err := json.Unmarshal([]byte(line), &s); err != nil {
					t.Fatalf("no JSON: %v: %s", err, line)
				}
				g.keepSecret(s.Secrets...)
				steps[s.Step] = s
			}
			checkStepUp(t, steps)
			refreshed := slices.Contains(steps["refused"].Requests, "POST /token refresh_token 400")
			if refreshed != (way.generation == "v1") {
				t.Errorf("the refused call took %q", steps["refused"].Requests)
			}
		})
	}
	for _, way := range []sdkWay{
		{"Go", "http", registers, "2026-07-28", ""}, {"Go", "http", registers, "2025-11-25", ""}, {"Go", "http", public, "2025-11-25", ""},
	} {
		t.Run(way.sdk+" "+way.version+" "+way.client, func(t *testing.T) { way.goStepUp(t, g) })
	}
}

func checkStepUp(t *testing.T, steps map[string]stepUpStep) {
	t.Helper()
	if s := steps["connect"]; !sameScopes(s.Wanted, "bugs:read") || !sameScopes(s.Scope, "bugs:read") {
		t.Errorf("at first the client wants %q and gets %q", s.Wanted, s.Scope)
	}
	if s := steps["list"]; slices.Contains(s.Tools, "create_case") || !slices.Contains(s.Tools, "search_bugs_by_keyword") {
		t.Errorf("the list has %q", s.Tools)
	}
	if s := steps["search"]; s.Error != "" || s.Failed {
		t.Errorf("a search ends with %+v", s)
	}
	if s := steps["refused"]; s.Error != "UnauthorizedError" || s.Asked != 2 {
		t.Errorf("the call without the scope ends with %+v, and a person was asked %d times", s.Error, s.Asked)
	}
	if s := steps["agreed"]; !sameScopes(s.Wanted, "bugs:read cases:write") || !sameScopes(s.Scope, "bugs:read cases:write") {
		t.Errorf("then the client wants %q and gets %q", s.Wanted, s.Scope)
	}
	if s := steps["created"]; s.Error != "" || s.Failed || !strings.Contains(s.Text, "Created case") {
		t.Errorf("the call with the scope ends with %+v", s)
	}
	// What nobody can get is an error of the call and of nothing else.
	if s := steps["nobody"]; s.Code != float64(-32602) || s.Asked != 2 || !strings.Contains(s.Text, "no scope") {
		t.Errorf("the call that no scope is good for ends with %+v", s)
	}
	if s := steps["after"]; s.Error != "" || s.Failed {
		t.Errorf("a search after it ends with %+v", s)
	}
}

// sameScopes compares scopes in any order. The second generation of the TypeScript SDK adds offline_access to what it asks
// for.
func sameScopes(got, want string) bool {
	x := slices.DeleteFunc(strings.Fields(got), func(s string) bool { return s == "offline_access" })
	y := strings.Fields(want)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func (w sdkWay) goStepUp(t *testing.T, g *gateway) {
	t.Helper()
	person := &goPerson{visitor: g.newVisitor(t), agrees: 2}
	handler := person.handler(t, g, func(c *auth.AuthorizationCodeHandlerConfig) { w.goClient(c, "") })
	session := w.connectGo(t, g, handler)
	callGo(t, session)
	create := &mcp.CallToolParams{Name: "create_case", Arguments: map[string]any{"title": "It broke", "description": "all of it"}}
	result, err := session.CallTool(t.Context(), create)
	if w.client == registers && w.version < "2026" {
		// The SDK registers anew to ask for more, and the MCP session belongs to the client of before.
		if !errors.Is(err, mcp.ErrSessionMissing) {
			t.Fatalf("create_case: %v", err)
		}
		session = w.connectGo(t, g, handler)
		result, err = session.CallTool(t.Context(), create)
	}
	if err != nil || result.IsError || person.asked != 2 {
		t.Fatalf("create_case: %+v, %v; the person was asked %d times", result, err, person.asked)
	}
	_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "update_case", Arguments: map[string]any{"case_id": "600000001"}})
	refusal, ok := errors.AsType[*jsonrpc.Error](err)
	if !ok || refusal.Code != jsonrpc.CodeInvalidParams || person.asked != 2 {
		t.Errorf("update_case: %v; the person was asked %d times", err, person.asked)
	}
	callGo(t, session) // the connection goes on
}

// TestStepUpRefusesOneRefresh wants a refused call to make one refresh fail, on whatever node, and nothing else to end.
func TestStepUpRefusesOneRefresh(t *testing.T) {
	t.Parallel()
	backend, redis := startBackend(t), redistest.StartServer(t)
	config := redisConfig(backend, "redis://"+redis.Addr)
	config.site = strings.Replace(config.site, userLine, userLine+toolScopes, 1)
	nodes := startGateways(t, config, config)
	one, two := nodes[0], nodes[1]
	gr := one.newGrant(t, nil)
	create := strings.Replace(toolsCall, "search_bugs_by_keyword", "create_case", 1)
	refused := func(g *gateway) {
		t.Helper()
		a := g.rpc(t, gr.access, create)
		wantStatus(t, "a call without the scope", a, http.StatusForbidden)
		if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope"`) || !strings.Contains(got, `scope="bugs:read cases:write"`) {
			t.Errorf("the challenge is %s", got)
		}
	}
	refused(one)
	a := two.refresh(t, gr.clientID, gr.refresh)
	if a.status != http.StatusBadRequest || a.field(t, "error") != "invalid_grant" {
		t.Errorf("the refresh at the other node answers %d %s", a.status, a.body)
	}
	wantTools(t, "a call with the access token", two.call(t, two.client, "/mcp", gr.access))
	// A client that cannot ask, or whose person says no, is not signed out again and again.
	for range 5 {
		refused(one)
		refused(two)
		gr.take(t, two.refresh(t, gr.clientID, gr.refresh))
	}
}

// TestScopesOfStrangers wants no client to gain what its user may not have.
func TestScopesOfStrangers(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + strings.Replace(toolScopes, "optional", "optional\nallow group admins", 1) + "\n}"})
	v := g.newVisitor(t)
	gr := g.newGrantFor(t, v, url.Values{"scope": {"bugs:read cases:write"}})
	create := strings.Replace(toolsCall, "search_bugs_by_keyword", "create_case", 1)
	for range 3 {
		a := g.rpc(t, gr.access, create)
		wantStatus(t, "a call without the scope", a, http.StatusOK)
		if !strings.Contains(a.body, `"code":-32602`) || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("the answer is %s with %v", a.body, a.header)
		}
	}
	gr.renew(t)
	wantTools(t, "another call", g.call(t, g.client, "/mcp", gr.access))
}

// rpc posts a message with a token.
func (g *gateway) rpc(t testing.TB, token, body string, headers ...string) *answer {
	t.Helper()
	headers = append([]string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Authorization", "Bearer " + token}, headers...)
	return send(t, g.client, http.MethodPost, g.origin+"/mcp", body, headers...)
}
