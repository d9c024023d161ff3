package authserver

import (
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Paths of the endpoints. They are at the root of the origin, because clients of
// the first MCP revisions look for them there without any metadata.
const (
	pathAuthorize     = pages.PathAuthorize
	pathLogin         = pages.PathLogin
	pathCode          = pages.PathCode
	pathEnrol         = pages.PathEnrol
	pathPasskey       = pages.PathPasskey
	pathLeave         = pathLogin + "/provider"
	pathCallback      = "/callback"
	pathSwitch        = pages.PathSwitch
	pathLogout        = pages.PathLogout
	pathAccount       = "/account"
	pathRemove        = pathAccount + pages.RevokeSuffix
	pathFactor        = pathAccount + pages.FactorSuffix
	pathNewPasskey    = pathAccount + pages.PasskeySuffix
	pathRemovePasskey = pathNewPasskey + pages.RemoveSuffix
	pathDevice        = pages.PathDevice

	pathToken               = "/token"
	pathRegister            = "/register"
	pathRevoke              = "/revoke"
	pathIntrospect          = "/introspect"
	pathDeviceAuthorization = "/device_authorization"
	pathJWKS                = "/jwks"
	pathHealth              = "/health"
)

// PathCallback is where providers send the browser back to.
const PathCallback = pathCallback

// belowRegister is what the addresses of registrations begin with (RFC 7592). All
// that lies there is answered here, whatever it is.
const belowRegister = pathRegister + "/"

// Owns reports whether a server can answer a path, so that no resource can be
// there. Well-known documents are not looked at.
func Owns(path string) bool {
	return slices.Contains(Paths(), path) || strings.HasPrefix(path, belowRegister)
}

// Route is what the path of an endpoint is called where nobody shall learn of a
// client.
func Route(path string) string {
	if strings.HasPrefix(path, belowRegister) {
		return belowRegister + "{client_id}"
	}
	return path
}

// Paths are all paths that a server can answer, but for "/", well-known documents
// and what lies below /register.
func Paths() []string {
	return []string{
		pathAuthorize, pathLogin, pathLeave, pathCallback, pathSwitch, pathLogout, pathAccount, pathRemove,
		pathCode, pathEnrol, pathPasskey, pathFactor, pathNewPasskey, pathRemovePasskey,
		pathToken, pathRegister, pathRevoke, pathIntrospect, pathJWKS, pathHealth, pathDevice, pathDeviceAuthorization,
	}
}

// DevicePaths are the paths that devices and their people need (RFC 8628).
func DevicePaths() []string { return []string{pathDeviceAuthorization, pathDevice} }

// OAuthPaths are the paths that clients need in order to get tokens: for people
// who sign in, or for programs only.
func OAuthPaths(signIn bool) []string {
	out := []string{oauth.WellKnownServer, pathToken, pathRegister}
	if signIn {
		out = append(out, pathAuthorize, pathLogin)
	}
	return out
}
