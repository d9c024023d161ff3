package integration

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestExpressWebApp is the second example of the document that the product started from, as it stands there: a web app
// that registers itself when it starts, redeems the code without a client secret, and refreshes with nothing but the
// refresh token.
func TestExpressWebApp(t *testing.T) {
	t.Parallel()
	node := needNode(t)
	g := startGateway(t, gatewayConfig{
		site: environmentSite(startBackend(t), ""),
		env:  []string{"AUTH_TYPE=oauth2.1"},
	})
	port := freePort(t)
	app := startProcess(t, g.trusting("MCP_SERVER="+g.origin, fmt.Sprintf("PORT=%d", port)), node,
		"--import", "./node/lib/later.mjs", "node/express-app.mjs")
	registered := regexp.MustCompile(`Client registered: mcp_\w+`)
	eventually(t, "the app runs and is registered", func() bool {
		out := app.output.String()
		return registered.MatchString(out) && strings.Contains(out, "Client app running")
	})
	user := newAppUser(t, fmt.Sprintf("http://localhost:%d", port))

	if home := user.get(t, "/"); !strings.Contains(home.body, "Connect to MCP Server") {
		t.Fatalf("the app begins with %s", home.body)
	}
	// /search of a user who is not connected leads to /login, and that to the gateway.
	authorize := user.get(t, user.get(t, "/search").header.Get("Location")).header.Get("Location")
	back := g.newVisitor(t).get(authorize).signIn().submit("allow", nil)
	g.keepSecret(back.callback().Get("code"))
	wantStatus(t, "the callback", user.get(t, back.next), http.StatusFound)
	if home := user.get(t, "/"); !strings.Contains(home.body, "Connected to MCP Server") || strings.Contains(home.body, "undefined") {
		t.Fatalf("the app is not connected: %s", home.body)
	}
	wantBugs(t, user.get(t, "/search").body)

	eventually(t, "the log tells of one token request", func() bool { return tokenRequests(g) == 1 })
	if err := app.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the clock of the app is ahead", func() bool { return strings.Contains(app.output.String(), "two hours ahead") })
	wantBugs(t, user.get(t, "/search").body)
	eventually(t, "the log tells of the refresh", func() bool { return tokenRequests(g) == 2 })
	wantBugs(t, user.get(t, "/search").body)

	wantStatus(t, "the logout", user.get(t, "/logout"), http.StatusFound)
	wantStatus(t, "a search after it", user.get(t, "/search"), http.StatusFound)
	if n := len(registered.FindAllString(app.output.String(), -1)); n != 1 {
		t.Errorf("the app has registered %d times", n)
	}
}

// tokenRequests counts the requests to the token endpoint that succeeded.
func tokenRequests(g *gateway) int {
	n := 0
	for line := range strings.Lines(g.proc.output.String()) {
		if strings.Contains(line, `"uri":"/token"`) && strings.Contains(line, `"status":200`) {
			n++
		}
	}
	return n
}

// appUser is a browser at the web app, which is not at the gateway.
type appUser struct {
	origin string
	client *http.Client
}

func newAppUser(t *testing.T, origin string) *appUser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &appUser{origin, &http.Client{
		Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get opens a path of the app, or an address at it.
func (u *appUser) get(t *testing.T, address string) *answer {
	t.Helper()
	origin, err := url.Parse(u.origin)
	if err != nil {
		t.Fatal(err)
	}
	target, err := origin.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, u.client, http.MethodGet, target.String(), "")
}
