package integration

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// providerSecret is what the gateway proves itself with at the provider, see node/openid-provider.mjs.
const providerSecret = "a secret of the tests"

// openidProvider is a certified OpenID provider that runs beside the gateway.
type openidProvider struct {
	t        *testing.T
	port     int
	callback string // of the gateway
	seconds  string // that access tokens are good for; "" for long
	proc     *process
}

func newOpenIDProvider(t *testing.T) *openidProvider {
	t.Helper()
	needNode(t)
	return &openidProvider{t: t, port: freePort(t)}
}

func (p *openidProvider) issuer() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// lines are those of the site.
func (p *openidProvider) lines() string {
	return `login oidc acme {
			label "Acme SSO"
			issuer ` + p.issuer() + `
			client_id mcp
			client_secret {env.OIDC_SECRET}
		}
`
}

// start runs the provider, with new keys each time.
func (p *openidProvider) start() {
	p.t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		p.t.Fatal(err)
	}
	p.proc = startProcess(p.t, []string{"HOME=" + p.t.TempDir()}, node, "node/openid-provider.mjs", fmt.Sprint(p.port), p.callback, p.seconds)
	eventually(p.t, "the provider serves", func() bool {
		if !p.proc.running() {
			p.t.Fatalf("the provider ended: %v", p.proc.err)
		}
		return strings.Contains(p.proc.output.String(), "ready")
	})
}

// siteOfProvider runs a gateway in front of an upstream, with the provider as a way to sign in.
func (p *openidProvider) siteOfProvider(upstream, more string) *gateway {
	p.t.Helper()
	g := startGateway(p.t, gatewayConfig{
		env: []string{"OIDC_SECRET=" + providerSecret},
		site: "mcp_auth " + upstream + " {\n" + p.lines() + more + `
		forward X-Mcp-User {http.auth.user.id}
		forward X-Caller-Email {http.auth.user.email}
		forward X-Caller-Groups {http.auth.user.groups}
	}`,
	})
	g.keepSecret(providerSecret)
	p.callback = g.origin + "/callback"
	return g
}

var providerLink = regexp.MustCompile(`href="(/login/provider\?[^"]+)"`)

// leave presses the button of the provider.
func (p *page) leave() *page {
	p.v.t.Helper()
	link := providerLink.FindStringSubmatch(p.body)
	if link == nil {
		p.v.t.Fatalf("no button of a provider on the page %v:\n%s", p, tail(p.body, 2000))
	}
	return p.v.get(p.v.g.origin + html.UnescapeString(link[1]))
}

// atProvider fills in the form of the provider that the browser was sent to, and returns the address at which the
// browser comes back to the gateway.
func (p *page) atProvider(form url.Values) string {
	p.v.t.Helper()
	client := &http.Client{Jar: p.v.client.Jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	req, err := http.NewRequestWithContext(p.v.t.Context(), http.MethodGet, p.next, nil)
	for range 10 {
		if err != nil {
			p.v.t.Fatal(err)
		}
		var resp *http.Response
		if resp, err = client.Do(req); err != nil {
			p.v.t.Fatal(err)
		}
		body, readErr := io.ReadAll(resp.Body)
		resp.Body.Close()
		if readErr != nil {
			p.v.t.Fatal(readErr)
		}
		location, none := resp.Location()
		switch {
		case none != nil && !strings.Contains(string(body), `name="username"`):
			p.v.t.Fatalf("the provider answers %d at %s:\n%s", resp.StatusCode, req.URL.Path, tail(string(body), 2000))
		case none != nil:
			req, err = http.NewRequestWithContext(p.v.t.Context(), http.MethodPost, req.URL.String(), strings.NewReader(form.Encode()))
			if err == nil {
				req.Header.Set("Content-Type", formType)
			}
		case strings.HasPrefix(location.String(), p.v.g.origin):
			return location.String()
		default:
			req, err = http.NewRequestWithContext(p.v.t.Context(), http.MethodGet, location.String(), nil)
		}
	}
	p.v.t.Fatal("the provider redirects for ever")
	return ""
}

// person is the form of somebody who signs in at the provider.
func person(name string) url.Values { return url.Values{"username": {name}} }
