package authserver

import "github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"

// PathCallback is where providers send the browser back to.
const PathCallback = pathCallback

// Paths are all paths that a server can answer, but for "/" and well-known
// documents. No resource can be at one of them.
func Paths() []string {
	return []string{
		pathAuthorize, pathLogin, pathLeave, pathCallback, pathSwitch, pathLogout, pathAccount, pathRemove,
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
