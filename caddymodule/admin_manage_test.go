package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// manage runs a command about clients, grants or users and reads its JSON.
func (m *machine) manage(v any, args ...string) {
	m.t.Helper()
	out, err := runCommand(m.t, append(args, "--json", "--address", m.admin)...)
	if err != nil {
		m.t.Fatalf("%v: %v", args, err)
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		m.t.Fatalf("%v: %v in %s", args, err, out)
	}
}

// says checks what a command prints for people.
func (m *machine) says(args []string, want ...string) {
	m.t.Helper()
	out, err := runCommand(m.t, append(args, "--address", m.admin)...)
	for _, part := range want {
		if err != nil || !strings.Contains(out, part) {
			m.t.Errorf("%v: the error %v, and this lacks %q:\n%s", args, err, part, out)
		}
	}
}

// cannot checks why a command is refused.
func (m *machine) cannot(reason string, args ...string) {
	m.t.Helper()
	out, err := runCommand(m.t, append(args, "--address", m.admin)...)
	if out != "" || err == nil || !strings.Contains(err.Error(), reason) {
		m.t.Errorf("%v prints %q and the error %v, want one with %q", args, out, err, reason)
	}
}

// clientToken asks for a token of a client that acts for itself.
func (m *machine) clientToken(issuer, id, secret string) reply {
	m.t.Helper()
	r := m.request(issuer+"/token", "", url.Values{"grant_type": {"client_credentials"}})
	r.SetBasicAuth(id, secret)
	return m.do(r)
}

func TestTheLifeOfAnAddedClient(t *testing.T) {
	m := newMachine(t).withAdmin()
	site := "http://localhost:%[1]d {\nlog\nmcp_auth {\nstore file " + m.dir + "/state.db\n" + alice + robot + "scope read \"Read\"\n}\nrespond ok\n}"
	m.mustLoad("", site)
	origin := m.url("localhost", 1)

	printed, err := runCommand(t, "client", "add", "nightly/report", "--name", "Nightly report", "--scope", "read", "--address", m.admin)
	secret := strings.TrimSuffix(printed, "\n")
	if err != nil || len(secret) < 40 || strings.ContainsAny(secret, " \n") {
		t.Fatalf("it prints %q and the error %v", printed, err)
	}
	answer := m.clientToken(origin, "nightly/report", secret)
	token, _ := answer.json(t, "access_token").(string)
	m.status("its token", origin+"/mcp", token, http.StatusOK)
	if wrong := m.clientToken(origin, "nightly/report", secret+"x"); wrong.json(t, "error") != "invalid_client" {
		t.Errorf("with another secret: %s", wrong.body)
	}

	var added issuerClient
	m.manage(&added, "client", "add", "desktop", "--public", "--redirect-uri", "http://localhost/cb", "--redirect-uri", "https://app.example/cb")
	if added.Issuer != origin || added.Secret != "" || added.AuthMethod != "none" || len(added.RedirectURIs) != 2 || added.Kind != "added" {
		t.Errorf("got %+v", added)
	}
	m.says([]string{"client", "list"}, origin+"\n  CLIENT ", "\n  nightly/report  added       Nightly report  0       2", "\n  robot           configured  robot           0       never\n")
	m.says([]string{"client", "show", "nightly/report"}, "client_id         nightly/report\n", "scopes            read\n", "authenticates by  client_secret\n")
	m.says([]string{"client", "list", "--limit", "1"}, "… and 2 more")
	for _, args := range [][]string{{"client", "list"}, {"client", "show", "nightly/report"}} {
		if out, err := runCommand(t, append(args, "--json", "--address", m.admin)...); err != nil || strings.Contains(out, secret) || strings.Contains(out, "hash") {
			t.Errorf("%v, %v prints %s", args, err, out)
		}
	}

	m.mustLoad("", site+"\n") // a reload, and then an end
	if again := m.clientToken(origin, "nightly/report", secret); again.status != http.StatusOK {
		t.Errorf("after a reload: %d %s", again.status, again.body)
	}
	m.says([]string{"client", "remove", "nightly/report"}, "Removed the client nightly/report, and ended 0 grants.\n")
	m.status("its token after the removal", origin+"/mcp", token, http.StatusUnauthorized)
	if gone := m.clientToken(origin, "nightly/report", secret); gone.json(t, "error") != "invalid_client" {
		t.Errorf("after the removal: %s", gone.body)
	}
	m.cannot(`there is no client "nightly/report"`, "client", "remove", "nightly/report")
	m.cannot("was removed a moment ago", "client", "add", "nightly/report")
	m.cannot("Take the block 'client robot { … }' out of the Caddyfile", "client", "remove", "robot")
	m.cannot("choose another id", "client", "add", "robot")
	m.cannot("is a user", "client", "add", "alice")
	m.cannot("subject of requests with a static token", "client", "add", "bearer")
	m.cannot(`there is no scope "write"; those are read`, "client", "add", "x", "--scope", "write")
	m.cannot("is the id of a client with a metadata document", "client", "add", "https://app.example/c")
	m.cannot(`there is no client "nobody"`, "client", "show", "nobody")
	if logs := m.logs(); strings.Contains(logs, secret) || !strings.Contains(logs, `"event":"client.add"`) || !strings.Contains(logs, `"event":"client.remove"`) {
		t.Error("the log has the secret, or does not tell what was done")
	}
}

func TestSeveralIssuersHaveClientsOfTheirOwn(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("mcp_auth {\nstore memory\n}", "http://localhost:%[1]d {\nmcp_auth {\n"+robot+"}\nrespond ok\n}\n"+
		"http://localhost:%[2]d {\nmcp_auth {\n"+robot+"}\nrespond ok\n}")
	first, second := m.url("localhost", 1), m.url("localhost", 2)
	if first > second {
		first, second = second, first
	}
	m.cannot("there are several issuers; name one of them with --issuer: "+first+", "+second, "client", "add", "x")
	m.cannot("has no issuer", "client", "add", "x", "--issuer", "https://nobody.example")
	secret, err := runCommand(t, "client", "add", "x", "--issuer", second, "--address", m.admin)
	if err != nil {
		t.Fatal(err)
	}
	secret = strings.TrimSpace(secret)
	if here, there := m.clientToken(second, "x", secret), m.clientToken(first, "x", secret); here.status != http.StatusOK || there.status != http.StatusUnauthorized {
		t.Errorf("at its issuer %d, elsewhere %d", here.status, there.status)
	}
	var lists []issuerClients
	m.manage(&lists, "client", "list")
	if len(lists) != 2 || lists[0].Issuer != first || len(lists[0].Clients) != 1 || len(lists[1].Clients) != 2 {
		t.Errorf("all: %+v", lists)
	}
	m.manage(&lists, "client", "list", "--issuer", first)
	if len(lists) != 1 || lists[0].Issuer != first {
		t.Errorf("one: %+v", lists)
	}
}

func TestClientsWhereNoTokensAreIssued(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\nbearer_token dev_token_12345\n}\nrespond ok\n}")
	m.cannot("no tokens are issued here", "client", "add", "x")
	m.says([]string{"client", "list"}, "  none\n")
}

func TestUsersAreSignedOutByCommand(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n"+alice+"user bob "+cheapBcrypt+"\n}\nrespond ok\n}")
	origin := m.url("localhost", 1)
	first, second := m.signIn(origin), m.signIn(origin)
	m.says([]string{"user", "list"}, "\n  alice  alice@example.com  2         0       2", "\n  bob    bob                0         0       never\n")
	m.says([]string{"user", "sign-out", "bob"}, "Ended 0 sessions of bob.\n")
	if !m.signedIn(first, origin) {
		t.Error("another user was signed out")
	}
	m.says([]string{"user", "sign-out", "alice", "--revoke"}, "Ended 2 sessions of alice, and 0 grants.\n")
	if m.signedIn(first, origin) || m.signedIn(second, origin) {
		t.Error("a browser is still signed in")
	}
	m.says([]string{"grant", "list"}, origin+"\n  none\n")
	m.says([]string{"grant", "list", "--user", "alice", "--client", "x"}, origin+"\n  none\n")
	m.cannot(`there is no active grant "0000"`, "grant", "revoke", "0000")
	m.cannot("there is no active grant", "grant", "revoke", "../clients")
}

func TestTheAdminEndpointsForManagement(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n"+alice+"}\nrespond ok\n}")
	for _, tt := range []struct {
		rule, method, path, body string
		status                   int
		want                     string
	}{
		{"a list is never null", "GET", "/mcp_auth/grants", "", 200, `"grants":[],"left_out":0}]`},
		{"a limit", "GET", "/mcp_auth/clients?limit=5000", "", 200, `"clients":[],"left_out":0}]`},
		{"no number", "GET", "/mcp_auth/clients?limit=many", "", 400, "limit is a number from 1 to 5000"},
		{"too large a limit", "GET", "/mcp_auth/users?limit=5001", "", 400, "limit is a number from 1 to 5000"},
		{"no limit", "GET", "/mcp_auth/grants?limit=0", "", 400, "limit is a number from 1 to 5000"},
		{"an issuer that is not there", "GET", "/mcp_auth/grants?issuer=https://x.example", "", 404, "has no issuer"},
		{"a client whose id is a URL", "GET", "/mcp_auth/clients?id=https%3A%2F%2Fapp.example%2F%2Fc", "", 404, "https://app.example//c"},
		{"no JSON", "POST", "/mcp_auth/clients", "x", 400, "cannot be read"},
		{"an unknown field", "POST", "/mcp_auth/clients", `{"id":"x","secret":"of mine"}`, 400, "unknown field"},
		{"another method", "PUT", "/mcp_auth/clients", "{}", 405, "not allowed"},
		{"another method for grants", "POST", "/mcp_auth/grants", "", 405, "not allowed"},
		{"another method for a grant", "GET", "/mcp_auth/grants/x", "", 405, "not allowed"},
		{"another method for users", "DELETE", "/mcp_auth/users", "", 405, "not allowed"},
		{"a look signs nobody out", "GET", "/mcp_auth/users/sign-out?user=alice", "", 405, "not allowed"},
		{"nobody to sign out", "POST", "/mcp_auth/users/sign-out", "", 400, "the parameter user is missing"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+m.admin+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.do(r); got.status != tt.status || !strings.Contains(got.body, tt.want) {
				t.Errorf("got %d %s, want %d with %s", got.status, got.body, tt.status, tt.want)
			}
		})
	}
	app, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	for _, is := range app.issuers() {
		if err := is.Store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"clients", "grants", "users"} {
		if got := m.get("http://"+m.admin+"/mcp_auth/"+path, ""); got.status != http.StatusServiceUnavailable || strings.Contains(got.body, store.ErrClosed.Error()) {
			t.Errorf("%s with a store that does not work: %d %s", path, got.status, got.body)
		}
	}
}

func TestUserLines(t *testing.T) {
	for _, tt := range []struct{ name, email, want string }{
		{"alice", "", "user alice $2a$"},
		{"alice", "alice@example.com", "user alice $2a$"},
		{"Alice Example", "", "user `Alice Example` $2a$"},
		{`the "one"`, "", "user `the \"one\"` $2a$"},
	} {
		line := userLine(tt.name, cheapBcrypt, tt.email)
		if !strings.HasPrefix(line, tt.want) || line != strings.TrimSpace(line) {
			t.Errorf("%q: %s", tt.name, line)
		}
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n"+strings.ReplaceAll(line, "%", "%%")+"\n}\nrespond ok\n}")
			app, err := runningApp()
			if err != nil {
				t.Fatal(err)
			}
			u := app.handlers[0].site.options.Users[0]
			if u.Name != tt.name || u.Email != tt.email {
				t.Errorf("the line is read as %+v", u)
			}
			if id, err := newLocalUsers([]User{u}).Authenticate(t.Context(), tt.name, testPassword); err != nil || id.Subject != tt.name {
				t.Errorf("signing in: %+v, %v", id, err)
			}
		})
	}
	for rule, err := range map[string]error{
		"no name":               checkNewUser("", ""),
		"a line break":          checkNewUser("a\nb", ""),
		"a placeholder":         checkNewUser("{env.USER}", ""),
		"a backtick":            checkNewUser("a`b", ""),
		"the subject of tokens": checkNewUser("bearer", ""),
		"no address":            checkNewUser("alice", "alice"),
		"a placeholder address": checkNewUser("alice", "{env.MAIL}"),
	} {
		if err == nil {
			t.Errorf("%s is let in", rule)
		}
	}
	for _, password := range []string{"", "1234567", strings.Repeat("x", 73)} {
		if hash, err := hashPassword([]byte(password)); err == nil {
			t.Errorf("the password %q makes %s", password, hash)
		}
	}
}

func TestWhatOthersHaveChosenCannotActOnATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"": "-", "App": "App", "Größe 🙂": "Größe 🙂", "a\x1b[31mb": "a\uFFFD[31mb", "a\nb\tc": "a\uFFFDb\uFFFDc", "a\u202eb": "a\uFFFDb",
	} {
		if got := shown(text); got != want {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
	if got := shownTime(time.Time{}); got != "never" {
		t.Errorf("no time is shown as %q", got)
	}
}
