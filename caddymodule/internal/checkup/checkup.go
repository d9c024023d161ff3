package checkup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Level says what a finding means for clients.
type Level string

// The levels of findings.
const (
	Good    Level = "ok"      // clients get on
	Warning Level = "warning" // some clients may not get on
	Problem Level = "problem" // clients do not get on
	Skipped Level = "skipped" // nobody looked
)

// Finding is what one look has shown.
type Finding struct {
	Name  string `json:"name"` // of what was looked at
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // how to mend it
}

// Options of a checkup.
type Options struct {
	// Address is the URL of the MCP endpoint, as people give it to clients.
	Address string

	// Token is a bearer token; with one, the MCP server behind the front door is
	// looked at as well.
	Token string

	// Register lets it register a client, as most clients do at first.
	Register bool

	// Origin is that of a web page that shall be able to call the endpoint, ""
	// for the MCP Inspector on the same computer.
	Origin string

	// Roots are trusted beside those of the system; nil for none.
	Roots *x509.CertPool
}

// Limits of one exchange.
const (
	exchangeTime = 10 * time.Second
	maxAnswer    = 1 << 20 // bytes
)

// inspectorOrigin is where the MCP Inspector serves its page.
const inspectorOrigin = "http://localhost:6274"

// checkup is one look at a server.
type checkup struct {
	opts   Options
	target *url.URL
	client *http.Client
	report func(Finding)

	// What has been found out so far.
	metadata string // address of the protected resource metadata
	resource oauth.ProtectedResourceMetadata
	server   oauth.AuthorizationServerMetadata
}

// Run looks at a server and reports each finding as it comes. It ends early when
// what follows would fail for the same reason. An error says that the address is
// not one that clients could use.
func Run(ctx context.Context, opts Options, report func(Finding)) error {
	target, err := parseAddress(opts.Address)
	if err != nil {
		return err
	}
	if opts.Origin == "" {
		opts.Origin = inspectorOrigin
	}
	c := &checkup{opts: opts, target: target, report: report}
	c.client = c.newClient()
	defer c.client.CloseIdleConnections()
	for _, look := range []func(context.Context) bool{
		c.names, c.certificate, c.challenge, c.protectedResource, c.issuer, c.registration,
	} {
		if !look(ctx) {
			return ctx.Err()
		}
	}
	c.backend(ctx)
	return ctx.Err()
}

// parseAddress accepts what clients accept: an https URL, or an http one on
// loopback.
func parseAddress(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, fmt.Errorf("%q is no address; write, for example: https://mcp.example.com/mcp", address)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("clients refuse http except on this computer; write: https://%s%s", u.Host, u.Path)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the address has to begin with https://")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("the address must have no user name and no fragment")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/mcp"
	}
	return u, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (c *checkup) good(name, format string, args ...any) bool {
	c.report(Finding{Name: name, Level: Good, Text: fmt.Sprintf(format, args...)})
	return true
}

func (c *checkup) warn(name, fix, format string, args ...any) {
	c.report(Finding{Name: name, Level: Warning, Text: fmt.Sprintf(format, args...), Fix: fix})
}

// problem reports what keeps clients out. It returns false, so that a look which
// makes the next ones useless can end with it.
func (c *checkup) problem(name, fix, format string, args ...any) bool {
	c.report(Finding{Name: name, Level: Problem, Text: fmt.Sprintf(format, args...), Fix: fix})
	return false
}
