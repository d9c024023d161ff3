// This file implements RFC 9728 (OAuth 2.0 Protected Resource Metadata).

package oauth

import (
	"cmp"
	"strings"
)

// Paths of metadata documents (RFC 9728 section 3, RFC 8414 section 3).
const (
	WellKnownResource = "/.well-known/oauth-protected-resource"
	WellKnownServer   = "/.well-known/oauth-authorization-server"
)

// ProtectedResourceMetadata is the document at
// /.well-known/oauth-protected-resource (RFC 9728 section 2).
type ProtectedResourceMetadata struct {
	// Resource equals, byte for byte, the URL that the client was given
	// (section 3.3).
	Resource               string   `json:"resource"`
	AuthorizationServers   []string `json:"authorization_servers,omitempty"`
	ScopesSupported        []string `json:"scopes_supported,omitempty"`
	BearerMethodsSupported []string `json:"bearer_methods_supported,omitempty"`
	ResourceName           string   `json:"resource_name,omitempty"`
}

// Resource is a protected resource as this server knows it.
type Resource struct {
	// Origin is the scheme, host and port, without a trailing slash.
	Origin string

	// Path is where the MCP endpoint is, without a trailing slash. What lies
	// below it belongs to the resource. It is empty for a whole origin.
	Path string

	// KnownAs is the path of the resource whose metadata challenges name, when
	// that is another one. Nobody types /messages: clients come there from
	// /sse, and compare the metadata with the address that they were given.
	KnownAs string

	// Name is what people call the resource.
	Name string

	// Scopes are all that the resource knows; Baseline are those that
	// challenges and metadata name, since privileged ones are asked for only
	// when they are needed.
	Scopes, Baseline Scopes

	// Group is shared by resources that are one and the same upstream. A token
	// for one of them is good for all.
	Group int
}

// URL is the resource identifier, and the audience of tokens (RFC 8707).
func (r *Resource) URL() string { return r.Origin + r.Path }

// MetadataURL is the address of the metadata that challenges name (section 3.1).
func (r *Resource) MetadataURL() string {
	return r.Origin + WellKnownResource + cmp.Or(r.KnownAs, r.Path)
}

// Covers reports whether a cleaned path belongs to the resource.
func (r *Resource) Covers(path string) bool {
	rest, ok := strings.CutPrefix(path, r.Path)
	return ok && (rest == "" || rest[0] == '/')
}
