package caddymodule

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// builder makes the sites of a configuration.
type builder struct {
	app    *App
	web    *caddyhttp.App
	sites  []*site // as the configuration has them
	groups int     // of resources, so far

	// fingerprints of the encryption keys, by the identity of the store
	fingerprints map[string]string
}

// build makes the sites and gives each to its handler. Everything that can be
// refused is refused before the first store is opened.
func (b *builder) build() error {
	if err := b.addSites(); err != nil {
		return err
	}
	steps := []func(*site) error{
		(*site).decideOmit, (*site).decideAuthType, b.addResources, b.check, b.open, b.makeServer,
	}
	for _, step := range steps {
		for _, s := range b.sites {
			if err := step(s); err != nil {
				return fmt.Errorf("%s: %w", s.origin, err)
			}
		}
	}
	for _, s := range b.sites {
		s.announce(b.app.log)
		s.handler.site = s
	}
	return nil
}

// addSites finds out where the handlers are, and which of them issue tokens.
func (b *builder) addSites() error {
	places := findPlaces(b.web)
	for _, h := range b.app.handlers {
		if len(places[h]) == 0 {
			return errNoPlace
		}
		b.sites = append(b.sites, &site{handler: h, options: h.options.merge(b.app.options), places: places[h], logins: h.loginModules()})
	}
	// The web server makes its handlers in the order of a map.
	slices.SortFunc(b.sites, func(a, b *site) int { return cmp.Compare(a.places[0].order, b.places[0].order) })
	for _, s := range b.sites {
		if err := b.locate(s); err != nil {
			return err
		}
	}
	for _, s := range b.sites {
		s.detach()
		if s.external() {
			continue
		}
		if i := slices.IndexFunc(b.sites, func(other *site) bool { return !other.external() && other.origin == s.issuerURL() }); i >= 0 {
			s.home = b.sites[i]
		}
	}
	return nil
}

// locate finds the public origin of a site.
func (b *builder) locate(s *site) error {
	origin, err := publicOrigin(s.places, s.options.Issuer, func(origin string) bool {
		return slices.ContainsFunc(b.sites, func(other *site) bool { return other != s && slices.Contains(origins(other.places), origin) })
	})
	if err != nil {
		return err
	}
	u, err := url.Parse(origin)
	if err != nil {
		return err
	}
	s.origin, s.host = strings.TrimSuffix(origin, "/"), u.Hostname()
	s.anyHost = slices.ContainsFunc(s.places, func(p place) bool {
		return len(p.hosts) == 0 || slices.ContainsFunc(p.hosts, standsForMany)
	})
	s.options.Name = cmp.Or(s.options.Name, s.host)
	return nil
}

// addResources makes the resources of a site.
func (b *builder) addResources(s *site) error {
	if err := s.addScopes(); err != nil {
		return err
	}
	for _, r := range s.options.Resources {
		b.groups++
		s.addResource(r.Path, cmp.Or(r.Name, s.options.Name), r.Scopes, b.groups)
	}
	if len(s.resources) > 0 {
		return nil
	}
	b.groups++
	for _, path := range []string{"/mcp", "/sse", "/messages"} {
		s.addResource(path, s.options.Name, nil, b.groups)
	}
	s.resources[2].KnownAs = "/sse"
	return nil
}

// open opens the store of a site's issuer, which says which tokens are good.
func (b *builder) open(s *site) error {
	home := cmp.Or(s.home, s)
	st, module, err := b.app.state(home.storeModule(b.app))
	if err != nil {
		return err
	}
	s.audit, s.auditsCalls = b.app.auditOf(s.issuerURL()), isSet(s.options.Audit.ToolCalls)
	st.operatorGrace.Store(b.web.GracePeriod > 0)
	s.issuer, err = st.issuer(s.issuerURL(), token.KeysConfig{
		Box: boxOf(module), RotateAfter: time.Duration(home.options.SigningKeyLifetime),
		TokenLifetime: time.Duration(home.options.AccessTokenLifetime),
	})
	if err != nil {
		return err
	}
	s.makeTokens()
	s.makeGate(st)
	return nil
}

// storeModule describes the store of a site; nil for the default one.
func (s *site) storeModule(a *App) StoreModule { return cmp.Or(s.handler.store, a.store) }

// makeServer makes what answers the public endpoints of a site. Handlers at the
// origin of the issuer share one authorization server, whichever of them a
// request gets to; elsewhere there are the landing page and the health check.
func (b *builder) makeServer(s *site) error {
	if s.home != nil && s.home.origin == s.origin {
		if s.home.auth == nil {
			var err error
			if s.home.auth, err = b.newServer(s.home); err != nil {
				return err
			}
		}
		s.auth = s.home.auth
		return nil
	}
	cfg := s.serverConfig()
	cfg.Issuer, cfg.Resources = s.origin, s.resources
	cfg.PublishKeys = s.home == nil && s.asserts()
	var err error
	s.auth, err = authserver.New(cfg, s.issuer.State, s.issuer.verifier)
	return err
}

// newServer makes the authorization server of an issuer out of the options of
// its home and of the resources of all sites that name it.
func (b *builder) newServer(s *site) (*authserver.Server, error) {
	cfg := s.serverConfig()
	cfg.OAuth = s.oauth
	cfg.PublishKeys = slices.ContainsFunc(b.sites, func(other *site) bool { return other.home == s && other.asserts() })
	cfg.Clients = configuredClients(s.options.Clients)
	cfg.Registration, cfg.ProtectedRegistration = registrationPolicy(s.options.Registration)
	cfg.Documents = documentPolicy(s.options.Registration)
	cfg.AlwaysAsk = s.options.RememberConsent != nil && !*s.options.RememberConsent
	cfg.DeviceAuthorization = isSet(s.options.DeviceAuthorization)
	cfg.RequireFactor = s.options.SecondFactor == requiredFactor
	cfg.OpenServiceAccounts = s.options.Registration.ServiceAccounts == "open"
	cfg.InitialAccess = s.initialAccess
	if len(s.options.Users) > 0 {
		cfg.Password = newLocalUsers(s.options.Users)
		b.app.metrics.ExpectLogins(localProvider)
	}
	if err := b.addLogins(s, &cfg); err != nil {
		return nil, err
	}
	cfg.Resources, cfg.Scopes = b.sharedResources(s)
	for i, c := range s.options.Clients {
		cfg.Clients[i].Introspects = c.introspects(s.issuerURL(), cfg.Resources)
	}
	return authserver.New(cfg, s.issuer.State, s.issuer.verifier)
}

// serverConfig is what all kinds of servers of a site have in common.
func (s *site) serverConfig() authserver.Config {
	o := s.options
	return authserver.Config{
		Issuer: s.issuerURL(), Name: o.Name,
		AccessLifetime: time.Duration(o.AccessTokenLifetime), RefreshLifetime: time.Duration(o.RefreshTokenLifetime),
		RefreshGrace: time.Duration(o.RefreshTokenGrace), CodeLifetime: time.Duration(o.CodeLifetime),
		SessionLifetime: time.Duration(o.SessionLifetime), ClientLifetime: time.Duration(o.Registration.ExpireAfter),
		LoginMax: o.RateLimits["login"].Max, LoginWindow: time.Duration(o.RateLimits["login"].Window),
		RegisterMax: o.RateLimits["register"].Max, RegisterWindow: time.Duration(o.RateLimits["register"].Window),
		TokenMax: o.RateLimits["token"].Max, TokenWindow: time.Duration(o.RateLimits["token"].Window),
		PKCEPlain: isSet(o.PKCEPlain), Static: s.static, SignIn: s.signsIn(),
		LandingPage: o.LandingPage == nil || *o.LandingPage,
		Accent:      o.UI.Accent, HelpURL: o.UI.HelpURL,
		ClientIP: clientIP, RequestID: requestID, Audit: s.audit,
		Metrics: s.handler.app.metrics, Log: s.handler.log,
	}
}

// members are the sites that accept the tokens of a home, and the home itself. A
// site that protects something comes before one that only issues tokens, because
// the first resource is the one that clients get when they name none.
func (b *builder) members(home *site) []*site {
	var out []*site
	for _, s := range b.sites {
		if s.home == home && (s.oauth || s == home) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *site) int { return cmp.Compare(a.rank(), b.rank()) })
	return out
}

// rank orders the sites of an issuer: its own site first, unless that has nothing
// behind it that the configuration tells of.
func (s *site) rank() int {
	protects := s.handler.ResourcesOnly || len(s.options.Resources) > 0
	switch {
	case protects && s == s.home:
		return 0
	case protects:
		return 1
	}
	return 2
}

// sharedResources are the resources and scopes of all sites of an issuer.
func (b *builder) sharedResources(home *site) ([]*oauth.Resource, []authserver.Scope) {
	var resources []*oauth.Resource
	var scopes []authserver.Scope
	for _, s := range b.members(home) {
		for _, r := range s.resources {
			if !slices.ContainsFunc(resources, func(known *oauth.Resource) bool { return known.URL() == r.URL() }) {
				resources = append(resources, r)
			}
		}
		for _, sc := range s.scopes {
			if !slices.ContainsFunc(scopes, func(known authserver.Scope) bool { return known.Name == sc.Name }) {
				scopes = append(scopes, sc)
			}
		}
	}
	return resources, scopes
}
