package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
)

// managedClient is a client that may manage its own registration (RFC 7592).
type managedClient struct {
	g              *gateway
	id, token, uri string
}

func (g *gateway) newManagedClient(t *testing.T) *managedClient {
	t.Helper()
	a := send(t, g.client, "POST", g.origin+"/register", jsonOf(t, map[string]any{
		"client_name": "Test client", "redirect_uris": []string{redirectURI}, "token_endpoint_auth_method": "none",
	}), "Content-Type", "application/json")
	wantStatus(t, "registering", a, http.StatusCreated)
	c := &managedClient{g, a.field(t, "client_id"), a.field(t, "registration_access_token"), a.field(t, "registration_client_uri")}
	if c.token == "" || c.uri != g.origin+"/register/"+c.id {
		t.Fatalf("the answer is %s", a.body)
	}
	g.keepSecret(c.token)
	return c
}

func (c *managedClient) send(t testing.TB, method, token, body string) *answer {
	t.Helper()
	headers := []string{"Content-Type", "application/json"}
	if token != "" {
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	return send(t, c.g.client, method, c.uri, body, headers...)
}

// TestRegistrationManagement reads, changes and ends a registration as RFC 7592 has it. Nobody else can.
func TestRegistrationManagement(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + "\n}"})
	c, other := g.newManagedClient(t), g.newManagedClient(t)
	read := c.send(t, "GET", c.token, "")
	wantStatus(t, "reading", read, http.StatusOK)
	if read.field(t, "client_name") != "Test client" || read.field(t, "registration_access_token") != c.token || read.header.Get("Cache-Control") != "no-store" {
		t.Errorf("reading answers %v %s", read.header, read.body)
	}
	update := func(name string) string {
		return jsonOf(t, map[string]any{"client_id": c.id, "client_name": name, "redirect_uris": []string{redirectURI, "https://app.example/cb"}})
	}
	replaced := c.send(t, "PUT", c.token, update("Another name"))
	wantStatus(t, "replacing", replaced, http.StatusOK)
	if replaced.field(t, "client_name") != "Another name" || !strings.Contains(replaced.body, "https://app.example/cb") {
		t.Errorf("replacing answers %s", replaced.body)
	}
	wantError(t, "script", c.send(t, "PUT", c.token, strings.ReplaceAll(update("x"), "https://app.example/cb", "javascript:alert(1)")), "invalid_redirect_uri")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		for what, token := range map[string]string{"no token": "", "another client's token": other.token, "a token of nobody": "x"} {
			a := c.send(t, method, token, update("Evil"))
			wantStatus(t, method+" with "+what, a, http.StatusUnauthorized)
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%s with %s: the challenge is %q", method, what, a.header.Get("WWW-Authenticate"))
			}
		}
	}
	for _, path := range []string{"/register/", "/register/x", "/register/mcp_" + strings.Repeat("A", 26), "/register/../mcp", "/register/%2e%2e/mcp"} {
		if a := send(t, g.client, "GET", g.origin+path, "", "Authorization", "Bearer "+c.token); a.status != http.StatusUnauthorized && a.status != http.StatusBadRequest {
			t.Errorf("%s answers %d %s", path, a.status, tail(a.body, 200))
		}
	}

	gr := &grant{g: g, clientID: c.id, visitor: g.newVisitor(t)}
	gr.take(t, g.postForm(t, "/token", g.codeFor(t, gr.visitor, c.id, nil)))
	wantStatus(t, "its access token", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	stream := openStream(t, g.client, g.origin+"/sse", gr.access)
	stream.want(endpointEvent)
	wantStatus(t, "ending it", c.send(t, "DELETE", c.token, ""), http.StatusNoContent)
	stream.wantEnd()
	wantStatus(t, "its access token afterwards", g.call(t, g.client, "/mcp", gr.access), http.StatusUnauthorized)
	wantError(t, "its refresh token afterwards", g.refresh(t, c.id, gr.refresh), "invalid_client")
	wantStatus(t, "reading it afterwards", c.send(t, "GET", c.token, ""), http.StatusUnauthorized)
	g.restart(true)
	wantStatus(t, "its access token after a crash", g.call(t, g.client, "/mcp", gr.access), http.StatusUnauthorized)
	wantStatus(t, "the other client", other.send(t, "GET", other.token, ""), http.StatusOK)
}

// command runs "caddy mcp-auth …" against the running gateway.
func (g *gateway) command(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, err := g.caddy(append(append([]string{"mcp-auth"}, args...), "--address", g.admin)...)
	if err != nil {
		t.Fatalf("caddy mcp-auth %s: %v: %s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// refused runs a command that has to fail for a reason.
func (g *gateway) refused(t testing.TB, reason string, args ...string) {
	t.Helper()
	stdout, stderr, err := g.caddy(append(append([]string{"mcp-auth"}, args...), "--address", g.admin)...)
	if err == nil || stdout != "" || !strings.Contains(stderr, reason) {
		t.Errorf("caddy mcp-auth %s: %v, %q and %q; want %q", strings.Join(args, " "), err, stdout, stderr, reason)
	}
}

// TestManagementByCommand adds and removes a client, revokes a grant and signs a user out, as an operator does.
func TestManagementByCommand(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}"})

	secret := strings.TrimSpace(g.command(t, "client", "add", "nightly-report", "--name", "Nightly report"))
	g.keepSecret(secret)
	machine := url.Values{"grant_type": {"client_credentials"}, "client_id": {"nightly-report"}, "client_secret": {secret}}
	first := g.postForm(t, "/token", machine)
	wantStatus(t, "the added client", first, http.StatusOK)
	access := first.field(t, "access_token")
	wantTools(t, "its token", g.call(t, g.client, "/mcp", access))
	g.restart(true)
	wantStatus(t, "the added client after a crash", g.postForm(t, "/token", machine), http.StatusOK)
	if list := g.command(t, "client", "list"); !strings.Contains(list, "nightly-report") || strings.Contains(list, secret) {
		t.Errorf("the list is\n%s", list)
	}
	g.command(t, "client", "remove", "nightly-report")
	wantError(t, "the client after its removal", g.postForm(t, "/token", machine), "invalid_client")
	wantStatus(t, "its token after the removal", g.call(t, g.client, "/mcp", access), http.StatusUnauthorized)
	g.refused(t, "there is no client", "client", "remove", "nightly-report")

	gr := g.newGrant(t, nil)
	stays := g.newGrantFor(t, gr.visitor, nil)
	var lists []struct {
		Grants []struct {
			ID       string `json:"id"`
			User     string `json:"user"`
			ClientID string `json:"client_id"`
		} `json:"grants"`
	}
	if err := json.Unmarshal([]byte(g.command(t, "grant", "list", "--user", userName, "--client", gr.clientID, "--json")), &lists); err != nil {
		t.Fatal(err)
	}
	if len(lists) != 1 || len(lists[0].Grants) != 1 || lists[0].Grants[0].User != userName {
		t.Fatalf("the grants are %+v", lists)
	}
	if out := g.command(t, "grant", "revoke", lists[0].Grants[0].ID); !strings.Contains(out, "Ended what alice had allowed "+gr.clientID) {
		t.Errorf("revoking prints %q", out)
	}
	wantStatus(t, "the token of the revoked grant", g.call(t, g.client, "/mcp", gr.access), http.StatusUnauthorized)
	wantError(t, "its refresh token", g.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
	g.refused(t, "there is no active grant", "grant", "revoke", lists[0].Grants[0].ID)
	wantTools(t, "the token of another grant", g.call(t, g.client, "/mcp", stays.access))

	if list := g.command(t, "user", "list"); !strings.Contains(list, userName+"  "+userEmail+"  1         1 ") {
		t.Errorf("the users are\n%s", list)
	}
	g.command(t, "user", "sign-out", userName)
	if p := gr.visitor.get(g.origin + "/account"); p.form("username") == nil {
		t.Errorf("the browser is still signed in: %v", p)
	}
	wantTools(t, "what the user had connected", g.call(t, g.client, "/mcp", stays.access))
	g.command(t, "user", "sign-out", userName, "--revoke")
	wantStatus(t, "what the user had connected, after --revoke", g.call(t, g.client, "/mcp", stays.access), http.StatusUnauthorized)
}

// TestUserLine makes the line of a user with a command, and signs in with it.
func TestUserLine(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + backend + " {\n" + userLine + "\n}"})
	cmd := exec.CommandContext(t.Context(), caddyBinary, "mcp-auth", "user", "add", "Bob Example", "bob@example.com")
	cmd.Stdin, cmd.WaitDelay = strings.NewReader("a password of bob\n"), outlived
	line, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(line), "user `Bob Example` $2a$") || strings.Contains(string(line), "password") {
		t.Fatalf("it prints %q and the error %v", line, err)
	}
	if err := g.reload(gatewayConfig{site: "mcp_auth " + backend + " {\n" + userLine + "\n" + string(line) + "\n}"}); err != nil {
		t.Fatal(err)
	}
	v := g.newVisitor(t)
	v.name, v.password = "Bob Example", "a password of bob"
	gr := g.newGrantFor(t, v, nil)
	wantTools(t, "the token of the new user", g.call(t, g.client, "/mcp", gr.access))
}
