package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// loginModules are the logins of a site: its own, or those of the app.
func (h *Handler) loginModules() []LoginModule { return either(h.logins, h.app.logins) }

// checkHomeLogins refuses logins of a site's own when tokens come from another.
func checkHomeLogins(s *site) error {
	if s.home == nil || s.home == s || len(s.handler.logins) == 0 ||
		reflect.DeepEqual(s.handler.options.LoginsRaw, s.home.handler.options.LoginsRaw) {
		return nil
	}
	if s.home.origin == s.origin {
		return errors.New("there are several mcp_auth directives at this origin, and they differ in the line 'login'. " +
			"Move it into the global options: mcp_auth { login … }")
	}
	return fmt.Errorf("tokens for this site come from %s, so the line 'login' has no effect here. "+
		"Move it there, or into the global options: mcp_auth { login … }", s.home.origin)
}

// checkPublicLogins refuses to let everyone in who has an account with a big
// provider, unless a line says who of them is meant.
func checkPublicLogins(s *site) error {
	if s.home != s {
		return nil
	}
	for _, m := range s.logins {
		l, ok := m.(*OIDCLogin)
		if !ok {
			continue
		}
		public := publicProvider(l.config.Issuer)
		if public != "" && s.options.Allow == nil {
			return fmt.Errorf("login oidc %s lets in every %s account. Add an 'allow' line, for example: allow domain example.com", l.ID, public)
		}
		for _, tenant := range publicTenants[:3] {
			if public == "Microsoft" && strings.Contains(strings.ToLower(l.config.Issuer), "/"+tenant+"/") {
				return fmt.Errorf("login oidc %s names '%s', which is no issuer: Microsoft's tokens name the tenant. "+
					"Write: issuer https://login.microsoftonline.com/<tenant id>/v2.0", l.ID, tenant)
			}
		}
	}
	return nil
}

// checkFactorUsers refuses to promise a second factor of users who sign in at a
// provider, which is where they have one.
func checkFactorUsers(s *site) error {
	if s.home != s || s.handler.options.SecondFactor != requiredFactor || len(s.options.Users) > 0 || len(s.logins) == 0 {
		return nil
	}
	return errors.New("second_factor required is about local users, and all users of this site sign in elsewhere. " +
		"Require a second factor there, and take the line away")
}

// checkLoginSubjects keeps users of logins apart from local users and from
// clients, whose names are subjects as well.
func checkLoginSubjects(s *site) error {
	for _, m := range s.logins {
		prefix := m.LoginID() + ":"
		for _, u := range s.options.Users {
			if strings.HasPrefix(u.Name, prefix) {
				return fmt.Errorf("the user '%s' could be one of login %s. Choose another name", u.Name, m.LoginID())
			}
		}
		for _, c := range s.options.Clients {
			if strings.HasPrefix(c.ID, prefix) {
				return fmt.Errorf("the client '%s' could be a user of login %s. Choose another name", c.ID, m.LoginID())
			}
		}
	}
	return nil
}

// checkAssertions refuses assertions that could be about the users of two logins,
// and clients of assertions where nobody makes any.
func checkAssertions(s *site) error {
	if s.home != s {
		return nil
	}
	believed := map[string]string{}
	for _, m := range s.logins {
		l, ok := m.(*OIDCLogin)
		if !ok || !l.IdentityAssertions {
			continue
		}
		if other := believed[l.config.Issuer]; other != "" {
			return fmt.Errorf("the logins %s and %s both believe the assertions of %s, and nobody could tell whose users they are about. "+
				"Take the line 'identity_assertions' away from one of them", other, l.ID, l.config.Issuer)
		}
		believed[l.config.Issuer] = l.ID
	}
	for _, c := range s.options.Clients {
		if len(believed) == 0 && slices.Contains(c.GrantTypes, oauth.GrantJWTBearer) {
			return fmt.Errorf("the client '%s' has a grant type for assertions of a provider, and none is believed. "+
				"Add a line to the login: login oidc acme { identity_assertions }", c.ID)
		}
	}
	return nil
}

// headerModule is the login by headers, if the site has one.
func (s *site) headerModule() (*HeaderLogin, bool) {
	for _, m := range s.logins {
		if l, ok := m.(*HeaderLogin); ok {
			return l, true
		}
	}
	return nil, false
}

// checkHeaderTrust refuses a login by headers that nobody could be believed in.
func (b *builder) checkHeaderTrust(s *site) error {
	l, ok := s.headerModule()
	if !ok || s.home != s || b.cleared(s, l) {
		return nil
	}
	if slices.ContainsFunc(b.authorizePlaces(s), func(p place) bool { return p.trusts }) {
		return nil
	}
	return fmt.Errorf("login header believes nobody here, as clients could send %s themselves. "+
		"Name the proxy that sets it in the global options: servers { trusted_proxies static private_ranges }; "+
		"or let a line of this site set it: forward_auth %s authelia:9091 { uri /api/authz/forward-auth copy_headers %s }",
		l.headers()[0], authorizePath, strings.Join(l.headers(), " "))
}

// authorizePlaces are the places at which requests for the authorization endpoint
// of a site arrive.
func (b *builder) authorizePlaces(home *site) []place {
	var out []place
	for _, s := range b.sites {
		if s.home != home || s.origin != home.origin {
			continue
		}
		for _, p := range s.places {
			if p.lets(authorizePath) {
				out = append(out, p)
			}
		}
	}
	return out
}

// cleared reports whether the configuration takes away what clients send in the
// headers of a login, on every way to the authorization endpoint.
func (b *builder) cleared(s *site, l *HeaderLogin) bool {
	return !slices.ContainsFunc(b.authorizePlaces(s), func(p place) bool {
		return slices.ContainsFunc(l.headers(), func(name string) bool { return !slices.Contains(p.clearing.headers, name) })
	})
}

// addLogins gives the logins of a site to its authorization server.
func (b *builder) addLogins(s *site, cfg *authserver.Config) error {
	cfg.Allow = s.options.Allow.policy()
	for _, m := range s.logins {
		b.app.metrics.ExpectLogins(m.LoginID())
		if l, ok := m.(*OIDCLogin); ok {
			l.config.Transport = b.app.metrics.Transport(l.ID, http.DefaultTransport)
			l.config.KeepTokens = slices.ContainsFunc(b.sites, func(other *site) bool { return other.home == s && other.lends(l.ID) })
			if l.config.KeepTokens {
				cfg.Delegations = s.issuer.delegations
			}
		}
		method, err := m.Method()
		if err != nil {
			return fmt.Errorf("login %s: %w", m.LoginID(), err)
		}
		if h, ok := method.(*headerLogin); ok {
			h.cleared = b.cleared(s, &h.names)
		}
		if a, ok := method.(login.Asserter); ok {
			cfg.Asserters = append(cfg.Asserters, a)
		}
		switch method := method.(type) {
		case login.Redirect:
			cfg.Redirects = append(cfg.Redirects, authserver.Redirect{ID: m.LoginID(), Label: m.LoginLabel(), Login: method})
		case login.Request:
			if cfg.Request != nil {
				return fmt.Errorf("login %s: only one login can go by what is in requests", m.LoginID())
			}
			cfg.Request = method
		default:
			return fmt.Errorf("login %s: %T is no way to sign in", m.LoginID(), method)
		}
	}
	return nil
}

// redirects reports whether people sign in at providers.
func (s *site) redirects() bool {
	return slices.ContainsFunc(s.logins, func(m LoginModule) bool { _, ok := m.(*HeaderLogin); return !ok })
}

// announceLogins tells what to register at the providers.
func (s *site) announceLogins(log *zap.Logger) {
	if s.home == s && s.oauth && s.redirects() {
		log.Info("people sign in at providers, which have to know this redirect URI",
			zap.String("redirect_uri", s.issuerURL()+authserver.PathCallback))
	}
}
