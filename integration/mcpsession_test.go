package integration

import (
	"net/http"
	"strings"
	"testing"
)

// inSession sends a request of a session with a token.
func inSession(t testing.TB, g *gateway, method, path, token, session string) *answer {
	t.Helper()
	headers := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Authorization", "Bearer " + token}
	if session != "" {
		headers = append(headers, "Mcp-Session-Id", session)
	}
	return send(t, g.client, method, g.origin+path, toolsCall, headers...)
}

// begin makes the recorder give a session to whoever has the token.
func begin(t testing.TB, g *gateway, token, session string) {
	t.Helper()
	a := send(t, g.client, "POST", g.origin+"/mcp", toolsCall, "Authorization", "Bearer "+token, beginSession, session)
	if wantStatus(t, "beginning a session", a, http.StatusOK); a.header.Get("Mcp-Session-Id") != session {
		t.Errorf("the client gets the session %q", a.header.Get("Mcp-Session-Id"))
	}
}

// wantNoSession fails the test when an answer does not make the client begin a new session.
func wantNoSession(t testing.TB, what string, a *answer) {
	t.Helper()
	wantStatus(t, what, a, http.StatusNotFound)
	if a.body != `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}` || a.header.Get("WWW-Authenticate") != "" {
		t.Errorf("%s: %v %s", what, a.header, a.body)
	}
}

// wantAlone checks that a session is of use to its owner only, and that the upstream sees nobody else's requests.
func wantAlone(t testing.TB, g *gateway, rec *recorder, session, owner string, others ...string) {
	t.Helper()
	rec.reset()
	for _, token := range others {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			wantNoSession(t, method+" of somebody else", inSession(t, g, method, "/mcp", token, session))
		}
		for _, path := range []string{"/messages?sessionId=", "/messages?sessionid=", "/messages/?a=b&session_id=", "/messages?sessionId[]=", "/messages?[sessionId]=", "/messages?[sessionId]x=", "/mcp?session%49d="} {
			wantNoSession(t, path+" of somebody else", inSession(t, g, "POST", path+session, token, ""))
		}
	}
	if seen := rec.seen(); len(seen) > 0 {
		t.Errorf("the upstream sees %s %s of somebody else", seen[0].Method, seen[0].Target)
	}
	for _, method := range []string{"POST", "GET"} {
		wantStatus(t, method+" of its owner", inSession(t, g, method, "/mcp", owner, session), http.StatusOK)
	}
	wantStatus(t, "a message of its owner", inSession(t, g, "POST", "/messages?sessionId="+session, owner, ""), http.StatusOK)
}

// TestSessionBelongsToItsUser lets somebody with a good token use the session of somebody else, in each way that there
// is, before and after a restart.
func TestSessionBelongsToItsUser(t *testing.T) {
	t.Parallel()
	const script = "script_token_12345678"
	rec := startRecorder(t)
	cfg := gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\nuser bob " + userHash + "\nbearer_token " + script + "\nbearer_token another_token_12345678\n}"}
	g := startGateway(t, cfg)
	g.keepSecret(script, "another_token_12345678")
	alice, app, bob := g.newGrant(t, nil), g.newGrant(t, nil), g.newGrantFor(t, g.newVisitorNamed(t, "bob"), nil)
	made := makeToken(t, g, "ci")
	others := []string{bob.access, app.access, script, made}

	begin(t, g, alice.access, "header-session")
	wantAlone(t, g, rec, "header-session", alice.access, others...)
	stream := openStream(t, g.client, g.origin+"/sse", alice.access)
	stream.want(endpointEvent)
	wantAlone(t, g, rec, "abc", alice.access, others...)
	stream.cancel()
	begin(t, g, made, "token-session")
	wantAlone(t, g, rec, "token-session", made, bob.access, script)
	begin(t, g, script, "script-session")
	wantAlone(t, g, rec, "script-session", script, bob.access, made, "another_token_12345678")

	wantNoSession(t, "a session of nobody", inSession(t, g, "POST", "/mcp", alice.access, "guess"))
	alice.renew(t)
	wantAlone(t, g, rec, "header-session", alice.access, others...)
	if err := g.reload(cfg); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, g, rec, "header-session", alice.access, others...)
	g.restart(true)
	for _, session := range []string{"header-session", "abc"} {
		wantAlone(t, g, rec, session, alice.access, others...)
	}
	wantAlone(t, g, rec, "script-session", script, bob.access)

	wantStatus(t, "ending the session", inSession(t, g, "DELETE", "/mcp", alice.access, "header-session"), http.StatusOK)
	rec.reset()
	wantNoSession(t, "after its end", inSession(t, g, "POST", "/mcp", alice.access, "header-session"))
	if n := len(rec.seen()); n > 0 {
		t.Errorf("%d requests have reached the upstream", n)
	}
}

// TestSessionOverTwoNodes begins a session at one node and uses it at the other.
func TestSessionOverTwoNodes(t *testing.T) {
	t.Parallel()
	one, two, rec := startNodes(t)
	alice, bob := one.newGrant(t, nil), one.newGrant(t, nil)
	begin(t, one, alice.access, "header-session")
	wantAlone(t, two, rec, "header-session", alice.access, bob.access)
	wantAlone(t, one, rec, "header-session", alice.access, bob.access)
	stream := openStream(t, one.client, one.origin+"/sse", alice.access)
	stream.want(endpointEvent)
	wantAlone(t, two, rec, "abc", alice.access, bob.access)
	stream.cancel()
	one.proc.kill()
	two.restart(true)
	wantAlone(t, two, rec, "header-session", alice.access, bob.access)
}

// TestSessionOfSDK uses the session of somebody else at a server of the official Go SDK, which would answer.
func TestSessionOfSDK(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\nuser bob " + userHash + "\n}"})
	alice, bob := g.newGrant(t, nil), g.newGrantFor(t, g.newVisitorNamed(t, "bob"), nil)
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",` +
		`"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`
	ask := func(token, session, body string, headers ...string) *answer {
		headers = append(headers, "Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Authorization", "Bearer "+token)
		if session != "" {
			headers = append(headers, "Mcp-Session-Id", session)
		}
		return send(t, g.client, "POST", g.origin+"/mcp", body, headers...)
	}
	begun := ask(alice.access, "", initialize)
	session := begun.header.Get("Mcp-Session-Id")
	if begun.status != http.StatusOK || session == "" {
		t.Fatalf("initialize: %d %v %s", begun.status, begun.header, begun.body)
	}
	const list = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
	const initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	wantStatus(t, "a notification", ask(alice.access, session, initialized, "MCP-Protocol-Version", "2025-06-18"), http.StatusAccepted)
	if a := ask(alice.access, session, list, "MCP-Protocol-Version", "2025-06-18"); a.status != http.StatusOK || !strings.Contains(a.body, "search_bugs_by_keyword") {
		t.Errorf("tools/list of its owner: %d %s", a.status, a.body)
	}
	wantNoSession(t, "tools/list of somebody else", ask(bob.access, session, list, "MCP-Protocol-Version", "2025-06-18"))
	wantNoSession(t, "without a version", ask(bob.access, session, list))
	// A version without sessions makes it no session, so the server has nothing to answer from.
	if a := ask(bob.access, session, list, "MCP-Protocol-Version", "2026-07-28"); a.header.Get("Mcp-Session-Id") == session {
		t.Errorf("somebody else is in the session by another version: %d %v", a.status, a.header)
	}
	wantNoSession(t, "ending it", send(t, g.client, "DELETE", g.origin+"/mcp", "", "Authorization", "Bearer "+bob.access, "Mcp-Session-Id", session))
	if a := ask(alice.access, session, list, "MCP-Protocol-Version", "2025-06-18"); a.status != http.StatusOK {
		t.Errorf("after all of that its owner gets %d %s", a.status, a.body)
	}
}
