package client

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Kind is how the server came to know a client.
type Kind int

// The kinds of clients.
const (
	Configured Kind = iota // by the operator's configuration
	Added                  // by a command of the operator
	Registered             // by dynamic registration (RFC 7591); its words about itself are unconfirmed
	Described              // by the metadata document at its id, which the host of that URL vouches for
)

// Client is a party that may ask for tokens (RFC 6749 section 2).
type Client struct {
	ID           string
	Kind         Kind
	Name         string
	RedirectURIs []string
	GrantTypes   []string
	AuthMethod   string       // token_endpoint_auth_method of a registration
	Scopes       oauth.Scopes // the most it can have; nil for all
	Issued       time.Time    // when it registered or was added; zero for others
	LastUsed     time.Time    // to about a day, of a client that registered or was added; zero for never
	Expires      time.Time    // when the registration lapses unless it is used; zero for never

	// Secret checks a client secret; nil for clients without one.
	Secret SecretChecker

	// The public keys of a client that authenticates with private_key_jwt, or
	// the https URL where they are. Other clients have neither.
	Keys    Keys
	JWKSURI string

	// Introspects are the audiences of the tokens that the client may ask about
	// (RFC 7662); nil for none. Only clients of the configuration have any.
	Introspects []string

	document *document // of a client that is described by one
}

// SecretChecker compares a presented secret with the one that a client has. Its
// duration tells nothing about the secret.
type SecretChecker interface {
	// Check reports whether the secret is right. An error says that the check
	// could not be made.
	Check(ctx context.Context, secret string) (bool, error)
}

// ByOperator reports whether whoever runs this server has made the client known,
// so that its words about itself are true.
func (c *Client) ByOperator() bool { return c.Kind == Configured || c.Kind == Added }

// Public reports whether the client has nothing to authenticate with (RFC 6749
// section 2.1).
func (c *Client) Public() bool { return c.Secret == nil && !c.Signs() }

// Signs reports whether the client authenticates with private_key_jwt.
func (c *Client) Signs() bool { return c.Keys != nil || c.JWKSURI != "" }

// Stranger reports whether the client has a metadata document and nobody has
// allowed it anything yet, as far as this node knows.
func (c *Client) Stranger() bool { return c.document != nil && c.document.kept.Load() == 0 }

// Allows reports whether the client may use the grant type. A refresh token is
// part of the grants in which people agree and needs no permission of its own.
func (c *Client) Allows(grantType string) bool {
	if grantType == oauth.GrantRefreshToken {
		return c.Allows(oauth.GrantAuthorizationCode) || c.Allows(oauth.GrantDeviceCode)
	}
	return slices.Contains(c.GrantTypes, grantType)
}

// Redirects reports whether answers to the client may go to the URI.
func (c *Client) Redirects(uri string) bool {
	return oauth.CheckRedirectURI(uri) == nil && slices.ContainsFunc(c.RedirectURIs, func(registered string) bool {
		return oauth.MatchRedirectURI(registered, uri)
	})
}

// Narrow limits scopes to what the client can have.
func (c *Client) Narrow(scopes oauth.Scopes) oauth.Scopes {
	if c.Scopes == nil {
		return scopes
	}
	return scopes.Narrow(c.Scopes)
}

// HostPolicy says for which redirect URIs clients may register themselves.
type HostPolicy struct {
	// Off refuses every registration.
	Off bool

	// Hosts, when not empty, are the only hosts that redirect URIs may name.
	// "localhost" stands for loopback. A private-use scheme is listed by its
	// name and a colon, such as "cursor:".
	Hosts []string
}

// Permits reports whether the policy lets a checked redirect URI through.
func (p HostPolicy) Permits(uri string) bool {
	return !p.Off && (len(p.Hosts) == 0 || p.Names(uri))
}

// Names reports whether the host of the URI is on the list.
func (p HostPolicy) Names(uri string) bool {
	if _, loopback := oauth.IsLoopbackRedirect(uri); loopback {
		return slices.Contains(p.Hosts, "localhost")
	}
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	if u.Scheme != "https" {
		return slices.Contains(p.Hosts, u.Scheme+":")
	}
	return slices.ContainsFunc(p.Hosts, func(host string) bool { return strings.EqualFold(host, u.Hostname()) })
}
