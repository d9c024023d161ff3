package integration

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// optionalScopesAreNotAdvertised keeps the scopes that need a person's own will out of what clients ask for by default:
// mcp-remote asks for all that the metadata of a resource lists, and never for more.
func optionalScopesAreNotAdvertised(t *testing.T, s *ground) {
	resource := s.metadata(t, "/.well-known/oauth-protected-resource/mcp")
	if !slices.Equal(resource.ScopesSupported, []string{"bugs:read"}) {
		t.Errorf("the resource lists the scopes %q", resource.ScopesSupported)
	}
	if challenge := s.call(t, s.client, "/mcp", "").header.Get("WWW-Authenticate"); !strings.Contains(challenge, `scope="bugs:read"`) {
		t.Errorf("the challenge is %s", challenge)
	}
	server := s.metadata(t, "/.well-known/oauth-authorization-server")
	if !slices.Contains(server.ScopesSupported, "cases:write") {
		t.Errorf("the server lists the scopes %q", server.ScopesSupported)
	}
}

// oneBearerChallenge reads challenges as the TypeScript SDK does, which splits the header at the first space and looks for
// parameters without an anchor.
func oneBearerChallenge(t *testing.T, s *ground) {
	whole := regexp.MustCompile(`^Bearer [a-z_]+="[^"\\]*"(, [a-z_]+="[^"\\]*")*$`)
	for what, a := range map[string]*answer{
		"no token":            s.call(t, s.client, "/mcp", ""),
		"a bad token":         s.call(t, s.client, "/mcp", "x"),
		"an empty token":      send(t, s.client, "POST", s.origin+"/sse", "", "Authorization", "Bearer "),
		"Basic":               send(t, s.client, "GET", s.origin+"/mcp", "", "Authorization", "Basic eDp5"),
		"a scope that lacks":  s.paths.call(t, s.paths.client, "/writing/mcp", groundReader),
		"quotes in the token": s.call(t, s.client, "/mcp", `"\" scope="admin`),
	} {
		values := a.header.Values("WWW-Authenticate")
		if len(values) != 1 || !whole.MatchString(values[0]) {
			t.Errorf("%s: the challenges are %q", what, values)
			continue
		}
		for _, name := range []string{"resource_metadata", "scope"} {
			if found := regexp.MustCompile(name+`="([^"]+)"`).FindAllString(values[0], -1); len(found) != 1 {
				t.Errorf("%s: a client that looks for %s finds %q", what, name, found)
			}
		}
	}
}

// resourceIsTheExactAddress compares as the Go SDK and VS Code do: the document that the challenge of an address leads to
// has to name that address byte by byte.
func resourceIsTheExactAddress(t *testing.T, s *ground) {
	for address, g := range map[string]*gateway{
		s.origin + "/mcp": s.gateway, s.origin + "/sse": s.gateway,
		s.paths.origin + "/reading/mcp": s.paths, s.paths.origin + "/writing/mcp": s.paths,
	} {
		path := strings.TrimPrefix(address, g.origin)
		challenge := g.call(t, g.client, path, "").header.Get("WWW-Authenticate")
		link := regexp.MustCompile(`resource_metadata="` + regexp.QuoteMeta(g.origin) + `([^"]+)"`).FindStringSubmatch(challenge)
		if link == nil {
			t.Errorf("the challenge of %s is %s", address, challenge)
			continue
		}
		if got := g.metadata(t, link[1]).Resource; got != address {
			t.Errorf("the metadata of %s names %s", address, got)
		}
	}
	for _, g := range []*gateway{s.gateway, s.paths} {
		if got := g.metadata(t, "/.well-known/oauth-protected-resource").Resource; got != g.origin {
			t.Errorf("the metadata of the origin %s names %s", g.origin, got)
		}
	}
}

// oneIssuerString wants the same bytes in every place that says who issues.
func oneIssuerString(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	verifier := strings.Repeat("v", 43)
	callback := s.newVisitor(t).authorize(s.origin + "/authorize?" + authorizeRequest(id, verifier).Encode())
	tokens := s.postForm(t, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "client_id": {id}, "code_verifier": {verifier},
	})
	for where, issuer := range map[string]string{
		"the metadata of the resource":   strings.Join(s.metadata(t, "/.well-known/oauth-protected-resource/mcp").AuthorizationServers, " "),
		"the metadata of the server":     s.metadata(t, "/.well-known/oauth-authorization-server").Issuer,
		"the metadata below a path":      s.metadata(t, "/.well-known/oauth-authorization-server/mcp").Issuer,
		"the answer to an authorization": callback.Get("iss"),
		"the access token":               claims(t, tokens.field(t, "access_token")).Issuer,
	} {
		if issuer != s.origin {
			t.Errorf("%s names the issuer %q, want %q", where, issuer, s.origin)
		}
	}
}

// issuerSentAndAdvertised sends iss with each answer of an authorization, and says so: clients fail where only one of the
// two is done.
func issuerSentAndAdvertised(t *testing.T, s *ground) {
	if !s.metadata(t, "/.well-known/oauth-authorization-server").IssParameter {
		t.Error("the metadata does not say that answers have iss")
	}
	id := s.registerAt(t, redirectURI)
	page := s.newVisitor(t).get(s.authorizeURL(id, nil)).signIn()
	for what, got := range map[string]url.Values{
		"consent": page.submit("allow", nil).callback(),
		"cancel":  s.newVisitor(t).get(s.authorizeURL(id, nil)).submit("deny", nil).callback(),
		"error":   s.newVisitor(t).get(s.authorizeURL(id, url.Values{"response_type": {"token"}})).callback(),
	} {
		if len(got["iss"]) != 1 || got.Get("iss") != s.origin {
			t.Errorf("after %s the client gets iss=%q", what, got["iss"])
		}
	}
}

// endpointsStayAtTheOrigin wants endpoints that every client accepts: https, at the origin that the client knows, and
// without redirects, which clients do not follow.
func endpointsStayAtTheOrigin(t *testing.T, s *ground) {
	m := s.metadata(t, "/.well-known/oauth-authorization-server")
	endpoints := []string{m.AuthorizationEndpoint, m.TokenEndpoint, m.RegistrationEndpoint, m.RevocationEndpoint}
	for _, endpoint := range endpoints {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Scheme+"://"+u.Host != s.origin {
			t.Errorf("an endpoint is at %s", endpoint)
		}
	}
	for _, address := range append(endpoints, s.origin+"/mcp", s.origin+"/mcp/", s.origin+"/sse", s.origin+"/messages",
		s.origin+"/.well-known/oauth-protected-resource", s.origin+"/.well-known/oauth-protected-resource/") {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			if a := send(t, s.client, method, address, ""); a.status >= 300 && a.status < 400 {
				t.Errorf("%s %s leads to %s", method, address, a.header.Get("Location"))
			}
		}
	}
}

// noPartialOpenIDConfiguration keeps the TypeScript SDK from a document that it would throw at: there is none.
func noPartialOpenIDConfiguration(t *testing.T, s *ground) {
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/openid-configuration/mcp", "/mcp/.well-known/openid-configuration"} {
		a := send(t, s.client, "GET", s.origin+path, "")
		wantStatus(t, path, a, http.StatusNotFound)
		if a.header.Get("Content-Type") != "application/json" || a.field(t, "issuer") != "" {
			t.Errorf("%s answers %s: %s", path, a.header.Get("Content-Type"), a.body)
		}
	}
}

// metadataAtRootAndAlias serves clients that look at the root, whatever the path of the server, and those that look below
// its path, with one document whose issuer and endpoints are at the origin.
func metadataAtRootAndAlias(t *testing.T, s *ground) {
	for g, paths := range map[*gateway][]string{s.gateway: {"/mcp", "/sse"}, s.paths: {"/reading/mcp", "/writing/mcp"}} {
		const wellKnown = "/.well-known/oauth-authorization-server"
		root := send(t, g.client, "GET", g.origin+wellKnown, "")
		if root.field(t, "issuer") != g.origin || root.field(t, "token_endpoint") != g.origin+"/token" {
			t.Errorf("the document at the root is %s", root.body)
		}
		for _, path := range paths {
			for _, alias := range []string{wellKnown + path, path + wellKnown} {
				if a := send(t, g.client, "GET", g.origin+alias, ""); a.status != http.StatusOK || a.body != root.body {
					t.Errorf("%s answers %d with another document: %s", alias, a.status, a.body)
				}
			}
		}
	}
}
