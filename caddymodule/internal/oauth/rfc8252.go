// This file implements redirect URIs: RFC 6749 section 3.1.2, RFC 8252 (OAuth
// for Native Apps) section 7 and the exact matching of OAuth 2.1.

package oauth

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MaxRedirectURILength bounds a redirect URI in bytes.
const MaxRedirectURILength = 2048

// deniedSchemes can run script, read files or start programs of the system when
// a browser is sent to them.
var deniedSchemes = []string{
	"javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source", "jar", "resource",
	"chrome", "chrome-extension", "moz-extension", "edge", "opera", "brave", "ws", "wss", "ftp", "ftps", "sftp", "ssh",
	"telnet", "mailto", "tel", "sms", "intent", "android-app", "search-ms", "shell", "res", "mhtml", "livescript", "mocha",
	"urn", "ldap", "ldaps", "gopher", "smb", "nfs", "afp", "tftp", "dict", "vnc", "rdp", "jnlp", "help", "hcp", "cid", "mid",
	"git", "search", "microsoft-edge", "itms-services", "applescript", "x-man-page", "feed", "wyciwyg",
}

// loopbackHosts are the hosts to which plain http may go. They are compared as
// strings: a name that merely resolves to loopback is none of them.
var loopbackHosts = []string{"127.0.0.1", "[::1]", "localhost"}

// CheckRedirectURI returns an error, whose text names the rule, for a URI that
// no client may register. Accepted are https; http to loopback (RFC 8252
// section 7.3); and private-use schemes (section 7.1), with or without a dot,
// since clients in the field have schemes such as cursor and vscode.
func CheckRedirectURI(uri string) error {
	switch {
	case uri == "":
		return errors.New("is empty")
	case len(uri) > MaxRedirectURILength:
		return errors.New("is longer than 2048 bytes")
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c > '~' || strings.IndexByte("\\\"<>^`{|}*", c) >= 0 {
			return errors.New("has a character that URIs must percent-encode, or a wildcard")
		}
	}
	if strings.Contains(uri, "#") {
		return errors.New("has a fragment")
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		return errors.New("is not an absolute URI")
	}
	// Comparison is by string, so only the spelling that URI libraries
	// produce is let in.
	if !strings.HasPrefix(uri, u.Scheme+":") {
		return errors.New("has an upper-case scheme")
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		return errors.New("has user information")
	}
	switch u.Scheme {
	case "https":
		return checkHTTPHost(u)
	case "http":
		if err := checkHTTPHost(u); err != nil {
			return err
		}
		if host, _ := splitPort(u.Host); !slices.Contains(loopbackHosts, host) {
			return errors.New("uses http for a host other than localhost, 127.0.0.1 or [::1]")
		}
		return nil
	}
	return checkPrivateScheme(u)
}

func checkHTTPHost(u *url.URL) error {
	if u.Opaque != "" || u.Host == "" {
		return errors.New("has no host")
	}
	host, port := splitPort(u.Host)
	if !validHost(host) {
		return errors.New("has no valid host")
	}
	if len(host) < len(u.Host) && !validPort(port) {
		return errors.New("has no valid port")
	}
	return nil
}

// validHost accepts DNS names, IPv4 addresses, and IPv6 addresses in brackets
// and without a zone, which would mean another host on each machine.
func validHost(host string) bool {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	if host == "" || host[0] == '.' || strings.Contains(host, "..") {
		return false
	}
	for i := range len(host) {
		if !isUnreserved(host[i]) || host[i] == '~' {
			return false
		}
	}
	return true
}

func checkPrivateScheme(u *url.URL) error {
	if slices.Contains(deniedSchemes, u.Scheme) || strings.HasPrefix(u.Scheme, "ms-") || len(u.Scheme) < 3 {
		return errors.New("has a scheme that is not allowed")
	}
	if u.Opaque != "" || u.Host == "" && len(u.Path) < 2 {
		return errors.New("names no place within its scheme")
	}
	return nil
}

// MatchRedirectURI reports whether a requested URI is the registered one:
// the same string or, for http on a loopback host, the same but for the port
// (RFC 8252 section 7.3). The three spellings of loopback do not stand for each
// other.
func MatchRedirectURI(registered, requested string) bool {
	if registered == requested {
		return true
	}
	regHost, regRest, ok := cutLoopback(registered)
	if !ok {
		return false
	}
	reqHost, reqRest, ok := cutLoopback(requested)
	return ok && regHost == reqHost && regRest == reqRest
}

// cutLoopback splits an http loopback URI into its host and what follows the
// port. It is a parser of its own so that what it lets through is exact.
func cutLoopback(uri string) (host, rest string, ok bool) {
	after, ok := strings.CutPrefix(uri, "http://")
	if !ok {
		return "", "", false
	}
	for _, host := range loopbackHosts {
		tail, ok := strings.CutPrefix(after, host)
		if !ok {
			continue
		}
		if port, found := strings.CutPrefix(tail, ":"); found {
			end := strings.IndexAny(port, "/?")
			if end < 0 {
				end = len(port)
			}
			if !validPort(port[:end]) {
				return "", "", false
			}
			tail = port[end:]
		}
		if tail == "" || tail[0] == '/' || tail[0] == '?' {
			return host, tail, true
		}
	}
	return "", "", false
}

// IsLoopbackRedirect reports whether a checked redirect URI goes to a program
// on the user's computer over http, and on which port ("" when unnamed).
func IsLoopbackRedirect(uri string) (port string, ok bool) {
	if _, _, ok := cutLoopback(uri); !ok {
		return "", false
	}
	u, err := url.Parse(uri)
	if err != nil {
		return "", false
	}
	return u.Port(), true
}

// splitPort splits host:port without looking inside either; brackets of an
// IPv6 address stay.
func splitPort(hostport string) (host, port string) {
	i := strings.LastIndexByte(hostport, ':')
	if i < 0 || strings.HasSuffix(hostport, "]") {
		return hostport, ""
	}
	return hostport[:i], hostport[i+1:]
}

func validPort(s string) bool {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
