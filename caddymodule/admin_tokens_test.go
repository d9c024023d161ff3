package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// makeToken runs "caddy mcp-auth token create" and returns the token.
func (m *machine) makeToken(args ...string) string {
	m.t.Helper()
	out, err := runCommand(m.t, append([]string{"token", "create", "--address", m.admin}, args...)...)
	secret := strings.TrimSuffix(out, "\n")
	if err != nil || !strings.HasPrefix(secret, "mcp_") || len(secret) != 47 || strings.Contains(secret, "\n") {
		m.t.Fatalf("%v prints %q and the error %v", args, out, err)
	}
	return secret
}

// cannotMake checks that a token is refused for a reason.
func (m *machine) cannotMake(rule, reason string, args ...string) {
	m.t.Helper()
	out, err := runCommand(m.t, append([]string{"token", "create", "--address", m.admin}, args...)...)
	if out != "" || err == nil || !strings.Contains(err.Error(), reason) {
		m.t.Errorf("%s: got %q and the error %v, want one with %q", rule, out, err, reason)
	}
}

func (m *machine) listTokens(args ...string) []issuerTokens {
	m.t.Helper()
	out, err := runCommand(m.t, append([]string{"token", "list", "--json", "--address", m.admin}, args...)...)
	var issuers []issuerTokens
	if err != nil || json.Unmarshal([]byte(out), &issuers) != nil {
		m.t.Fatalf("got the error %v and %s", err, out)
	}
	return issuers
}

// whoCalls answers with the placeholders of whoever calls.
const whoCalls = "respond \"{http.auth.user.id} {http.auth.user.client_id} [{http.auth.user.scopes}] {http.auth.user.issuer}\""

func TestATokenMadeByCommandWorksWithoutALine(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nlog\nmcp_auth {\nstore file "+m.dir+"/state.db\nscope read \"Read\"\nscope write \"Write\"\n"+robot+"}\n"+whoCalls+"\n}")
	mcp := m.url("localhost", 1) + "/mcp"

	all := m.makeToken("ci")
	if got := m.get(mcp, all); got.status != http.StatusOK || got.body != "token:ci token:ci [read write] " {
		t.Errorf("got %d %q", got.status, got.body)
	}
	narrow := m.makeToken("reader", "--scope", "read", "--expires", "never")
	if got := m.get(mcp, narrow); got.body != "token:reader token:reader [read] " {
		t.Errorf("got %d %q", got.status, got.body)
	}
	m.status("a token of OAuth", mcp, m.robotToken(m.url("localhost", 1), ""), http.StatusOK)
	m.status("one character more", mcp, all+"x", http.StatusUnauthorized)
	m.status("another last character", mcp, all[:46]+string(all[46]^1), http.StatusUnauthorized)
	m.status("a token of nobody", mcp, "mcp_"+strings.Repeat("A", 43), http.StatusUnauthorized)

	listed := m.listTokens()
	if len(listed) != 1 || listed[0].Issuer != m.url("localhost", 1) || len(listed[0].Tokens) != 2 {
		t.Fatalf("the list is %+v", listed)
	}
	ci, reader := listed[0].Tokens[0], listed[0].Tokens[1]
	if left := time.Until(ci.Expires); ci.Name != "ci" || len(ci.Scopes) > 0 || left < 89*24*time.Hour || left > 90*24*time.Hour || time.Since(ci.LastUsed) > time.Minute {
		t.Errorf("ci is listed as %+v", ci)
	}
	if reader.Name != "reader" || reader.Scopes.String() != "read" || !reader.Expires.IsZero() {
		t.Errorf("reader is listed as %+v", reader)
	}
	text, err := runCommand(t, "token", "list", "--address", m.admin)
	for _, want := range []string{m.url("localhost", 1) + "\n  ci ", "all scopes", "expires 2", "\n  reader  read  ", "never expires", "last used 2"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("got the error %v, and the list lacks %q:\n%s", err, want, text)
		}
	}

	m.mustLoad("", "http://localhost:%[1]d {\nlog\nmcp_auth {\nstore file "+m.dir+"/state.db\n"+robot+"}\n"+whoCalls+"\n}")
	if got := m.get(mcp, all); got.status != http.StatusOK || got.body != "token:ci token:ci [mcp] " {
		t.Errorf("after a reload with other scopes: %d %q", got.status, got.body)
	}
	m.status("a scope that is no more", mcp, narrow, http.StatusForbidden)

	if _, err := runCommand(t, "token", "revoke", "ci", "--address", m.admin); err != nil {
		t.Fatal(err)
	}
	m.status("a revoked token", mcp, all, http.StatusUnauthorized)
	if _, err := runCommand(t, "token", "revoke", "ci", "--address", m.admin); err == nil || err.Error() != "there is no token of that name" {
		t.Errorf("revoked again: %v", err)
	}
	logs := m.logs()
	for _, secret := range []string{all, narrow, all[4:], narrow[4:]} {
		if strings.Contains(logs, secret) {
			t.Error("a token is in the log")
		}
	}
	if !strings.Contains(logs, `"event":"api_token.create"`) || !strings.Contains(logs, `"event":"api_token.revoke"`) {
		t.Error("the log does not tell of what was made and revoked")
	}
}

func TestATokenForOneResource(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\nresource /github/mcp\nresource /jira/mcp\n"+robot+"}\nrespond ok\n}")
	origin := m.url("localhost", 1)
	narrow := m.makeToken("one", "--resource", origin+"/jira/mcp/")
	m.status("its resource", origin+"/jira/mcp", narrow, http.StatusOK)
	m.status("another resource", origin+"/github/mcp", narrow, http.StatusUnauthorized)
	m.status("a token for all", origin+"/github/mcp", m.makeToken("two"), http.StatusOK)
	m.cannotMake("no resource", `"`+origin+`/mcp" is no MCP server of `+origin+". Write its address, for example: --resource "+origin+"/github/mcp", "three", "--resource", origin+"/mcp")
}

func TestTokensThatCannotBeMade(t *testing.T) {
	m := newMachine(t).withAdmin()
	site := func(lines string) {
		m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n"+lines+"}\nrespond ok\n}")
	}
	site(robot + "auth_type oauth2.1\n")
	m.cannotMake("static tokens are off", "takes no static tokens because of the line 'auth_type oauth2.1'. Write: auth_type both; or, for a token that lets clients register: --registration-only", "ci")
	site(robot)
	m.makeToken("ci")
	m.cannotMake("the name is taken", "there is a token of that name. Take another name, or revoke that token first", "ci")
	m.cannotMake("a name with a slash", "the name of a token is made of up to 64 letters and digits", "a/b")
	m.cannotMake("a scope of nobody", `the token has the scope 'other', which no line defines. Add a line with what it allows, for example: scope other "Search and read"`, "x", "--scope", "other")
	m.cannotMake("no time", "'soon' is no time that a token could be good for. Write, for example: --expires 90d; or: --expires never", "x", "--expires", "soon")
	m.cannotMake("the past", "is no time that a token could be good for", "x", "--expires", "-1h")
	m.cannotMake("another issuer", `the running configuration has no issuer "https://nobody.example"`, "x", "--issuer", "https://nobody.example")
	m.cannotMake("registration of scopes", "neither scopes nor a resource", "x", "--registration-only", "--scope", "mcp")
	site("")
	m.cannotMake("nobody registers", "nobody registers clients at "+m.url("localhost", 1), "x", "--registration-only")
	site(robot + "registration {\ndynamic off\n}\n")
	m.cannotMake("registration is off", "nobody registers clients at "+m.url("localhost", 1), "x", "--registration-only")
}

func TestTokensBelongToTheirIssuer(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("mcp_auth {\nstore memory\n}", "http://localhost:%[1]d {\nmcp_auth\nrespond ok\n}\nhttp://localhost:%[2]d {\nmcp_auth\nrespond ok\n}")
	first, second := m.url("localhost", 1), m.url("localhost", 2)
	m.cannotMake("no issuer is named", "there are several issuers; name one of them with --issuer: ", "ci")
	secret := m.makeToken("ci", "--issuer", second)
	m.status("at its issuer", second+"/mcp", secret, http.StatusOK)
	m.status("at another one", first+"/mcp", secret, http.StatusUnauthorized)
	for _, issuer := range m.listTokens() {
		if want := map[string]int{first: 0, second: 1}[issuer.Issuer]; len(issuer.Tokens) != want {
			t.Errorf("%s has the tokens %+v", issuer.Issuer, issuer.Tokens)
		}
	}
	if one := m.listTokens("--issuer", second); len(one) != 1 || one[0].Issuer != second {
		t.Errorf("the list of one issuer is %+v", one)
	}
	shown := generatedTokens(t, m)
	if len(shown) != 2 {
		t.Errorf("the generated tokens are gone: %+v", shown)
	}
	for _, g := range shown {
		m.status("the generated token", g.Site+"/mcp", g.Token, http.StatusOK)
	}
}

func TestTheAdminEndpointForMadeTokens(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n}\n}")
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"another method":    {http.MethodPut, adminTokensPath, "", 405, "method PUT is not allowed"},
		"a method of names": {http.MethodGet, adminTokensPath + "/ci", "", 405, "method GET is not allowed"},
		"no JSON":           {http.MethodPost, adminTokensPath, "name=ci", 400, "cannot be read"},
		"an unknown member": {http.MethodPost, adminTokensPath, `{"name":"ci","scope":["mcp"]}`, 400, "unknown field"},
		"too long":          {http.MethodPost, adminTokensPath, `{"name":"` + strings.Repeat("a", maxNewToken) + `"}`, 400, "too large"},
		"the past":          {http.MethodPost, adminTokensPath, `{"name":"ci","expires":"2020-01-01T00:00:00Z"}`, 400, "would have expired already"},
		"a token of nobody": {http.MethodDelete, adminTokensPath + "/ci", "", 404, "there is no token of that name"},
		"no name":           {http.MethodDelete, adminTokensPath + "/..%2f..", "", 404, "there is no token of that name"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+m.admin+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.do(r); got.status != tt.status || !strings.Contains(got.body, tt.want) {
				t.Errorf("got %d %s, want %d with %q", got.status, got.body, tt.status, tt.want)
			}
		})
	}
}

func TestATokenLetsClientsRegister(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\nauth_type oauth2.1\nscope read \"Read\"\nscope write \"Write\"\n"+robot+"registration {\ndynamic token\n}\n}\nrespond ok\n}")
	origin := m.url("localhost", 1)
	const people, machine = `{"redirect_uris":["https://app.example/cb"]}`, `{"grant_types":["client_credentials"]}`
	register := func(rule, token, body string, want int) reply {
		t.Helper()
		r := m.request(origin+"/register", token, url.Values{})
		r.Header.Set("Content-Type", "application/json")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
		got := m.do(r)
		if got.status != want {
			t.Errorf("%s: %d %s, want %d", rule, got.status, got.body, want)
		}
		return got
	}
	secret := m.makeToken("rollout", "--registration-only")
	m.status("a request with it", origin+"/mcp", secret, http.StatusUnauthorized)
	refused := register("nobody registers without it", "", people, http.StatusUnauthorized)
	if got := refused.header.Get("WWW-Authenticate"); got != `Bearer realm="localhost:`+fmt.Sprint(m.ports[0])+`"` {
		t.Errorf("the challenge is %q", got)
	}
	register("with another one", "mcp_"+strings.Repeat("A", 43), people, http.StatusUnauthorized)
	register("a client of people", secret, people, http.StatusCreated)
	register("a service account", secret, machine, http.StatusCreated)
	if _, err := runCommand(t, "token", "revoke", "rollout", "--address", m.admin); err != nil {
		t.Fatal(err)
	}
	register("after it was revoked", secret, people, http.StatusUnauthorized)

	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\nscope read \"Read\"\nscope write \"Write\"\nbearer_token dev_token_12345\nbearer_token reader_token_12345 read\n"+robot+"}\nrespond ok\n}")
	register("a service account with a token of the configuration", "dev_token_12345", machine, http.StatusCreated)
	register("with one that has some scopes only", "reader_token_12345", machine, http.StatusForbidden)
	register("with a token that was made with some scopes only", m.makeToken("narrow", "--scope", "read"), machine, http.StatusForbidden)
	register("with a token that was made for one resource", m.makeToken("one", "--resource", origin+"/mcp"), machine, http.StatusForbidden)
	register("with a token that was made with all scopes", m.makeToken("wide", "--scope", "read", "--scope", "write"), machine, http.StatusCreated)
}
