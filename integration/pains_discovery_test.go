package integration

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// trailingSlashes accepts a resource with a slash too much, or in other spellings of the same address, and writes none itself.
func trailingSlashes(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	v := s.newVisitor(t)
	for _, spelled := range []string{"/mcp", "/mcp/", ""} {
		form := s.codeFor(t, v, id, url.Values{"resource": {s.origin + spelled}})
		tokens := s.postForm(t, "/token", with(form, "resource", s.origin+spelled))
		wantStatus(t, "a code for "+spelled, tokens, http.StatusOK)
		got := claims(t, tokens.field(t, "access_token"))
		if got.Audience != s.origin+"/mcp" || got.Issuer != s.origin {
			t.Errorf("asked for %s the token is for %v by %s", spelled, got.Audience, got.Issuer)
		}
	}
	shouting := strings.Replace(s.origin, "https://localhost", "HTTPS://LOCALHOST", 1)
	wantStatus(t, "in capitals", send(t, s.client, "GET", s.authorizeURL(id, url.Values{"resource": {shouting + "/mcp"}}), ""), http.StatusOK)
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"} {
		m := s.metadata(t, path)
		for _, address := range append(m.AuthorizationServers, m.Issuer, m.Resource, m.TokenEndpoint) {
			if strings.HasSuffix(address, "/") {
				t.Errorf("%s names %s", path, address)
			}
		}
	}
}

// wellKnownBelowAnyPath serves the metadata of resources at paths of their own in each of the forms in which clients ask.
func wellKnownBelowAnyPath(t *testing.T, s *ground) {
	const resource, server = "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"
	for _, path := range []string{"/reading/mcp", "/writing/mcp"} {
		for _, form := range []string{resource + path, path + resource} {
			if m := s.paths.metadata(t, form); m.Resource != s.paths.origin+path || len(m.AuthorizationServers) != 1 || m.AuthorizationServers[0] != s.paths.origin {
				t.Errorf("%s names %s and %q", form, m.Resource, m.AuthorizationServers)
			}
		}
		for _, form := range []string{server, server + path, path + server} {
			if m := s.paths.metadata(t, form); m.Issuer != s.paths.origin || m.TokenEndpoint != s.paths.origin+"/token" {
				t.Errorf("%s names %s and %s", form, m.Issuer, m.TokenEndpoint)
			}
		}
	}
	if m := s.paths.metadata(t, resource); m.Resource != s.paths.origin || len(m.AuthorizationServers) != 1 {
		t.Errorf("the root names %s and %q", m.Resource, m.AuthorizationServers)
	}
}

// everyRefusalHasChallenge wants 401 with a way to the metadata for whatever lacks a good token: anything else would keep
// clients from signing in.
func everyRefusalHasChallenge(t *testing.T, s *ground) {
	for _, path := range []string{"/mcp", "/mcp/", "/mcp/x/y", "/sse", "/messages", "/messages?sessionId=1", "/mcp?x=/.well-known/"} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "PUT"} {
			for _, authorization := range []string{"", "Bearer junk", "Bearer", "Basic eDp5", "Bearer " + strings.Repeat("a.b.c", 100), "Negotiate x"} {
				s.wantChallenge(t, s.gateway, method, path, authorization)
			}
		}
	}
	if n := len(s.rec.seen()); n > 0 {
		t.Errorf("%d of the requests have reached the upstream", n)
	}
}

// wantChallenge wants a request to be refused with 401 and a challenge that leads to the metadata.
func (s *ground) wantChallenge(t *testing.T, g *gateway, method, path, authorization string) {
	t.Helper()
	var headers []string
	if authorization != "" {
		headers = []string{"Authorization", authorization}
	}
	a := send(t, g.client, method, g.origin+path, "", headers...)
	wantStatus(t, method+" "+path, a, http.StatusUnauthorized)
	want := regexp.MustCompile(`^Bearer .*resource_metadata="` + regexp.QuoteMeta(g.origin) + `/\.well-known/oauth-protected-resource/`)
	if challenge := a.header.Get("WWW-Authenticate"); !want.MatchString(challenge) {
		t.Errorf("%s %s with %.10q: the challenge is %q", method, path, authorization, challenge)
	}
}

// probesForOpenIDConfiguration answers the guesses of ChatGPT and others in a way that they can read. There is no such
// document, since no identity tokens are issued.
func probesForOpenIDConfiguration(t *testing.T, s *ground) {
	const document = "/.well-known/openid-configuration"
	for _, path := range []string{document, document + "/mcp", "/mcp" + document, "/sse" + document, "/token" + document, "/authorize" + document, document + "/x/y"} {
		s.wantMiss(t, path)
	}
}

// missesAreJSON answers every other path below a well-known one alike.
func missesAreJSON(t *testing.T, s *ground) {
	for _, path := range []string{
		"/.well-known/", "/.well-known/mcp.json", "/.well-known/mcp/server-card.json", "/.well-known/oauth-protected-resource/nothing",
		"/.well-known/oauth-authorization-server/nothing", "/nothing/.well-known/oauth-protected-resource", "/mcp/.well-known/x", "/.well-known/jwks.json",
	} {
		s.wantMiss(t, path)
	}
	if n := len(s.rec.seen()); n > 0 {
		t.Errorf("%d of the probes have reached the upstream", n)
	}
}

// wantMiss wants a 404 that programs and pages of any origin can read.
func (s *ground) wantMiss(t *testing.T, path string) {
	t.Helper()
	a := send(t, s.client, "GET", s.origin+path, "", "Origin", "https://inspector.example")
	wantStatus(t, path, a, http.StatusNotFound)
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Access-Control-Allow-Origin") != "*" || a.field(t, "error") == "" {
		t.Errorf("%s answers %s, open to %q: %s", path, a.header.Get("Content-Type"), a.header.Get("Access-Control-Allow-Origin"), a.body)
	}
}

// preflightNeedsNoToken lets browsers ask first, and read what they have to.
func preflightNeedsNoToken(t *testing.T, s *ground) {
	for _, path := range []string{"/mcp", "/sse", "/messages", "/token", "/register", "/revoke", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"} {
		s.wantPreflight(t, path)
	}
	for what, a := range map[string]*answer{
		"a refusal": send(t, s.client, "POST", s.origin+"/mcp", toolsCall, "Origin", groundPage),
		"an answer": send(t, s.client, "POST", s.origin+"/mcp", toolsCall, "Origin", groundPage, "Authorization", "Bearer "+groundScript),
	} {
		exposed := a.header.Get("Access-Control-Expose-Headers")
		if !strings.Contains(exposed, "WWW-Authenticate") || !strings.Contains(exposed, "Mcp-Session-Id") || a.header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("of %s pages see %q, open to %q", what, exposed, a.header.Get("Access-Control-Allow-Origin"))
		}
	}
}

func (s *ground) wantPreflight(t *testing.T, path string) {
	t.Helper()
	a := send(t, s.client, "OPTIONS", s.origin+path, "", "Origin", groundPage, "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version")
	wantStatus(t, "the preflight of "+path, a, http.StatusNoContent)
	allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
	for _, name := range []string{"authorization", "content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "last-event-id"} {
		if !strings.Contains(allowed, name) {
			t.Errorf("the preflight of %s does not allow %s", path, name)
		}
	}
}

// forwardedHeadersSayNothing sends what a proxy would, from somebody who is none: no address that the gateway writes may
// come from it.
func forwardedHeadersSayNothing(t *testing.T, s *ground) {
	forged := []string{
		"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http", "X-Forwarded-Port", "80", "X-Forwarded-Prefix", "/evil",
		"Forwarded", "host=evil.example;proto=http", "X-Original-Host", "evil.example", "X-Forwarded-Server", "evil.example",
	}
	for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/"} {
		a := send(t, s.client, "GET", s.origin+path, "", append([]string{"Accept", "application/json"}, forged...)...)
		wantStatus(t, path, a, http.StatusOK)
		if strings.Contains(a.body, "evil") || strings.Contains(a.body, "http://") || !strings.Contains(a.body, s.origin) {
			t.Errorf("%s says %s", path, a.body)
		}
	}
	challenge := send(t, s.client, "POST", s.origin+"/mcp", "", forged...).header.Get("WWW-Authenticate")
	if !strings.Contains(challenge, `"`+s.origin+`/`) || strings.Contains(challenge, "evil") {
		t.Errorf("the challenge is %s", challenge)
	}
}

// pathAndWhatIsBelow protects a path and all below it: matchers like /mcp/* miss /mcp itself.
func pathAndWhatIsBelow(t *testing.T, s *ground) {
	for g, path := range map[*gateway]string{s.gateway: "/mcp", s.paths: "/writing/mcp"} {
		for _, target := range []string{path, path + "/", path + "/x", path + "?x"} {
			s.wantChallenge(t, g, "POST", target, "")
		}
	}
	for _, target := range []string{"/mcp", "/mcp/", "/mcp/x"} {
		wantStatus(t, target+" with a token", s.call(t, s.client, target, groundScript), http.StatusOK)
	}
	if n := len(s.writing.seen()); n > 0 {
		t.Errorf("%d requests without a token have reached the upstream", n)
	}
}
