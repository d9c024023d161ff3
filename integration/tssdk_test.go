package integration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// journeyStep is a line that the journeys in node/ print. Each step has only some of the fields.
type journeyStep struct {
	Step     string
	Requests []string // "<method> <path> [<grant type or JSON-RPC method>] <status>", in their order
	Secrets  []string

	Error       string            // discover, after: the SDK's error
	AuthMethod  string            `json:"auth_method"` // discover: what the registration answered
	HasSecret   bool              `json:"has_secret"`
	Authorize   string            // discover: the authorization endpoint
	Parameters  map[string]string // discover: of the authorization request
	Titles      []string          // authorize: of the pages
	Method      string            // authorize: of the callback
	Issuer      string            `json:"iss"`
	SameState   bool              `json:"same_state"`
	Scope       string            // token, refresh
	TokenType   string            `json:"token_type"`
	ExpiresIn   int               `json:"expires_in"`
	Protocol    string            // connect: the negotiated version
	Server      string            // connect: the name of the MCP server
	Tools       []string          // tools/list
	Failed      bool              // tools/call, refresh: the tool says that it failed
	Bugs        int               // tools/call, refresh
	NewAccess   bool              `json:"new_access"`
	NewRefresh  bool              `json:"new_refresh"`
	Status      int               // revoke
	Invalidated []string          // after: what the SDK threw away
	Asked       int               // after: how often a browser was asked for, in all
	SameClient  bool              `json:"same_client"`
}

// typeScriptSDK goes the whole way with a generation of the TypeScript SDK, in a program of its own.
func (w sdkWay) typeScriptSDK(t *testing.T, g *gateway, documentAddress string) {
	t.Helper()
	if w.client != document {
		documentAddress = ""
	}
	endpoint, first := "/mcp", "POST /mcp initialize"
	switch {
	case w.transport == "sse":
		endpoint, first = "/messages", "GET /sse"
	case w.version == "2026-07-28":
		first = "POST /mcp server/discover"
	}
	script := map[string]string{"TypeScript v1": "journey-v1.mjs", "TypeScript v2": "journey-v2.mjs"}[w.sdk]
	j := runJourney(t, g, w.path(), documentAddress, script, w.transport, w.mode)

	j.checkDiscovery(t, w.path(), first)
	j.checkAuthorization(t)
	connect := j.step(t, "connect")
	if connect.Protocol != w.version || connect.Server != "cisco-support" {
		t.Errorf("connected to %q with version %q, want cisco-support with %q", connect.Server, connect.Protocol, w.version)
	}
	if !slices.Contains(connect.Requests, first+" 200") {
		t.Errorf("the connection took %q, without %q", connect.Requests, first+" 200")
	}
	j.checkTools(t)
	j.checkRefresh(t, endpoint)
	j.checkEnd(t, endpoint)
}

// journeyLog is what a journey printed.
type journeyLog struct {
	g        *gateway
	document string
	steps    []journeyStep
}

func runJourney(t *testing.T, g *gateway, resource, document, script string, args ...string) *journeyLog {
	t.Helper()
	env := g.trusting("MCP_SERVER="+g.origin+resource, "MCP_USER="+userName, "MCP_PASSWORD="+userPassword)
	if document != "" {
		env = append(env, "CLIENT_DOCUMENT="+document)
	}
	j := &journeyLog{g: g, document: document}
	for _, line := range runScript(t, env, script, args...) {
		var step journeyStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("%s printed no JSON: %v: %s", script, err, line)
		}
		g.keepSecret(step.Secrets...)
		j.steps = append(j.steps, step)
	}
	return j
}

// step returns the step of that name. The journey stops where something fails, so the first step that is missing tells.
func (j *journeyLog) step(t *testing.T, name string) journeyStep {
	t.Helper()
	for _, s := range j.steps {
		if s.Step == name {
			return s
		}
	}
	t.Fatalf("the journey ended before the step %q", name)
	return journeyStep{}
}

func (j *journeyLog) checkDiscovery(t *testing.T, resource, first string) {
	t.Helper()
	s := j.step(t, "discover")
	want := []string{
		first + " 401",
		"GET /.well-known/oauth-protected-resource" + resource + " 200",
		"GET /.well-known/oauth-authorization-server 200",
		"POST /register 201",
	}
	method := "none"
	if j.document != "" {
		want, method = want[:3], ""
	}
	if !slices.Equal(s.Requests, want) {
		t.Errorf("discovery took %q, want %q", s.Requests, want)
	}
	if s.Error != "UnauthorizedError" || s.Authorize != j.g.origin+"/authorize" {
		t.Errorf("the first connection ended with %q and a browser at %q", s.Error, s.Authorize)
	}
	if s.AuthMethod != method || s.HasSecret || j.document != "" && s.Parameters["client_id"] != j.document {
		t.Errorf("%s with method %q (secret: %v), want a public client", s.Parameters["client_id"], s.AuthMethod, s.HasSecret)
	}
	for name, value := range map[string]string{"resource": j.g.origin + resource, "code_challenge_method": "S256"} {
		if s.Parameters[name] != value {
			t.Errorf("the authorization request has %s=%q, want %q", name, s.Parameters[name], value)
		}
	}
	if !slices.Contains(strings.Fields(s.Parameters["scope"]), "mcp") {
		t.Errorf("the authorization request asks for the scope %q, want the one of the challenge", s.Parameters["scope"])
	}
}

func (j *journeyLog) checkAuthorization(t *testing.T) {
	t.Helper()
	s := j.step(t, "authorize")
	want := []string{"Sign in – Cisco Support", "Connect “Journey” to Cisco Support?", "Connected – returning to “Journey”"}
	if j.document != "" { // somebody vouches for the name, so it has no quotation marks
		want[1], want[2] = "Connect Journey to Cisco Support?", "Connected – returning to Journey"
	}
	if !slices.Equal(s.Titles, want) {
		t.Errorf("the person saw %q, want %q", s.Titles, want)
	}
	if s.Method != "GET" || s.Issuer != j.g.origin || !s.SameState {
		t.Errorf("the callback was a %s with iss=%q (state as sent: %v)", s.Method, s.Issuer, s.SameState)
	}
	token := j.step(t, "token")
	if token.Scope != "mcp" || token.TokenType != "Bearer" || token.ExpiresIn != 3600 {
		t.Errorf("the token is of type %q for %q and %d seconds", token.TokenType, token.Scope, token.ExpiresIn)
	}
	if n := len(token.Requests); n == 0 || token.Requests[n-1] != "POST /token authorization_code 200" {
		t.Errorf("the code was redeemed with %q", token.Requests)
	}
}

func (j *journeyLog) checkTools(t *testing.T) {
	t.Helper()
	tools := j.step(t, "tools/list").Tools
	for _, name := range []string{"search_bugs_by_keyword", "get_bug_details", "create_case"} {
		if !slices.Contains(tools, name) {
			t.Errorf("the list of tools lacks %s: %q", name, tools)
		}
	}
	if s := j.step(t, "tools/call"); s.Failed || s.Bugs == 0 {
		t.Errorf("the search failed (%v) or found nothing (%d bugs)", s.Failed, s.Bugs)
	}
}

// checkRefresh wants a call with a bad access token to be refused, to cost one refresh and to succeed then.
func (j *journeyLog) checkRefresh(t *testing.T, endpoint string) {
	t.Helper()
	s := j.step(t, "refresh")
	call := "POST " + endpoint + " tools/call "
	if n := len(s.Requests); n < 3 || s.Requests[0] != call+"401" || s.Requests[n-2] != "POST /token refresh_token 200" ||
		!strings.HasPrefix(s.Requests[n-1], call+"20") {
		t.Errorf("the refresh took %q", s.Requests)
	}
	if s.Failed || s.Bugs == 0 || !s.NewAccess || !s.NewRefresh || s.Scope != "mcp" || s.ExpiresIn != 3600 {
		t.Errorf("the refresh ended with %+v", s)
	}
}

// checkEnd wants the refresh token to be worth nothing after its revocation, and the SDK to ask for a browser again,
// with the registration that it has.
func (j *journeyLog) checkEnd(t *testing.T, endpoint string) {
	t.Helper()
	if s := j.step(t, "revoke"); s.Status != 200 {
		t.Errorf("/revoke answers %d", s.Status)
	}
	s := j.step(t, "after")
	for _, request := range []string{"POST " + endpoint + " tools/call 401", "POST /token refresh_token 400"} {
		if !slices.Contains(s.Requests, request) {
			t.Errorf("after the revocation the SDK sent %q, without %q", s.Requests, request)
		}
	}
	if s.Error != "UnauthorizedError" || s.Asked != 2 || !s.SameClient || !slices.Equal(s.Invalidated, []string{"tokens"}) {
		t.Errorf("after the revocation the SDK ended with %q, asked for a browser %d times (same client: %v) and dropped %q",
			s.Error, s.Asked, s.SameClient, s.Invalidated)
	}
}
