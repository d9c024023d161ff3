package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Config of a gate.
type Config struct {
	// Resources of the site, the default first. There is at least one.
	Resources []*oauth.Resource

	// Issuers are the authorization servers that metadata names; none when
	// requests prove themselves with static tokens only.
	Issuers []string

	// Verifier checks access tokens; nil without an authorization server.
	Verifier Verifier

	// AnyScope lets tokens pass whatever their scopes are. It is for tokens of
	// other authorization servers, as long as nobody has said which scopes there
	// are.
	AnyScope bool

	// Policy is what the scopes say about requests and callers; nil when they say
	// nothing.
	Policy *policy.Scopes

	// ClientScopes returns the most that a client can have, or nil for all. It is
	// asked when a token lacks a scope; nil where no tokens are issued.
	ClientScopes func(ctx context.Context, clientID string) oauth.Scopes

	// StepUp is told which scopes a client is about to ask for, as its token
	// lacks them; nil where no tokens are issued.
	StepUp func(ctx context.Context, grantID string, needed oauth.Scopes)

	// Static are the static bearer tokens.
	Static []StaticToken

	// APITokens are the bearer tokens that are made by command; nil to refuse
	// them.
	APITokens APITokens

	// QueryToken accepts a static token in the query parameter "token".
	QueryToken bool

	// Omit lets every request through. It is for development.
	Omit bool

	// ResourcesOnly answers 404 to what no resource covers. Otherwise such
	// paths belong to the first resource.
	ResourcesOnly bool

	// CORSOrigins may read answers from browsers; AllowOrigins may send an
	// Origin header without that.
	CORSOrigins, AllowOrigins []string

	// Limit is how many requests a user may make with a client, or with a static
	// token; nil for any number.
	Limit *limit.Limit

	// Streams are the open event streams of the issuer; nil to let them be.
	Streams *Streams

	// StreamKeepAlive is how long an event stream may be idle before a comment is
	// written into it; 0 for any time.
	StreamKeepAlive time.Duration

	// Sessions are the sessions of MCP servers; nil to let everyone use them who
	// knows their ids.
	Sessions *mcpsession.Sessions

	// Cookies are the names of the authorization server's cookies. They stay
	// between it and the browser: the upstream neither gets nor sets them.
	Cookies []string

	// ForwardHeaders are the headers that tell the upstream who is calling.
	ForwardHeaders []string

	// Metrics count what comes out of checks; nil for nobody.
	Metrics *metrics.Metrics
}

// Verifier checks access tokens: those of this server (token.Verifier) or of
// others. Its claims are shared between requests, and its errors are those of
// package token.
type Verifier interface {
	// VerifyFor returns the claims of a token that is good for a resource that
	// goes by the audiences.
	VerifyFor(ctx context.Context, raw string, audiences []string) (*token.Claims, error)

	// Revoked reports whether a token that was good has been revoked since.
	Revoked(c *token.Claims) bool
}

// APITokens knows the bearer tokens that an operator makes by command
// (apitoken.View). It is asked in each request and uses nothing but memory.
type APITokens interface {
	// Find returns the claims of a token. They are shared between requests.
	Find(presented string) (*token.Claims, bool)

	// Revoked reports whether the grant id in claims is that of a token which
	// is no more.
	Revoked(id string) bool
}

// Gate checks the requests of one site. It is safe for concurrent use.
type Gate struct {
	cfg       Config
	resources []*guarded // the longest path first
	fallback  *guarded   // what no resource covers belongs to it; nil for nothing
	cors      map[string]struct{}
	origins   map[string]struct{}
	stripped  map[string]struct{}
	documents map[string][]byte
}

// guarded is a resource with what checking it needs, made once.
type guarded struct {
	*oauth.Resource
	audiences []string // of the tokens that are good for it
	missing   string   // the challenge without credentials
	invalid   string   // the challenge for a bad token
	scope     string   // that challenges name
	own       policy.Set
	rules     *policy.Rules    // nil where a token is enough
	below     []oauth.Resource // those within its path, with their paths folded
}

// New returns a gate.
func New(cfg Config) *Gate {
	g := &Gate{
		cfg: cfg, cors: map[string]struct{}{}, origins: map[string]struct{}{},
		stripped: strippedHeaders(cfg.ForwardHeaders), documents: map[string][]byte{},
	}
	for _, r := range cfg.Resources {
		g.resources = append(g.resources, newGuarded(r, cfg))
		g.origins[normalOrigin(r.Origin)] = struct{}{}
	}
	if !cfg.ResourcesOnly {
		g.fallback = g.resources[0]
	}
	slices.SortStableFunc(g.resources, func(a, b *guarded) int { return cmp.Compare(len(b.Path), len(a.Path)) })
	for _, origin := range cfg.CORSOrigins {
		g.cors[normalOrigin(origin)] = struct{}{}
		g.origins[normalOrigin(origin)] = struct{}{}
	}
	for _, origin := range cfg.AllowOrigins {
		g.origins[normalOrigin(origin)] = struct{}{}
	}
	g.buildDocuments()
	return g
}

func newGuarded(r *oauth.Resource, cfg Config) *guarded {
	out := &guarded{Resource: r}
	for _, other := range cfg.Resources {
		if other.Group == r.Group {
			out.audiences = append(out.audiences, other.URL())
		}
		if other.Path != r.Path && r.Covers(other.Path) {
			out.below = append(out.below, oauth.Resource{Path: foldedPath(other.Path)})
		}
	}
	if len(cfg.Issuers) > 0 {
		out.scope = r.Baseline.String()
	}
	if cfg.Policy != nil {
		out.own, out.rules = cfg.Policy.Of(r.Scopes), cfg.Policy.Rules(r.Scopes)
	}
	out.missing = oauth.Challenge{ResourceMetadata: r.MetadataURL(), Scope: out.scope}.String()
	out.invalid = oauth.Challenge{
		Error: "invalid_token", ErrorDescription: "the token is malformed, expired, revoked or for another server",
		ResourceMetadata: r.MetadataURL(), Scope: out.scope,
	}.String()
	return out
}

// forbidden is the challenge for a token that lacks scopes. It names what the
// token has as well, because clients ask for just the scopes of the challenge and
// would lose the others.
func (r *guarded) forbidden(granted, needed oauth.Scopes, why string) string {
	return oauth.Challenge{
		Error: "insufficient_scope", ErrorDescription: why,
		ResourceMetadata: r.MetadataURL(), Scope: oauth.ParseScope(granted.String() + " " + needed.String()).String(),
	}.String()
}

// buildDocuments makes the metadata of RFC 9728 for every resource and for the
// origin, at the paths where clients look for them: inserted (section 3.1) and
// appended.
func (g *Gate) buildDocuments() {
	first := *g.cfg.Resources[0]
	first.Path = ""
	g.documents[oauth.WellKnownResource] = g.document(&first)
	for _, r := range g.cfg.Resources {
		if r.Path == "" {
			continue
		}
		doc := g.document(r)
		g.documents[oauth.WellKnownResource+r.Path] = doc
		g.documents[r.Path+oauth.WellKnownResource] = doc
	}
}

func (g *Gate) document(r *oauth.Resource) []byte {
	m := oauth.ProtectedResourceMetadata{
		Resource: r.URL(), BearerMethodsSupported: []string{"header"}, ResourceName: r.Name,
	}
	if len(g.cfg.Issuers) > 0 {
		m.AuthorizationServers = g.cfg.Issuers
		m.ScopesSupported = r.Baseline
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and slices of them always marshal
	}
	return data
}

// Metadata answers requests for protected resource metadata, and reports whether
// the path was one of a well-known document: no such path ever reaches the
// upstream.
func (g *Gate) Metadata(w http.ResponseWriter, r *http.Request, path string) bool {
	if !strings.Contains(path, "/.well-known/") && !strings.HasSuffix(path, "/.well-known") {
		return false
	}
	respond.CloseUnread(w, r)
	doc, ok := g.documents[path]
	switch {
	case r.Method == http.MethodOptions:
		respond.Preflight(w, r, "*")
	case !ok:
		respond.NotFound(w)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		respond.CORS(w, "*")
		w.Header().Set("Cache-Control", "public, max-age=300")
		respond.Raw(w, http.StatusOK, doc)
	default:
		respond.CORS(w, "*")
		respond.MethodNotAllowed(w, http.MethodGet, http.MethodOptions)
	}
	return true
}

// resource returns what covers a path, or nil.
func (g *Gate) resource(path string) *guarded {
	for _, r := range g.resources {
		if !r.Covers(path) {
			continue
		}
		if r.leadsBelow(path) {
			return nil
		}
		return r
	}
	return g.fallback
}

// leadsBelow reports whether a path belongs to a resource within this one for those
// who do not tell cases apart, as the matchers of Caddy and many upstreams.
func (r *guarded) leadsBelow(path string) bool {
	if len(r.below) == 0 {
		return false
	}
	path = foldedPath(path)
	return slices.ContainsFunc(r.below, func(inner oauth.Resource) bool { return inner.Covers(path) })
}

// foldedPath is the same for all cases of a path. A letter such as U+017F needs both
// ways to become the s that it is for others.
func foldedPath(path string) string { return strings.ToLower(strings.ToUpper(path)) }

// normalOrigin is the form in which origins are compared.
func normalOrigin(origin string) string { return strings.ToLower(strings.TrimSuffix(origin, "/")) }

// originAllowed checks the Origin header (MCP transports, security warning):
// when there is one, it must be the site's own or one of the configuration.
func (g *Gate) originAllowed(h http.Header) bool {
	values := h["Origin"]
	if len(values) == 0 {
		return true
	}
	_, ok := g.origins[normalOrigin(values[0])]
	return ok && len(values) == 1
}

// corsOrigin is the origin that may read the answer, or "".
func (g *Gate) corsOrigin(h http.Header) string {
	origin := h.Get("Origin")
	if origin == "" {
		return ""
	}
	if _, ok := g.cors[normalOrigin(origin)]; !ok {
		return ""
	}
	return origin
}

// AmbiguousPath reports whether servers could disagree about what a path means:
// encoded or doubled separators, dot segments, path parameters, backslashes or
// control characters. It takes the decoded path and the URL it came from.
func AmbiguousPath(u *url.URL) bool {
	path := u.Path
	if path == "" || path[0] != '/' {
		return true
	}
	for i := range len(path) {
		c := path[i]
		switch {
		case c < ' ', c == 0x7f, c == '\\', c == ';':
			return true
		case c == '/' && i+1 < len(path) && (path[i+1] == '/' || dotSegment(path[i+1:])):
			return true
		}
	}
	return u.RawPath != "" && hasEncodedSeparator(u.RawPath) || strings.Contains(path, "%")
}

// dotSegment reports whether s starts with a segment "." or "..".
func dotSegment(s string) bool {
	segment, _, _ := strings.Cut(s, "/")
	return segment == "." || segment == ".."
}

func hasEncodedSeparator(raw string) bool {
	for i := 0; i+2 < len(raw); i++ {
		if raw[i] != '%' {
			continue
		}
		switch strings.ToLower(raw[i+1 : i+3]) {
		case "2f", "5c", "2e", "00", "25", "3b":
			return true
		}
	}
	return false
}
