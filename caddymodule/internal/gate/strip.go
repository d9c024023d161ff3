package gate

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// alwaysStripped never reach the upstream: credentials, what other proxies say
// about the user or the connection, what was checked at the edge, and
// hop-by-hop headers, with which a client could otherwise make the proxy drop
// the headers that are set here.
var alwaysStripped = []string{
	"Authorization", "Proxy-Authorization", "X-Forwarded-Access-Token", "X-Access-Token", "X-Id-Token",
	"Forwarded", "X-Real-Ip", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url",
	"X-User", "X-Username", "X-User-Id", "X-User-Email", "X-Email", "X-Groups",
	"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest",
	"Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Http2-Settings", "Trailer",
}

// strippedFamilies are prefixes of headers that proxies use to tell an upstream
// who is calling. Whoever sends one through the front door is pretending. Of
// X-Mcp- only those are among them that name a caller: clients set others, such
// as X-MCP-Toolsets, to choose what a server does.
var strippedFamilies = []string{
	"X-Mcp-User", "X-Mcp-Sub", "X-Mcp-Email", "X-Mcp-Name", "X-Mcp-Group", "X-Mcp-Role", "X-Mcp-Scope", "X-Mcp-Client", "X-Mcp-Auth", "X-Mcp-Assertion",
	"X-Mcp-Identity", "X-Mcp-Account", "X-Mcp-Tenant", "X-Auth-", "X-Authenticated-", "X-Authentik-", "X-Remote-", "X-Webauth-", "X-Pomerium-", "Remote-", "Ssl-Client-", "X-Ssl-Client-",
	"X-Vouch-", "X-Consumer-", "X-Credential-", "X-Endpoint-Api-", "X-Userinfo", "X-Jwt-", "X-Iap-", "X-Token-", "X-Sub", "X-Roles",
	"X-Grafana-", "X-Spiffe-", "X-Client-", "X-Cluster-Client-", "X-Envoy-External-", "Client-Cert", "True-Client-", "Cf-Connecting-",
	"X-Forwarded-", "X-Goog-Authenticated-", "X-Amzn-Oidc-", "X-Ms-Client-Principal", "Cf-Access-", "Tailscale-User-",
}

// proxyHeaders are the members of the X-Forwarded- family that the proxy after us
// writes itself, as its trusted_proxies say. It does so under these very names
// only, so their other spellings go.
var proxyHeaders = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

func strippedHeaders(forwarded []string) map[string]struct{} {
	out := make(map[string]struct{}, len(alwaysStripped)+len(forwarded))
	for _, name := range alwaysStripped {
		out[name] = struct{}{}
	}
	for _, name := range forwarded {
		out[normalName(name)] = struct{}{}
	}
	return out
}

var aliases = strings.NewReplacer("_", "-", ".", "-")

// normalName is the form in which header names are compared: servers that turn
// names into variables treat "-", "_" and "." alike.
func normalName(name string) string {
	if strings.ContainsAny(name, "_.") {
		name = aliases.Replace(name)
	}
	return http.CanonicalHeaderKey(name)
}

// Strip takes from a request what the upstream must not see: credentials, our
// cookies, identity headers in any spelling, trailers and tokens in the query.
func (g *Gate) Strip(r *http.Request) {
	for name := range r.Header {
		if g.isStripped(name) {
			delete(r.Header, name)
		}
	}
	if len(r.Header["Cookie"]) > 0 {
		stripCookies(r.Header, g.cfg.Cookies)
	}
	stripTrailers(r)
	if r.URL.RawQuery != "" {
		r.URL.RawQuery = stripQuery(r.URL.RawQuery, g.cfg.QueryToken)
		r.RequestURI = r.URL.RequestURI() // which debug logs of the proxy print
	}
}

func (g *Gate) isStripped(name string) bool {
	if slices.Contains(proxyHeaders, name) {
		_, ok := g.stripped[name]
		return ok
	}
	asked := name
	name = normalName(name)
	if _, ok := g.stripped[name]; ok {
		return true
	}
	if name == sessionHeader {
		return asked != name // only that spelling has been checked
	}
	for _, family := range strippedFamilies {
		if strings.HasPrefix(name, family) {
			return true
		}
	}
	return false
}

// stripCookies removes our own cookies and keeps the others as they are.
func stripCookies(h http.Header, names []string) {
	var kept []string
	for _, line := range h["Cookie"] {
		var pairs []string
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.Trim(pair, " \t")
			name, _, _ := strings.Cut(pair, "=")
			if pair != "" && !slices.Contains(names, strings.TrimSpace(name)) {
				pairs = append(pairs, pair)
			}
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

// stripTrailers keeps trailers from becoming headers of the upstream request.
// The server fills r.Trailer when the body has been read, so for bodies that can
// have trailers it is emptied at that moment again: those of HTTP/1 that are
// chunked, and all of the later versions.
func stripTrailers(r *http.Request) {
	r.Trailer = nil
	if r.Body == nil || r.Body == http.NoBody || r.ProtoMajor < 2 && len(r.TransferEncoding) == 0 {
		return
	}
	r.Body = &trailerless{ReadCloser: r.Body, request: r}
}

type trailerless struct {
	io.ReadCloser
	request *http.Request
}

// Read drops the trailers that the server read together with the last bytes.
func (t *trailerless) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil {
		t.request.Trailer = nil
	}
	return n, err
}

// stripQuery removes the parameters that can hold a token and leaves the bytes of
// all others as they are.
func stripQuery(raw string, queryToken bool) string {
	if !strings.Contains(raw, "token") && !strings.Contains(raw, "%") {
		return raw
	}
	var kept []string
	for pair := range strings.SplitSeq(raw, "&") {
		if !tokenParameter(pair, queryToken) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

func tokenParameter(pair string, queryToken bool) bool {
	// Old servers also split at semicolons.
	for part := range strings.SplitSeq(pair, ";") {
		name, _, _ := strings.Cut(part, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if name == "access_token" || queryToken && name == "token" {
			return true
		}
	}
	return false
}
