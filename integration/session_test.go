package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestSessionBelongsToItsUser lets a second user, with a good token of his own, use the id of somebody else's MCP
// session. The MCP server behind the gateway knows nothing of users, so the gateway has to refuse.
func TestSessionBelongsToItsUser(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\nuser bob " + userHash + "\n}"})
	alice := g.newGrant(t, nil)
	bob := g.newGrantFor(t, g.newVisitorNamed(t, "bob"), nil)
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"integration","version":"1"}}}`
	const list = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
	post := func(gr *grant, path, body, session string) *answer {
		t.Helper()
		return send(t, g.client, "POST", g.origin+path, body, "Authorization", "Bearer "+gr.access, "Content-Type", "application/json",
			"Accept", "application/json, text/event-stream", "Mcp-Session-Id", session, "Mcp-Protocol-Version", "2025-11-25")
	}

	opened := send(t, g.client, "POST", g.origin+"/mcp", initialize, "Authorization", "Bearer "+alice.access,
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	session := opened.header.Get("Mcp-Session-Id")
	if opened.status != http.StatusOK || session == "" {
		t.Fatalf("initialize: %d %s", opened.status, opened.body)
	}
	post(alice, "/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, session)
	wantStatus(t, "alice in her session", post(alice, "/mcp", list, session), http.StatusOK)
	wantStatus(t, "bob in alice's session", post(bob, "/mcp", list, session), http.StatusNotFound)
	ended := send(t, g.client, "DELETE", g.origin+"/mcp", "", "Authorization", "Bearer "+bob.access, "Mcp-Session-Id", session,
		"Mcp-Protocol-Version", "2025-11-25")
	wantStatus(t, "bob ends alice's session", ended, http.StatusNotFound)
	alice.renew(t)
	wantStatus(t, "alice in her session with her next token", post(alice, "/mcp", list, session), http.StatusOK)

	stream := openStream(t, g.client, g.origin+"/sse", g.newGrantFor(t, alice.visitor, url.Values{"resource": {g.origin + "/sse"}}).access)
	endpoint := strings.TrimSpace(strings.TrimPrefix(stream.next(), "event: endpoint\ndata: "))
	wantStatus(t, "bob posts into alice's stream", post(bob, endpoint, list, ""), http.StatusNotFound)
}
