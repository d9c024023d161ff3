package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// auditLog is the file of a gateway's audit log.
type auditLog struct {
	g    *gateway
	file string
	read int // lines that a test has looked at
}

// auditLines send the audit log to a file, as operators do.
func auditLines(file string) string {
	return "log audit {\noutput file " + file + "\nformat json\ninclude mcp_auth.audit\n}\n"
}

// next returns the lines that have been written since the last time.
func (l *auditLog) next(t testing.TB) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	if found := l.g.secretsIn(string(data)); len(found) > 0 {
		t.Errorf("the audit log holds %d secrets", len(found))
	}
	lines := jsonLines(t, string(data))
	fresh := lines[l.read:]
	l.read = len(lines)
	return fresh
}

// jsonLines reads the lines of a log that are objects; Caddy's first ones are not.
func jsonLines(t testing.TB, text string) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var fields map[string]any
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			lines = append(lines, fields)
		}
	}
	return lines
}

// want compares the new lines with events: each is the event, its outcome, and who did it.
func (l *auditLog) want(t testing.TB, what string, events ...string) []map[string]any {
	t.Helper()
	lines := l.next(t)
	var got []string
	for _, line := range lines {
		words := []string{fmt.Sprint(line["event"]), fmt.Sprint(line["outcome"])}
		for _, name := range []string{"by", "user"} {
			if word, ok := line[name].(string); ok {
				words = append(words, word)
			}
		}
		got = append(got, strings.Join(words, " "))
		if line["logger"] != "mcp_auth.audit" || line["issuer"] != l.g.origin || line["by"] != "operator" && line["request_id"] == nil {
			t.Errorf("%s: the line is %v", what, line)
		}
	}
	if diff := cmp.Diff(events, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	return lines
}

// TestAudit goes whole ways and wrong ways through a gateway. Each event has one line in the audit log, which fits the
// access log, and no secret is in either.
func TestAudit(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.log")
	const script = "script_token_12345678"
	g := startGateway(t, gatewayConfig{
		global: auditLines(file),
		site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + "\nbearer_token " + script + ` bugs:read
			audit {
				tool_calls
			}
			scope bugs:read "Read bugs"
			scope cases:write "Write cases"
			resource /mcp {
				scopes bugs:read cases:write
			}
		}`,
	})
	g.keepSecret(script)
	log := &auditLog{g: g, file: file}
	log.want(t, "a start")

	id := g.register(t, map[string]any{"client_name": "Test\nclient", "redirect_uris": []string{redirectURI}})
	log.want(t, "a client registers", "client.register success client")
	v := g.newVisitor(t)
	v.password = "a-wrong-password"
	g.keepSecret(v.password)
	v.get(g.authorizeURL(id, nil)).signIn()
	log.want(t, "a wrong password", "login refused "+userName)
	v.password = userPassword
	v.get(g.authorizeURL(id, nil)).signIn().submit("deny", nil).callback()
	log.want(t, "somebody does not agree", "login success "+userName, "authorization refused user "+userName)
	gr := &grant{g: g, clientID: id, visitor: v}
	form := g.codeFor(t, v, id, nil)
	gr.take(t, g.postForm(t, "/token", form))
	lines := log.want(t, "somebody agrees", "authorization success user "+userName, "token.issue success "+userName)
	if len(lines) != 2 || lines[0]["grant_id"] == nil || lines[0]["grant_id"] != lines[1]["grant_id"] || lines[0]["redirect_host"] != "127.0.0.1:33333" {
		t.Errorf("the lines are %v", lines)
	}

	call := []string{"Authorization", "Bearer " + gr.access, "Mcp-Method", "tools/call", "Mcp-Name", "search_bugs_by_keyword"}
	wantStatus(t, "a call", send(t, g.client, "POST", g.origin+"/mcp", toolsCall, call...), http.StatusOK)
	if lines := log.want(t, "a call", "tool.call success "+userName); len(lines) == 1 && lines[0]["tool"] != "search_bugs_by_keyword" {
		t.Errorf("the line is %v", lines[0])
	}
	g.call(t, g.client, "/mcp", "")
	log.want(t, "a request without a token")
	g.call(t, g.client, "/mcp", gr.refresh)
	refused := log.want(t, "a request with a wrong token", "request.refuse refused")

	old := gr.refresh
	gr.renew(t)
	gr.renew(t)
	log.want(t, "renewals", "token.issue success "+userName, "token.issue success "+userName)
	wantError(t, "a refresh token that is too old", g.refresh(t, id, old), "invalid_grant")
	if lines := log.want(t, "a theft", "token.reuse refused server "+userName); len(lines) == 1 && (lines[0]["level"] != "warn" || lines[0]["grant_id"] == nil) {
		t.Errorf("the line is %v", lines[0])
	}
	gr.take(t, g.postForm(t, "/token", g.codeFor(t, v, id, nil)))
	gr.revoke(t)
	log.want(t, "a client revokes", "authorization success user "+userName, "token.issue success "+userName, "grant.revoke success client "+userName)
	v.get(g.origin+"/account").submit("/logout", nil)
	log.want(t, "signing out", "logout success user "+userName)
	g.postForm(t, "/token", with(form, "client_id", "mcp_"+strings.Repeat("A", 26)))
	log.want(t, "a client that is not there", "token.issue refused")

	g.keepSecret(strings.TrimSpace(g.command(t, "client", "add", "nightly-report")))
	g.command(t, "client", "remove", "nightly-report")
	g.command(t, "key", "rotate")
	g.keepSecret(strings.TrimSpace(g.command(t, "token", "create", "ci")))
	log.want(t, "what operators do", "client.add success operator", "client.remove success operator", "keys.rotate success operator", "api_token.create success operator")

	// The line about a request is found in the access log by its id.
	eventually(t, "the access log has the refused request", func() bool {
		return slices.ContainsFunc(g.accessLines(t), func(line map[string]any) bool { return line["uuid"] == refused[0]["request_id"] })
	})
}

// accessLines are the lines of the access log so far.
func (g *gateway) accessLines(t testing.TB) []map[string]any {
	t.Helper()
	return slices.DeleteFunc(jsonLines(t, g.proc.output.String()), func(line map[string]any) bool {
		name, _ := line["logger"].(string)
		return !strings.HasPrefix(name, "http.log.access")
	})
}

// TestAccessLogHasNoSecrets sends secrets in addresses, in every version of HTTP. The upstream gets them as they are; the
// log has one line for each request, like that of any other, and says REDACTED.
func TestAccessLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	const script = "script_token_12345678"
	site := func(upstream string) gatewayConfig {
		return gatewayConfig{site: "mcp_auth {\n" + userLine + "\nbearer_token " + script + "\n}\nreverse_proxy " + upstream}
	}
	g := startGateway(t, site(rec.address))
	g.keepSecret(script)
	names := []string{"code", "token", "state", "access_token", "client_secret", "continue", "Refresh_Token", "%63ode"}
	for version, client := range protocolClients(g) {
		for i, name := range names {
			secret := fmt.Sprintf("secret-%s-%d-of-the-test", version[len(version)-1:], i)
			g.keepSecret(secret)
			for _, path := range []string{"/mcp", "/callback", "/authorize", "/token", "/account"} {
				address := fmt.Sprintf("%s%s?id=x%d%s&%s=%s", g.origin, path, i, version[len(version)-1:], name, secret)
				a := send(t, client, "GET", address, "", "Authorization", "Bearer "+script, "Referer", g.origin+"/login?continue="+secret+"&y=z")
				if path != "/mcp" {
					continue
				}
				wantStatus(t, name, a, http.StatusOK)
				got := rec.last(t)
				want, _ := strings.CutPrefix(address, g.origin)
				if name == "access_token" {
					want, _, _ = strings.Cut(want, "&") // which is for nobody but the gateway
				}
				if got.Target != want || got.Header.Get("Referer") != g.origin+"/login?continue="+secret+"&y=z" {
					t.Errorf("the upstream gets %s and %q", got.Target, got.Header.Get("Referer"))
				}
			}
		}
	}
	wantStatus(t, "no secret", g.call(t, g.client, "/mcp?fine=1", script), http.StatusOK)
	var lines []map[string]any
	want := 3*len(names)*5 + 1
	eventually(t, "there is a line for each request", func() bool {
		lines = slices.DeleteFunc(g.accessLines(t), func(line map[string]any) bool { return line["request"].(map[string]any)["uri"] == "/health" })
		return len(lines) >= want
	})
	if len(lines) != want {
		t.Errorf("there are %d lines, want %d", len(lines), want)
	}
	ordinary := slices.IndexFunc(lines, func(line map[string]any) bool { return line["request"].(map[string]any)["uri"] == "/mcp?fine=1" })
	if ordinary < 0 {
		t.Fatal("a request without secrets has no line")
	}
	for _, line := range lines {
		request := line["request"].(map[string]any)
		uri, _ := request["uri"].(string)
		if !strings.HasPrefix(uri, "/mcp?id=") {
			continue
		}
		for where, keys := range map[string][2][]string{
			"the line":    {fieldsOf(line), fieldsOf(lines[ordinary])},
			"its request": {fieldsOf(request), fieldsOf(lines[ordinary]["request"].(map[string]any))},
		} {
			if diff := cmp.Diff(keys[1], keys[0]); diff != "" {
				t.Fatalf("%s has other fields than an ordinary one (-want +got):\n%s", where, diff)
			}
		}
		if !strings.HasSuffix(uri, "=REDACTED") || !strings.Contains(fmt.Sprint(request["headers"]), "continue=REDACTED&y=z") {
			t.Fatalf("the line has %v", request)
		}
	}

	// An error of the web server has a line of its own.
	down := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	if err := g.reload(site(down)); err != nil {
		t.Fatal(err)
	}
	g.keepSecret("secret-of-a-failure")
	a := send(t, g.client, "GET", g.origin+"/mcp?token=secret-of-a-failure", "", "Authorization", "Bearer "+script)
	wantStatus(t, "an upstream that is down", a, http.StatusBadGateway)
	eventually(t, "the error is in the log", func() bool {
		return slices.ContainsFunc(jsonLines(t, g.proc.output.String()), func(line map[string]any) bool {
			name, _ := line["logger"].(string)
			return strings.HasPrefix(name, "http.log.error") && strings.Contains(fmt.Sprint(line), "token=REDACTED")
		})
	})
}

// fieldsOf are the names of the fields of a part of a line.
func fieldsOf(line map[string]any) []string { return slices.Sorted(maps.Keys(line)) }
