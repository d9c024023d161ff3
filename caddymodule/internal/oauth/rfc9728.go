// This file implements RFC 9728 (OAuth 2.0 Protected Resource Metadata).

package oauth

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
