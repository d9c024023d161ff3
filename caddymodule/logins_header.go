package caddymodule

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// headerProvider is the name of the login by headers.
const headerProvider = "header"

// HeaderLogin signs in whom a proxy names in headers. Users have the subject
// "header:<user>".
//
// The headers count at /authorize only. They are believed when a handler of the
// site before mcp_auth has taken away what the client sent under their names, as
// forward_auth does with copy_headers; or else when the request comes from one of
// the trusted_proxies of the web server, which then have to set or remove them.
type HeaderLogin struct {
	// The header with the name of the user.
	User string `json:"user"`

	// The headers with the e-mail address, the name and the groups, separated
	// by commas or vertical bars. Default: none.
	Email  string `json:"email,omitempty"`
	Name   string `json:"name,omitempty"`
	Groups string `json:"groups,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (HeaderLogin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: loginNamespace + ".header", New: func() caddy.Module { return new(HeaderLogin) }}
}

// Provision checks the login.
func (l *HeaderLogin) Provision(caddy.Context) error { return l.check() }

// LoginID implements LoginModule.
func (l *HeaderLogin) LoginID() string { return headerProvider }

// LoginLabel implements LoginModule.
func (l *HeaderLogin) LoginLabel() string { return "SSO" }

// Method implements LoginModule.
func (l *HeaderLogin) Method() (login.Method, error) { return &headerLogin{names: *l}, nil }

// headers are the names of the headers.
func (l *HeaderLogin) headers() []string {
	var out []string
	for _, name := range []string{l.User, l.Email, l.Name, l.Groups} {
		if name != "" {
			out = append(out, http.CanonicalHeaderKey(name))
		}
	}
	return out
}

func (l *HeaderLogin) check() error {
	seen := map[string]bool{}
	if l.User == "" {
		return fmt.Errorf("login header names no header. Write, for example: login header Remote-User Remote-Email")
	}
	for _, name := range l.headers() {
		switch normal := normalHeader(name); {
		case strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) || r == '_' || r == '.' }):
			return fmt.Errorf("%q is no name of a header that a proxy could set safely. Write, for example: "+
				"login header Remote-User Remote-Email", name)
		case normal == "authorization" || normal == "cookie" || normal == "host" || seen[normal]:
			return fmt.Errorf("the header '%s' cannot say who signs in, or is named twice. Write, for example: "+
				"login header Remote-User Remote-Email", name)
		default:
			seen[normal] = true
		}
	}
	return nil
}

// UnmarshalCaddyfile sets up the login from Caddyfile tokens. Syntax:
//
//	login header <user> [<email> [<name> [<groups>]]]
func (l *HeaderLogin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the module
	line := lineOf(d.Token())
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 4 {
		return errArguments
	}
	for i, to := range []*string{&l.User, &l.Email, &l.Name, &l.Groups} {
		if i < len(args) {
			*to = args[i]
		}
	}
	if err := l.check(); err != nil {
		return line.WrapErr(err)
	}
	return nil
}

// headerLogin is the login at work.
type headerLogin struct {
	names HeaderLogin

	// cleared says that the configuration takes away on each way to /authorize
	// what clients send under these names. Who the peer is does not matter then.
	cleared bool
}

// Recognizes implements login.Method.
func (l *headerLogin) Recognizes(id login.Identity) bool { return id.Provider == headerProvider }

// Identify implements login.Request.
func (l *headerLogin) Identify(r *http.Request) (login.Identity, error) {
	if !l.cleared && !fromTrustedProxy(r) {
		return login.Identity{}, login.ErrDenied
	}
	user := onlyValue(r, l.names.User)
	if user == "" || len(user) > 255 || strings.ContainsFunc(user, func(c rune) bool { return c < ' ' || c > '~' }) {
		return login.Identity{}, login.ErrDenied
	}
	return login.Identity{
		Subject: headerProvider + ":" + user, Provider: headerProvider,
		Email: onlyValue(r, l.names.Email), Name: onlyValue(r, l.names.Name), Groups: groupsOf(onlyValue(r, l.names.Groups)),
	}, nil
}

// onlyValue returns the value of a header that is there once and fit for pages
// and headers, or "".
func onlyValue(r *http.Request, name string) string {
	values := r.Header.Values(name)
	if name == "" || len(values) != 1 || len(values[0]) > 4096 || !utf8.ValidString(values[0]) || strings.ContainsFunc(values[0], unicode.IsControl) {
		return ""
	}
	return strings.TrimSpace(values[0])
}

// groupsOf takes a list apart. Proxies separate groups by commas, authentik by
// bars.
func groupsOf(list string) []string {
	var out []string
	for group := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == '|' }) {
		if group = strings.TrimSpace(group); group != "" {
			out = append(out, group)
		}
	}
	return out
}

// Interface guards
var (
	_ caddy.Provisioner     = (*HeaderLogin)(nil)
	_ caddyfile.Unmarshaler = (*HeaderLogin)(nil)
	_ LoginModule           = (*HeaderLogin)(nil)
	_ login.Request         = (*headerLogin)(nil)
)
