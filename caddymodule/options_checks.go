package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// minSecretLength is how many characters a bearer token or a client secret has
// at least, so that it cannot be guessed over the network.
const minSecretLength = 12

// maxTextLength bounds names and sentences that pages show, in characters.
const maxTextLength = 200

// hasPlaceholder reports whether s has a placeholder such as {env.NAME}.
func hasPlaceholder(s string) bool {
	_, rest, found := strings.Cut(s, "{")
	return found && strings.Contains(rest, "}")
}

// checkText accepts text that is shown to people, and none at all.
func checkText(s string) error {
	if utf8.RuneCountInString(s) > maxTextLength {
		return fmt.Errorf("the text is longer than %d characters. Write a shorter one", maxTextLength)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("the text has line breaks or other control characters. Write it on one line")
	}
	return nil
}

func checkUserName(name string) error {
	switch {
	case name == "":
		return errors.New("a user has no name. Write, for example: user alice $2a$14$…")
	case name != strings.TrimSpace(name) || checkText(name) != nil:
		return errors.New("the name of a user begins or ends with a space, is too long or has control characters. " +
			"Write, for example: user alice $2a$14$…")
	}
	return nil
}

// The hashes that "caddy hash-password" makes, in the notations of modular crypt
// and of PHC strings.
var (
	bcryptHash   = regexp.MustCompile(`^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}$`)
	argon2idHash = regexp.MustCompile(`^\$argon2id\$v=19\$m=[1-9][0-9]{0,8},t=[1-9][0-9]{0,3},p=[1-9][0-9]{0,2}\$[+/A-Za-z0-9]+\$[+/A-Za-z0-9]+$`)
)

// isHash reports whether s is a hash as "caddy hash-password" prints it.
func isHash(s string) bool { return bcryptHash.MatchString(s) || argon2idHash.MatchString(s) }

func checkHash(user, hash string) error {
	switch {
	case hasPlaceholder(hash) || isHash(hash):
		return nil
	case strings.HasPrefix(hash, "$2") || strings.HasPrefix(hash, "$argon2"):
		return fmt.Errorf("the hash of the user '%s' is cut off or damaged. Run 'caddy hash-password' and copy all of it: "+
			"user %s $2a$14$…", user, user)
	}
	return fmt.Errorf("the user '%s' has a password where its hash belongs. Run 'caddy hash-password' and write what it "+
		"prints: user %s $2a$14$…", user, user)
}

func checkEmail(user, email string) error {
	if email == "" || hasPlaceholder(email) {
		return nil
	}
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email {
		return fmt.Errorf("'%s' is no e-mail address. Write, for example: user %s $2a$14$… %s@example.com", email, user, user)
	}
	return nil
}

// checkBearerToken accepts what can be sent as a bearer token (RFC 6750 section
// 2.1) and cannot be guessed.
func checkBearerToken(token string) error {
	if hasPlaceholder(token) {
		return nil
	}
	if len(token) < minSecretLength {
		return fmt.Errorf("the bearer_token is too short to be safe: %d characters of at least %d. "+
			"Make one with 'openssl rand -hex 32', and write: bearer_token {env.MCP_BEARER_TOKEN}", len(token), minSecretLength)
	}
	sent, err := oauth.BearerToken(http.Header{"Authorization": {"Bearer " + token}})
	if err != nil || sent != token {
		return errors.New("the bearer_token has characters that cannot be sent, or is too long. " +
			"Make one with 'openssl rand -hex 32', and write: bearer_token {env.MCP_BEARER_TOKEN}")
	}
	return nil
}

// checkClientID accepts what RFC 6749 appendix A.1 does, but for spaces.
func checkClientID(id string) error {
	if id == "" || len(id) > oauth.MaxRedirectURILength || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%q is no client identifier: printable ASCII without spaces. "+
			"Write, for example: client nightly-report { … }", id)
	}
	return nil
}

func checkClientSecret(secret string) error {
	if secret == "" || hasPlaceholder(secret) || isHash(secret) || len(secret) >= minSecretLength {
		return nil
	}
	return fmt.Errorf("the secret is too short to be safe: %d characters of at least %d. "+
		"Make one with 'openssl rand -hex 32', and write: secret {env.CLIENT_SECRET}", len(secret), minSecretLength)
}

func checkRedirectURI(uri string) error {
	if hasPlaceholder(uri) {
		return nil
	}
	if err := oauth.CheckRedirectURI(uri); err != nil {
		return fmt.Errorf("the redirect URI %q %w. Write, for example: redirect_uris https://app.example.com/callback", uri, err)
	}
	return nil
}

// hostName is a host without a port in the spelling that URLs of browsers have.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

// checkRegistrationHost accepts a host, a private-use scheme (RFC 8252 section
// 7.1) with its colon, and on, off and token when they are alone.
func checkRegistrationHost(host string, alone bool) error {
	switch {
	case host == "on" || host == "off" || host == "token":
		if !alone {
			return fmt.Errorf("'%s' stands beside hosts. Write it alone, or the hosts: dynamic claude.ai localhost", host)
		}
	case strings.HasSuffix(host, ":") && host != "http:" && host != "https:":
		if oauth.CheckRedirectURI(host+"//callback") != nil {
			return fmt.Errorf("'%s' is no scheme that clients may return to. Write, for example: dynamic cursor: localhost", host)
		}
	case host == "true" || host == "false" || !hostName.MatchString(host):
		return fmt.Errorf("'%s' is no host: no scheme, port, path or wildcard, in lower case. "+
			"Write, for example: dynamic claude.ai chatgpt.com localhost", host)
	}
	return nil
}

// checkResourcePath accepts a path in the one spelling that a request for it
// has, so that comparing it to requests leaves no room for tricks.
func checkResourcePath(path string) error {
	beforeWildcard, _, _ := strings.Cut(path, "*")
	clean := "/" + strings.Trim(beforeWildcard, "/")
	if clean == "/" {
		clean = "/mcp"
	}
	switch {
	case path == "" || path == "/":
		return errors.New("a resource needs a path of its own, as the pages are at the root. Write, for example: resource /mcp")
	case path[0] != '/':
		return fmt.Errorf("the resource '%s' does not begin with a slash. Write: resource %s", path, clean)
	case strings.Contains(path, "*"):
		return fmt.Errorf("the resource '%s' has a wildcard; what lies below a resource belongs to it anyway. Write: resource %s",
			path, clean)
	case strings.HasSuffix(path, "/"):
		return fmt.Errorf("the resource '%s' ends in a slash. Write: resource %s", path, clean)
	case strings.Contains(path, "//") || slices.ContainsFunc(strings.Split(path, "/"), isDots):
		return fmt.Errorf("the resource '%s' has empty segments or dots. Write it as clients ask for it, for example: "+
			"resource /mcp", path)
	case strings.ContainsFunc(path, func(r rune) bool { return !isPathRune(r) }):
		return fmt.Errorf("the resource %q has characters that paths must encode, or a query. "+
			"Write a plain path, for example: resource /mcp", path)
	case authserver.Owns(path) || path == "/.well-known" || strings.HasPrefix(path, "/.well-known/"):
		return fmt.Errorf("mcp_auth itself answers '%s'. Write another path, for example: resource /mcp", path)
	}
	return nil
}

func isDots(segment string) bool { return segment == "." || segment == ".." }

// isPathRune reports whether r stands for itself in a path: RFC 3986 section
// 3.3 without percent-encoding, and without the semicolon, which servers read
// in different ways.
func isPathRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/-._~!$&'()+,=:@", r)
}

func checkScopeName(name string) error {
	if oauth.ValidScopeToken(name) {
		return nil
	}
	return fmt.Errorf("%q is no name of a scope: up to 128 characters of ASCII without spaces, quotes and backslashes. "+
		"Write, for example: bugs:read", name)
}

// check checks the bounds; a value of 0 stands for the default.
func (l timespan) check() error {
	switch d := time.Duration(*l.field); {
	case d == 0:
		return nil
	case d < 0:
		return fmt.Errorf("%s is negative. Write, for example: %s %s", l.name, l.name, l.example)
	case d < l.atLeast:
		return fmt.Errorf("%s is shorter than clients can work with. Write at least: %s %s",
			l.name, l.name, shortDuration(l.atLeast))
	case l.atMost > 0 && d > l.atMost:
		return fmt.Errorf("%s is too long. Write at most: %s %s", l.name, l.name, shortDuration(l.atMost))
	}
	return nil
}

// shortDuration prints 5m0s as 5m.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// framingHeaders are part of how a message is sent, so a value of ours would
// break it.
var framingHeaders = []string{
	"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// checkHeaderName accepts names of headers that can be set on the way to an
// upstream.
func checkHeaderName(name, example string) error {
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }):
		return fmt.Errorf("%q is no name of a header. Write, for example: %s", name, example)
	case slices.Contains(framingHeaders, normalHeader(name)):
		return fmt.Errorf("the header '%s' belongs to the connection and cannot be forwarded. Write, for example: %s", name, example)
	}
	return nil
}

func checkForward(f Forward) error {
	if err := checkHeaderName(f.Header, "forward X-Mcp-User {http.auth.user.id}"); err != nil {
		return err
	}
	switch {
	case f.Value == "":
		return fmt.Errorf("the header '%s' has no value. Write, for example: forward %s {http.auth.user.id}", f.Header, f.Header)
	case strings.ContainsFunc(f.Value, unicode.IsControl):
		return fmt.Errorf("the value of the header '%s' has control characters. Write, for example: "+
			"forward %s {http.auth.user.id}", f.Header, f.Header)
	}
	return nil
}

// normalHeader returns the form in which names of headers are compared:
// upstreams that build variables from them do not tell these characters apart.
func normalHeader(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
}

// isTokenRune reports whether r may be part of a token (RFC 9110 section 5.6.2).
func isTokenRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// rateLimitNames are what can be limited.
var rateLimitNames = []string{"login", "register", "token", "mcp"}

// checkRateLimit accepts only limits that are enforced.
func checkRateLimit(name string, limit RateLimit) error {
	switch {
	case !slices.Contains(rateLimitNames, name):
		return fmt.Errorf("there is no limit '%s', only %s. Write, for example: rate_limit login 10 1m", name, strings.Join(rateLimitNames, ", "))
	case limit.Max < 0 || limit.Max > 1_000_000:
		return fmt.Errorf("rate_limit %s has the number %d, which is none from 1 to 1000000. "+
			"Write, for example: rate_limit %s 10 1m", name, limit.Max, name)
	case limit.Max > 0 && limit.Window < caddy.Duration(time.Second) || limit.Window < 0:
		return fmt.Errorf("rate_limit %s has a window of less than a second. Write, for example: rate_limit %s 10 1m", name, name)
	}
	return nil
}

// checkIssuer accepts an https origin (RFC 8414 section 2, without a path, which
// clients handle in different ways), and an http origin on loopback.
func checkIssuer(issuer string) error {
	if issuer == "" || hasPlaceholder(issuer) {
		return nil
	}
	u, origin, err := parseOrigin(issuer)
	switch {
	case err != nil:
		return fmt.Errorf("the issuer '%s' %w. Write, for example: issuer https://mcp.example.com", issuer, err)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("the issuer '%s' is not https, so tokens could be read on the way. Write: issuer %s",
			issuer, "https"+strings.TrimPrefix(origin, "http"))
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the issuer '%s' is not https. Write: issuer https://%s", issuer, u.Host)
	case origin != issuer:
		return fmt.Errorf("the issuer '%s' is not just an origin, and clients compare it byte by byte. Write: issuer %s", issuer, origin)
	}
	return nil
}

// checkWebOrigin accepts the Origin header of a web page or an extension.
func checkWebOrigin(field, s string) error {
	if hasPlaceholder(s) {
		return nil
	}
	if s == "*" {
		return fmt.Errorf("%s * would let every web page in. Name the origins, for example: %s http://localhost:6274", field, field)
	}
	_, origin, err := parseOrigin(s)
	if err != nil {
		return fmt.Errorf("'%s' %w. Write, for example: %s http://localhost:6274", s, err, field)
	}
	if origin != s {
		return fmt.Errorf("'%s' is not an origin as browsers send it. Write: %s %s", s, field, origin)
	}
	return nil
}

// checkOriginHeader accepts, beyond origins, null: what pages in files and in
// sandboxed frames send.
func checkOriginHeader(s string) error {
	if s == "null" {
		return nil
	}
	return checkWebOrigin("allow_origins", s)
}

// parseOrigin returns the URL s and its origin as RFC 6454 section 6.2 spells
// it: in lower case, without the default port, a path, a query and so on. The
// error continues a sentence that begins with s.
func parseOrigin(s string) (*url.URL, string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.Opaque != "" {
		return nil, "", errors.New("is not an origin, which is a scheme and a host")
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
		return nil, "", errors.New("has a host that is none")
	}
	if u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		port = ""
	}
	switch {
	case port != "":
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return u, u.Scheme + "://" + host, nil
}

// isLoopback reports whether a host can only be this machine.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

var accentColour = regexp.MustCompile(`^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$`)

func checkAccent(s string) error {
	if s == "" || accentColour.MatchString(s) {
		return nil
	}
	return fmt.Errorf(`%q is no colour. Write it in quotes as #rgb or #rrggbb, for example: accent "#1b4fc4"`, s)
}

func checkHelpURL(s string) error {
	if s == "" {
		return nil
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("'%s' is no https address. Write, for example: help_url https://example.com/help", s)
	}
	return nil
}
