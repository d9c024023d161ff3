package caddymodule

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
)

// Options are the settings of one protected site. The global option mcp_auth
// sets them for all sites; a site's own directive wins field by field.
//
// Values that are secrets may be placeholders such as {env.NAME} or
// {file./run/secrets/name}. They are resolved when the configuration is
// provisioned, so that they do not show in adapted configuration.
type Options struct {
	// How requests prove who they are:
	//
	//   - auto: OAuth 2.1 when someone can sign in or an authorization server is
	//     named, and bearer tokens when one is set; otherwise a bearer token that is made at the first start
	//   - bearer: static bearer tokens only
	//   - oauth2.1: OAuth 2.1 only
	//   - both: OAuth 2.1 and static bearer tokens on the same route
	//
	// Default: auto.
	AuthType string `json:"auth_type,omitempty"`

	// The name of the MCP server as pages and metadata show it.
	// Default: the host of the site.
	Name string `json:"name,omitempty"`

	// The issuer identifier of the authorization server (RFC 8414 section 2):
	// an https origin without a path, or an http origin on loopback.
	// Default: the origin of the site, taken from its address.
	Issuer string `json:"issuer,omitempty"`

	// The users who can sign in with a password.
	Users []User `json:"users,omitempty"`

	// Further ways to sign in: at OpenID providers, and by headers of a trusted
	// proxy.
	LoginsRaw []json.RawMessage `json:"logins,omitempty" caddy:"namespace=mcp_auth.logins inline_key=method"`

	// Servers of somebody else that issue the tokens. This one then only checks
	// them and has no endpoints of its own to get tokens from.
	AuthorizationServers []AuthorizationServer `json:"authorization_servers,omitempty"`

	// Who of those who can sign in may use the server. Default: everyone.
	Allow *Allow `json:"allow,omitempty"`

	// Static bearer tokens, for scripts and for clients without OAuth.
	BearerTokens []BearerToken `json:"bearer_tokens,omitempty"`

	// Clients that are known before they register.
	Clients []Client `json:"clients,omitempty"`

	// Which clients may introduce themselves, and how.
	Registration *Registration `json:"registration,omitempty"`

	// The protected resources (RFC 9728) of the site. Default: /mcp, and /sse
	// together with /messages, all served by one upstream.
	Resources []Resource `json:"resources,omitempty"`

	// The scopes that clients can ask for. Default: the one scope mcp.
	Scopes []Scope `json:"scopes,omitempty"`

	// How long an access token is good for. Default: 1h; at least 5m.
	AccessTokenLifetime caddy.Duration `json:"access_token_lifetime,omitempty"`

	// How long a refresh token is good for after its last use. Default: 30d.
	RefreshTokenLifetime caddy.Duration `json:"refresh_token_lifetime,omitempty"`

	// How long after a rotation the previous refresh token still gets the same
	// successor, for clients that race each other or lost the answer.
	// Default: 2m; at most 10m.
	RefreshTokenGrace caddy.Duration `json:"refresh_token_grace,omitempty"`

	// How long a browser stays signed in. Default: 12h.
	SessionLifetime caddy.Duration `json:"session_lifetime,omitempty"`

	// How long an authorization code is good for. Default: 60s; at most 10m.
	CodeLifetime caddy.Duration `json:"code_lifetime,omitempty"`

	// How long a key signs access tokens before the next one takes its place.
	// Default: 90d; at least 1h.
	SigningKeyLifetime caddy.Duration `json:"signing_key_lifetime,omitempty"`

	// Headers that tell the upstream who is calling. A header of the same name
	// that came from the client is removed first.
	Forward []Forward `json:"forward,omitempty"`

	// A header that tells the upstream who is calling in a form that it can
	// check. Resources may have one of their own. Default: none.
	ForwardAssertion *Assertion `json:"forward_assertion,omitempty"`

	// What the gateway proves itself with at the upstream. Resources may have
	// one of their own. Default: nothing.
	UpstreamCredential *Credential `json:"upstream_credential,omitempty"`

	// Where clients, grants, sessions and keys are kept. Default: a file in
	// Caddy's data directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=mcp_auth.stores inline_key=backend"`

	// How often something may be done:
	//
	//   - login: sign-ins that fail, for each account and for each address
	//   - register: clients that are registered, for each address
	//   - token: token requests, for each grant, or for each client and address
	//     where there is none
	//   - mcp: requests to the MCP server, for each user and client, or for each
	//     static token
	//
	// Nodes that share a store count together. Default: login 10 and token 60
	// per minute, register 20 per hour, mcp without a limit.
	RateLimits map[string]RateLimit `json:"rate_limits,omitempty"`

	// How long an event stream may be idle before a comment is written into it,
	// so that nothing on the way takes it for dead. Default: forever; at least
	// 1s, at most 10m.
	StreamKeepAlive caddy.Duration `json:"stream_keep_alive,omitempty"`

	// Origins of web pages that may call the MCP endpoints with a token
	// (CORS), such as http://localhost:6274. Default: none.
	CORSOrigins []string `json:"cors_origins,omitempty"`

	// Further values of the Origin header that are let through without CORS
	// headers. Default: only the site's own origin and CORSOrigins.
	AllowOrigins []string `json:"allow_origins,omitempty"`

	// Let devices without a browser in, whose users enter a code elsewhere (RFC
	// 8628). People can be talked into entering the code of a stranger's
	// device. Default: false.
	DeviceAuthorization *bool `json:"device_authorization,omitempty"`

	// Whether users of the configuration need a second factor or a passkey to
	// sign in: "optional" leaves it to them, and with "required" those who have
	// none set one up after their next password. Default: optional.
	SecondFactor string `json:"second_factor,omitempty"`

	// Accept the PKCE method "plain" of old clients. It does not protect the
	// authorization code. Default: false.
	PKCEPlain *bool `json:"pkce_plain,omitempty"`

	// Give a client that the configuration or its metadata document names, and
	// that is a website, what its user has allowed it before without asking
	// again. Default: true.
	RememberConsent *bool `json:"remember_consent,omitempty"`

	// Accept a static bearer token in the query parameter "token". Such tokens
	// end up in logs and in browser histories. Default: false.
	AllowQueryToken *bool `json:"allow_query_token,omitempty"`

	// What the audit log tells beyond what it always does.
	Audit *Audit `json:"audit,omitempty"`

	// The look of the pages.
	UI *UI `json:"ui,omitempty"`

	// Answer "/" with a page that tells people how to connect. Default: true.
	LandingPage *bool `json:"landing_page,omitempty"`

	// Let every request through without a token: false, true (an error unless
	// every listener is on loopback) or anywhere. Default: false.
	DangerouslyOmitAuth string `json:"dangerously_omit_auth,omitempty"`
}

// User is a person who signs in with a password of the configuration.
type User struct {
	// The user name, which is also the subject of tokens.
	Name string `json:"name"`

	// The password's hash as "caddy hash-password" prints it: bcrypt or
	// argon2id. May be a placeholder.
	Hash string `json:"hash"`

	// The user's e-mail address, for display and for the upstream.
	Email string `json:"email,omitempty"`
}

// BearerToken is a static token.
type BearerToken struct {
	// The token itself; at least 12 characters. May be a placeholder; one that
	// resolves to nothing switches this entry off.
	Token string `json:"token"`

	// The scopes of the token. Default: all scopes.
	Scopes []string `json:"scopes,omitempty"`
}

// Client is a client that the configuration makes known.
type Client struct {
	// The client identifier (RFC 6749 section 2.2).
	ID string `json:"id"`

	// The name that pages show. Default: the identifier.
	Name string `json:"name,omitempty"`

	// The client secret: the secret itself, or its hash as "caddy
	// hash-password" prints it. Without one the client is public. May be a
	// placeholder.
	Secret string `json:"secret,omitempty"`

	// The https address of the client's public keys (RFC 7591 section 2), for
	// clients that authenticate with private_key_jwt in place of a secret. It
	// may be in a private network.
	JWKSURI string `json:"jwks_uri,omitempty"`

	// Where authorization responses may go (RFC 6749 section 3.1.2).
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// The grant types the client may use: authorization_code, refresh_token,
	// client_credentials and, with device_authorization,
	// urn:ietf:params:oauth:grant-type:device_code. Default:
	// authorization_code and refresh_token when there are redirect URIs, none
	// for a client that asks about tokens, otherwise client_credentials.
	GrantTypes []string `json:"grant_types,omitempty"`

	// The scopes the client may have. Default: all scopes.
	Scopes []string `json:"scopes,omitempty"`

	// The resources whose access tokens the client may ask about at /introspect
	// (RFC 7662): paths at the issuer's origin, addresses, or * for all
	// resources of the issuer. Default: none, and without such a client there is
	// no /introspect.
	Introspect []string `json:"introspect,omitempty"`
}

// Registration says which clients may introduce themselves.
type Registration struct {
	// Clients that are described by the document at the URL that is their
	// client_id (Client ID Metadata Documents): "on", "off", or the hosts that
	// documents are accepted from. Default: on.
	MetadataDocuments []string `json:"metadata_documents,omitempty"`

	// Accept metadata documents that are served from this machine, over http as
	// well. For tests only. Default: false.
	MetadataDocumentsOnLoopback *bool `json:"metadata_documents_on_loopback,omitempty"`

	// Dynamic client registration (RFC 7591): "on", "off", "token" for clients
	// that show an initial access token (section 3), or the hosts whose redirect
	// URIs are accepted, "localhost" standing for loopback. Default: on.
	Dynamic []string `json:"dynamic,omitempty"`

	// How long a registration lives that nobody uses. Default: 30d.
	ExpireAfter caddy.Duration `json:"expire_after,omitempty"`

	// Who may register clients of the client_credentials grant: "token" asks
	// for a bearer token as initial access token (RFC 7591 section 3), "open"
	// lets everyone. Default: token.
	ServiceAccounts string `json:"service_accounts,omitempty"`
}

// Resource is a protected resource (RFC 9728).
type Resource struct {
	// The path of the MCP endpoint, such as /mcp. What lies below it belongs
	// to it.
	Path string `json:"path"`

	// The resource's name as metadata shows it. Default: the name of the site.
	Name string `json:"name,omitempty"`

	// The scopes that the resource knows. Default: all scopes.
	Scopes []string `json:"scopes,omitempty"`

	// How the upstream of the resource is told who is calling. Default: as the
	// site says.
	ForwardAssertion *Assertion `json:"forward_assertion,omitempty"`

	// What the gateway proves itself with at the upstream of the resource.
	// Default: as the site says.
	UpstreamCredential *Credential `json:"upstream_credential,omitempty"`
}

// Scope is a permission that a client can ask for.
type Scope struct {
	// The name of the scope (RFC 6749 section 3.3).
	Name string `json:"name"`

	// What the scope allows, in the words of the consent page.
	Description string `json:"description"`

	// An optional scope is not asked for by default: it is left out of
	// challenges and resource metadata, and users opt in to it.
	Optional bool `json:"optional,omitempty"`

	// The tools that the scope is for, compared byte by byte; a star stands for
	// any characters. As soon as one scope of a resource names tools or
	// methods, a tool that no scope names cannot be called there.
	Tools []string `json:"tools,omitempty"`

	// The JSON-RPC methods that the scope is needed for, with stars as above.
	// Default: methods that no scope names need a token and nothing else.
	Methods []string `json:"methods,omitempty"`

	// Narrower scopes that come with this one.
	Implies []string `json:"implies,omitempty"`

	// Show the tools of the scope also to those who do not have the scope but
	// could get it. Default: lists have only what the token is good for.
	Listed bool `json:"listed,omitempty"`

	// Who may have the scope. Default: everyone.
	Allow *Allow `json:"allow,omitempty"`
}

// Forward is a header that is set on requests to the upstream.
type Forward struct {
	// The name of the header.
	Header string `json:"header"`

	// Its value; placeholders such as {http.auth.user.id} are replaced. A
	// header whose value comes out empty is not sent.
	Value string `json:"value"`
}

// RateLimit allows a number of requests in a window of time.
type RateLimit struct {
	// The number of requests. 0 switches the limit off.
	Max int `json:"max"`

	// The window in which they count.
	Window caddy.Duration `json:"window"`
}

// UI is the look of the pages.
type UI struct {
	// The colour of buttons and links as #rgb or #rrggbb.
	Accent string `json:"accent,omitempty"`

	// An https address where users find help.
	HelpURL string `json:"help_url,omitempty"`
}
