// This file implements RFC 8707 (Resource Indicators): comparing the URIs that
// name protected resources.

package oauth

import (
	"net/http"
	"net/url"
	"strings"
)

// InvalidTarget says: the resource is unknown or malformed (RFC 8707 section 2).
func InvalidTarget(description string) *Error {
	return &Error{Code: "invalid_target", Description: description, Status: http.StatusBadRequest}
}

// CanonicalResource returns the form in which resource URIs are compared: the
// scheme and the host in lower case, no default port, no trailing slash. It
// reports false for what is no absolute http or https URI, for one with a
// fragment, a query or user information, and for one with an ambiguous path.
func CanonicalResource(uri string) (string, bool) {
	if uri == "" || len(uri) > MaxRedirectURILength {
		return "", false
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c > '~' || c == '\\' || c == '#' || c == '?' || c == '%' {
			return "", false
		}
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	host, port := splitPort(u.Host)
	switch {
	case u.Scheme != "https" && u.Scheme != "http", host == "":
		return "", false
	case u.Scheme == "https" && port == "443", u.Scheme == "http" && port == "80", port == "":
	default:
		host += ":" + port
	}
	if strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/.") {
		return "", false
	}
	return u.Scheme + "://" + strings.ToLower(host) + strings.TrimSuffix(u.Path, "/"), true
}
