package checkup

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

var metadataParameter = regexp.MustCompile(`resource_metadata="([^"\\]*)"`)

// challenge calls without a token, in the ways in which clients find out that
// they need one.
func (c *checkup) challenge(ctx context.Context) bool {
	const name = "401 challenge"
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		a, err := c.call(ctx, method, listTools, "", nil)
		if err != nil {
			return c.problem(name, "Is Caddy running, and does it serve this address?", "%v", err)
		}
		switch {
		case a.StatusCode >= 300 && a.StatusCode < 400:
			return c.problem(name, "Give clients the address "+a.Header.Get("Location")+".", "%s redirects, and clients do not follow", c.target)
		case a.StatusCode == http.StatusNotFound:
			return c.problem(name, "The usual paths are /mcp and /sse; other ones need a line: resource "+c.target.Path, "nothing is at %s", c.target.Path)
		case a.StatusCode == http.StatusOK:
			return c.problem(name, "Put mcp_auth in front of it, and take 'dangerously_omit_auth' away.", "everybody gets in without a token")
		case a.StatusCode != http.StatusUnauthorized:
			return c.problem(name, "A handler in front of mcp_auth may answer; clients only start to sign in at a 401.",
				"%s without a token answers %s", method, a.Status)
		}
		header := a.Header.Get("WWW-Authenticate")
		if !strings.HasPrefix(header, "Bearer ") {
			return c.problem(name, "A handler in front of mcp_auth may answer; clients need the challenge that mcp_auth sends.",
				"WWW-Authenticate is %q", header)
		}
		if found := metadataParameter.FindStringSubmatch(header); found != nil {
			c.metadata = found[1]
		}
	}
	if c.metadata == "" {
		c.warn(name, "", "it does not say where the metadata is; clients have to guess")
		c.metadata = origin(c.target) + oauth.WellKnownResource + c.target.Path
		return true
	}
	return c.good(name, "Bearer resource_metadata=%q", c.metadata)
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// protectedResource reads the metadata of RFC 9728.
func (c *checkup) protectedResource(ctx context.Context) bool {
	const name = "Resource"
	if err := c.document(ctx, c.metadata, &c.resource); err != nil {
		return c.problem(name, "", "%v", err)
	}
	if c.resource.Resource != c.target.String() {
		// Some clients compare byte by byte (RFC 9728 section 3.3).
		return c.problem(name, "Give clients the address "+c.resource.Resource+", or correct 'issuer' and the site's address in the Caddyfile.",
			"the metadata is for %s, and clients compare it with the address that they were given", c.resource.Resource)
	}
	return c.good(name, "resource matches the address you gave")
}

// issuer reads the metadata of RFC 8414 of the first authorization server.
func (c *checkup) issuer(ctx context.Context) bool {
	const name = "Issuer"
	if len(c.resource.AuthorizationServers) == 0 {
		c.report(Finding{Name: name, Level: Skipped, Text: "static tokens only: clients need a header with one"})
		return true
	}
	issuer := c.resource.AuthorizationServers[0]
	u, err := url.Parse(issuer)
	if err != nil {
		return c.problem(name, "", "the metadata names %q", issuer)
	}
	if err := c.serverMetadata(ctx, u); err != nil {
		return c.problem(name, "", "%v", err)
	}
	switch m := &c.server; {
	case m.Issuer != issuer:
		return c.problem(name, "Write both the same way, without a slash at the end.", "it calls itself %s, and the resource calls it %s", m.Issuer, issuer)
	case !slices.Contains(m.CodeChallengeMethodsSupported, oauth.ChallengeS256):
		return c.problem(name, "Switch PKCE with S256 on at the authorization server.", "%s does not offer PKCE with S256, which clients demand", issuer)
	case m.TokenEndpoint == "":
		return c.problem(name, "", "%s names no token endpoint", issuer)
	case !m.AuthorizationResponseIssParameterSupported:
		c.warn(name, "", "%s, S256; without the iss parameter clients cannot tell answers of several servers apart", issuer)
		return true
	}
	return c.good(name, "%s, S256, iss parameter", issuer)
}

// serverMetadata tries the places of RFC 8414 and OpenID Connect Discovery.
func (c *checkup) serverMetadata(ctx context.Context, issuer *url.URL) error {
	path := strings.TrimSuffix(issuer.Path, "/")
	first := c.document(ctx, origin(issuer)+oauth.WellKnownServer+path, &c.server)
	if first == nil {
		return nil
	}
	for _, place := range []string{"/.well-known/openid-configuration" + path, path + "/.well-known/openid-configuration"} {
		if c.document(ctx, origin(issuer)+place, &c.server) == nil {
			return nil
		}
	}
	return first
}

// registration tells how clients become known.
func (c *checkup) registration(ctx context.Context) bool {
	const name = "Registration"
	if c.server.Issuer == "" {
		return true // static tokens only
	}
	var ways []string
	if c.server.ClientIDMetadataDocumentSupported {
		ways = append(ways, "client documents (Claude, VS Code)")
	}
	if c.server.RegistrationEndpoint != "" {
		ways = append(ways, "dynamic (Cursor, others)")
	}
	if len(ways) == 0 {
		c.warn(name, "Write: registration { dynamic on }; or give each client the id of a 'client' block.", "clients have to be known beforehand")
		return true
	}
	if c.opts.Register && c.server.RegistrationEndpoint != "" {
		if err := c.register(ctx); err != nil {
			return c.problem(name, "The log of the gateway says why.", "%v", err)
		}
		ways = append(ways, "tried")
	}
	return c.good(name, "%s", strings.Join(ways, ", "))
}

// register makes a client that never signs in, which the server forgets.
func (c *checkup) register(ctx context.Context) error {
	const body = `{"client_name":"mcp-auth check","redirect_uris":["http://127.0.0.1/callback"],"token_endpoint_auth_method":"none",` +
		`"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`
	a, err := c.send(ctx, http.MethodPost, c.server.RegistrationEndpoint, body, map[string]string{"Content-Type": "application/json"})
	if err != nil {
		return err
	}
	if a.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s answers %s: %.300s", c.server.RegistrationEndpoint, a.Status, a.body)
	}
	return nil
}
