package integration

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// TestFactorsInBrowser sends Chromium through the pages of second factors, without JavaScript, and of passkeys, with its
// virtual authenticator and without any; axe looks at all of them.
func TestFactorsInBrowser(t *testing.T) {
	t.Parallel()
	runBrowser(t, "factors")
}

var (
	keyOnPage   = regexp.MustCompile(`secret=([A-Z2-7]+)`)
	codesOnPage = regexp.MustCompile(`<code>([a-z2-7-]+)</code>`)
)

// enrol sets an authenticator app up, and returns its key and the recovery codes.
func (v *visitor) enrol() (key string, recovery []string) {
	v.t.Helper()
	v.get(v.g.origin + "/account").signIn()
	p := v.get(v.g.origin + "/account/factor")
	if keyOnPage.FindStringSubmatch(p.body) == nil {
		v.t.Fatalf("the page %s has no key:\n%s", p, tail(p.body, 2000))
	}
	key = keyOnPage.FindStringSubmatch(p.body)[1]
	p = p.submit("code", url.Values{"decision": {"enrol"}, "code": {codeOf(v.t, key, -1)}})
	for _, found := range codesOnPage.FindAllStringSubmatch(p.body, -1) {
		recovery = append(recovery, found[1])
	}
	if len(recovery) != 10 {
		v.t.Fatalf("the page %s has %d recovery codes", p, len(recovery))
	}
	v.g.keepSecret(append(recovery, key)...)
	return key, recovery
}

// codeOf is the code of a key, some steps from now.
func codeOf(t testing.TB, key string, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(key, time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestSecondFactor sets a second factor up, crashes, moves the store, and has the operator take the factor away. What the
// store holds is of no use by itself.
func TestSecondFactor(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}"})
	key, recovery := g.newVisitor(t).enrol()
	g.restart(true)
	fresh := g.newVisitor(t)
	p := fresh.get(g.origin + "/account").signIn()
	if p.form("/login/code") == nil {
		t.Fatalf("after the password comes %s", p)
	}
	if p = p.submit("code", url.Values{"code": {codeOf(t, key, 0)}}); !strings.Contains(p.body, "10 recovery codes left") {
		t.Errorf("after the code comes %s", p)
	}
	export, stderr, err := g.caddy("mcp-auth", "store", "export", "--address", g.admin)
	if err != nil || strings.Contains(export, key) || strings.Contains(export, recovery[0]) {
		t.Errorf("the export fails or has secrets: %v %s", err, stderr)
	}
	out, stderr, err := g.caddy("mcp-auth", "user", "reset-factors", userName, "--address", g.admin)
	if err != nil || !strings.Contains(out, "an authenticator app with 10 recovery codes") {
		t.Errorf("reset-factors prints %q: %v %s", out, err, stderr)
	}
	if p := g.newVisitor(t).get(g.origin + "/account").signIn(); p.form("/logout") == nil {
		t.Errorf("after the reset and the password comes %s", p)
	}
}
