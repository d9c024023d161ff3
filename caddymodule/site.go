package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// site is a handler ready to serve.
type site struct {
	handler *Handler
	options Options // merged with those of the app
	origin  string  // public, without a trailing slash
	host    string  // of the origin, without the port
	anyHost bool    // the web server sends it requests for any host

	oauth, static bool // which tokens are good
	omit          bool

	issuer    *issuerState
	resources []*oauth.Resource
	scopes    []authserver.Scope
	tokens    []gate.StaticToken
	initial   []gate.StaticToken // tokens that let service accounts register
	generated string             // the token that was made because none is configured

	gate    *gate.Gate
	auth    *authserver.Server // nil when another site is the issuer's
	forward []Forward
}

// issuerURL is the issuer identifier of the site.
func (s *site) issuerURL() string { return strings.TrimSuffix(cmp.Or(s.options.Issuer, s.origin), "/") }

// hostAllowed keeps requests out that were made for another name, such as those
// of a page whose name was made to point here (DNS rebinding). Where the web
// server chooses sites by host it has done so already. Trusted proxies may use a
// name of their own, and so may health checks.
func (s *site) hostAllowed(r *http.Request, path string) bool {
	if !s.anyHost || path == "/health" || fromTrustedProxy(r) {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.EqualFold(strings.Trim(host, "[]"), s.host)
}

// builder makes the sites of a configuration.
type builder struct {
	app    *App
	web    *caddyhttp.App
	sites  []*site
	groups int
}

func (b *builder) build() (map[*Handler]*site, error) {
	out := map[*Handler]*site{}
	for _, h := range b.app.handlers {
		s, err := b.newSite(h)
		if err != nil {
			return nil, err
		}
		b.sites = append(b.sites, s)
		out[h] = s
	}
	for _, s := range b.sites {
		if err := b.finish(s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.origin, err)
		}
	}
	for _, s := range b.sites {
		s.announce(b.app.log)
	}
	return out, nil
}

// newSite decides what can be decided about a site without the others.
func (b *builder) newSite(h *Handler) (*site, error) {
	s := &site{handler: h, options: h.Options.merge(b.app.Options)}
	places := findPlaces(b.web, h)
	if len(places) == 0 {
		return nil, errors.New("mcp_auth stands in a route that cannot be found; use it directly in a site, or in handle or route blocks")
	}
	origin, err := publicOrigin(places, s.options.Issuer)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	hosts, _ := siteHosts(places)
	s.origin, s.host, s.anyHost = strings.TrimSuffix(origin, "/"), u.Hostname(), len(hosts) == 0
	s.options.Name = cmp.Or(s.options.Name, s.host)
	if err := s.decideOmit(places); err != nil {
		return nil, fmt.Errorf("%s: %w", s.origin, err)
	}
	if err := s.decideAuthType(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.origin, err)
	}
	b.addResources(s)
	return s, nil
}

// decideOmit checks that authentication is left out on loopback only.
func (s *site) decideOmit(places []place) error {
	switch s.options.DangerouslyOmitAuth {
	case "false":
		return nil
	case "true":
		if slices.ContainsFunc(places, func(p place) bool { return !p.loopback }) {
			return errors.New("dangerously_omit_auth opens this server to everyone who can reach it. " +
				"Listen on loopback only by adding the line: bind 127.0.0.1; or, if everyone shall have access: dangerously_omit_auth anywhere")
		}
	}
	s.omit = true
	return nil
}

// decideAuthType finds out which tokens the site accepts.
func (s *site) decideAuthType() error {
	people := len(s.options.Users) > 0
	machines := slices.ContainsFunc(s.options.Clients, func(c Client) bool { return c.Secret != "" }) ||
		s.options.Registration.ServiceAccounts == "open"
	// Somebody else's site can sign people in for this one.
	elsewhere := s.issuerURL() != s.origin
	switch s.options.AuthType {
	case "bearer":
		s.static = true
	case "oauth2.1":
		s.oauth = true
	case "both":
		s.oauth, s.static = true, true
	default:
		s.oauth = people || machines || elsewhere
		s.static = len(s.options.BearerTokens) > 0 || !s.oauth
	}
	if s.oauth && !people && !machines && !elsewhere {
		return fmt.Errorf("auth_type %s needs somebody who can sign in. Add a line with a hash of 'caddy hash-password', "+
			"for example: user alice $2a$14$…", s.options.AuthType)
	}
	return nil
}

// addResources makes the resources of a site.
func (b *builder) addResources(s *site) {
	for _, sc := range s.options.Scopes {
		s.scopes = append(s.scopes, authserver.Scope{Name: sc.Name, Description: sc.Description, Optional: sc.Optional})
	}
	if len(s.scopes) == 0 {
		s.scopes = []authserver.Scope{{Name: "mcp"}}
	}
	if len(s.options.Resources) > 0 {
		for _, r := range s.options.Resources {
			b.groups++
			s.addResource(r.Path, cmp.Or(r.Name, s.options.Name), r.Scopes, b.groups)
		}
		return
	}
	b.groups++
	for _, path := range []string{"/mcp", "/sse", "/messages"} {
		s.addResource(path, s.options.Name, nil, b.groups)
	}
}

func (s *site) addResource(path, name string, names oauth.Scopes, group int) {
	r := &oauth.Resource{Origin: s.origin, Path: path, Name: name, Group: group}
	for _, sc := range s.scopes {
		if len(names) > 0 && !names.Has(sc.Name) {
			continue
		}
		r.Scopes = append(r.Scopes, sc.Name)
		if !sc.Optional {
			r.Baseline = append(r.Baseline, sc.Name)
		}
	}
	s.resources = append(s.resources, r)
}

// finish makes the gate of a site, and its authorization server if it is the
// issuer's own site.
func (b *builder) finish(s *site) error {
	st, err := b.app.state(cmp.Or(s.handler.store, b.app.store))
	if err != nil {
		return err
	}
	if s.issuer, err = st.issuer(s.issuerURL()); err != nil {
		return err
	}
	s.makeTokens()
	cfg := gate.Config{
		Resources: s.resources, Static: s.tokens, QueryToken: isSet(s.options.AllowQueryToken), Omit: s.omit,
		ResourcesOnly: s.handler.ResourcesOnly || len(s.options.Resources) > 0,
		CORSOrigins:   s.options.CORSOrigins, AllowOrigins: s.options.AllowOrigins,
	}
	for _, f := range s.options.Forward {
		f.Header = http.CanonicalHeaderKey(f.Header)
		s.forward = append(s.forward, f)
		cfg.ForwardHeaders = append(cfg.ForwardHeaders, f.Header)
	}
	if s.oauth {
		cfg.Issuer, cfg.Verifier = s.issuerURL(), s.issuer.verifier
	}
	s.gate = gate.New(cfg)
	if s.issuerURL() != s.origin || slices.ContainsFunc(b.sites, func(other *site) bool { return other != s && other.auth != nil && other.origin == s.origin }) {
		return nil
	}
	s.auth, err = b.newServer(s)
	return err
}

// newServer makes the authorization server of an issuer out of the options of
// its own site and of the resources of all sites that name it.
func (b *builder) newServer(s *site) (*authserver.Server, error) {
	o := s.options
	cfg := authserver.Config{
		Issuer: s.issuerURL(), Name: o.Name,
		AccessLifetime: time.Duration(o.AccessTokenLifetime), RefreshLifetime: time.Duration(o.RefreshTokenLifetime),
		RefreshGrace: time.Duration(o.RefreshTokenGrace), CodeLifetime: time.Duration(o.CodeLifetime),
		SessionLifetime: time.Duration(o.SessionLifetime), ClientLifetime: time.Duration(o.Registration.ExpireAfter),
		LoginMax: o.RateLimits["login"].Max, LoginWindow: time.Duration(o.RateLimits["login"].Window),
		Clients: configuredClients(o.Clients), Registration: registrationPolicy(o.Registration),
		OpenServiceAccounts: o.Registration.ServiceAccounts == "open",
		InitialAccessToken:  s.isStatic,
		PKCEPlain:           isSet(o.PKCEPlain), Static: s.static, SignIn: s.oauth && len(o.Users) > 0,
		OAuth:       s.oauth,
		LandingPage: o.LandingPage == nil || *o.LandingPage,
		Accent:      o.UI.Accent, HelpURL: o.UI.HelpURL,
		ClientIP: clientIP, Log: s.handler.log,
	}
	if len(o.Users) > 0 {
		cfg.Password = newLocalUsers(o.Users)
	}
	cfg.Resources, cfg.Scopes = b.sharedResources(s)
	return authserver.New(cfg, s.issuer.State, s.issuer.verifier)
}

// sharedResources are the resources and scopes of all sites of an issuer. A site
// that protects something comes before one that only issues tokens, because the
// first resource is the one that clients get when they name none.
func (b *builder) sharedResources(issuer *site) ([]*oauth.Resource, []authserver.Scope) {
	var members []*site
	for _, s := range b.sites {
		if s.issuerURL() == issuer.issuerURL() {
			members = append(members, s)
		}
	}
	slices.SortStableFunc(members, func(a, b *site) int { return cmp.Compare(a.rank(issuer), b.rank(issuer)) })
	var resources []*oauth.Resource
	var scopes []authserver.Scope
	for _, s := range members {
		resources = append(resources, s.resources...)
		for _, sc := range s.scopes {
			if !slices.ContainsFunc(scopes, func(known authserver.Scope) bool { return known.Name == sc.Name }) {
				scopes = append(scopes, sc)
			}
		}
	}
	return resources, scopes
}

// rank orders the sites of an issuer: its own site first, unless that has nothing
// behind it that the configuration tells of.
func (s *site) rank(issuer *site) int {
	protects := s.handler.ResourcesOnly || len(s.options.Resources) > 0
	switch {
	case s == issuer && protects:
		return 0
	case protects:
		return 1
	}
	return 2
}

// announce says at the start what an operator has to know.
func (s *site) announce(log *zap.Logger) {
	log = log.With(zap.String("site", s.origin))
	if s.omit {
		log.Warn("authentication is switched off: everyone who reaches this site can use the MCP server")
	}
	if isSet(s.options.PKCEPlain) {
		log.Warn("pkce_plain is on: authorization codes of clients that use it are not protected")
	}
	if isSet(s.options.AllowQueryToken) {
		log.Warn("allow_query_token is on: tokens in addresses end up in logs and browser histories")
	}
	if s.options.Registration.ServiceAccounts == "open" && s.oauth {
		log.Warn("service_accounts open: everyone who reaches this site can register a client and use the MCP server")
	}
	if s.generated != "" {
		s.announceToken(log)
	}
}
