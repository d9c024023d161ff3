package caddymodule

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pquerna/otp/totp"
)

var (
	formToken = regexp.MustCompile(`name="token" value="([^"]*)"`)
	appKey    = regexp.MustCompile(`href="(otpauth:[^"]*)"`)
)

// enrol sets an authenticator app up in a browser that has just signed in.
func (m *machine) enrol(browser *http.Client, origin string) {
	m.t.Helper()
	page := m.browse(browser, m.request(origin+"/account/factor", "", nil))
	token, key := formToken.FindStringSubmatch(page.body), appKey.FindStringSubmatch(page.body)
	if token == nil || key == nil {
		m.t.Fatalf("no key on the page (%d):\n%s", page.status, page.body)
	}
	u, err := url.Parse(html.UnescapeString(key[1]))
	if err != nil {
		m.t.Fatal(err)
	}
	code, err := totp.GenerateCode(u.Query().Get("secret"), time.Now())
	if err != nil {
		m.t.Fatal(err)
	}
	form := url.Values{"token": {token[1]}, "decision": {"enrol"}, "code": {code}}
	if page := m.browse(browser, m.request(origin+"/account/factor", "", form)); !strings.Contains(page.body, "Save your recovery codes") {
		m.t.Fatalf("no recovery codes (%d):\n%s", page.status, page.body)
	}
}

func TestOperatorsResetTheFactorsOfAUser(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nlog\nmcp_auth {\nstore file "+m.dir+"/state.db\nuser alice "+cheapBcrypt+"\nuser bob "+cheapBcrypt+"\n}\nrespond ok\n}")
	origin := m.url("localhost", 1)
	m.enrol(m.signIn(origin), origin)
	if m.signedIn(m.givePassword(origin), origin) {
		t.Fatal("the password is enough")
	}
	if out, err := runCommand(t, "user", "reset-factors", "mallory", "--address", m.admin); out != "" || err == nil || !strings.Contains(err.Error(), `there is no local user "mallory"`) {
		t.Errorf("a user that there is not: %q, %v", out, err)
	}
	if out, err := runCommand(t, "user", "reset-factors", "alice", "--issuer", "https://other.example", "--address", m.admin); err == nil {
		t.Errorf("another issuer: %q", out)
	}
	out, err := runCommand(t, "user", "reset-factors", "bob", "--json", "--address", m.admin)
	var reset []resetUser
	if err != nil || json.Unmarshal([]byte(out), &reset) != nil {
		t.Fatalf("got %q, %v", out, err)
	}
	if diff := cmp.Diff([]resetUser{{Issuer: origin, User: "bob"}}, reset); diff != "" {
		t.Errorf("a user without factors (-want +got):\n%s", diff)
	}
	want := origin + ": alice had an authenticator app with 10 recovery codes and 0 passkeys; now the password is enough\n"
	if out, err := runCommand(t, "user", "reset-factors", "alice", "--address", m.admin); err != nil || out != want {
		t.Errorf("got %q, %v", out, err)
	}
	if !m.signedIn(m.givePassword(origin), origin) {
		t.Error("the password is not enough")
	}
	r := m.request("http://"+m.admin+adminResetPath+"?user=alice", "", nil)
	if got := m.do(r); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered %d", got.status)
	}
}
