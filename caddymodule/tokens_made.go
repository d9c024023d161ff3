package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// tokenSpec checks a token that somebody wants to make for the sites of an issuer:
// one that would be of no use is refused with what to write instead.
func (a *App) tokenSpec(issuer string, wanted newToken) (apitoken.Spec, error) {
	spec := apitoken.Spec{
		Name: wanted.Name, Scopes: wanted.Scopes, RegistrationOnly: wanted.RegistrationOnly, Expires: wanted.Expires,
	}
	if err := apitoken.CheckName(wanted.Name); err != nil {
		return spec, err
	}
	if !wanted.Expires.IsZero() && !wanted.Expires.After(time.Now()) {
		return spec, errors.New("the token would have expired already")
	}
	var sites []*site
	for _, h := range a.handlers {
		if h.site.issuerURL() == issuer {
			sites = append(sites, h.site)
		}
	}
	if wanted.RegistrationOnly {
		return spec, checkRegistrationToken(sites, issuer, wanted)
	}
	sites = slices.DeleteFunc(sites, func(s *site) bool { return !s.takesAPITokens() })
	if len(sites) == 0 {
		return spec, fmt.Errorf("%s takes no static tokens because of the line 'auth_type oauth2.1'. Write: auth_type both; "+
			"or, for a token that lets clients register: --registration-only", issuer)
	}
	var defined []authserver.Scope
	for _, s := range sites {
		defined = append(defined, s.scopes...)
	}
	if err := checkDefined("the token", wanted.Scopes, defined); err != nil {
		return spec, err
	}
	if wanted.Resource == "" {
		return spec, nil
	}
	r := findResource(sites, wanted.Resource)
	if r == nil {
		return spec, fmt.Errorf("%q is no MCP server of %s. Write its address, for example: --resource %s",
			wanted.Resource, issuer, sites[0].resources[0].URL())
	}
	spec.Resource = r.URL()
	return spec, nil
}

// checkRegistrationToken refuses a token for registration where nobody registers.
func checkRegistrationToken(sites []*site, issuer string, wanted newToken) error {
	if len(wanted.Scopes) > 0 || wanted.Resource != "" {
		return errors.New("a token that only lets clients register has neither scopes nor a resource. Leave out --scope and --resource")
	}
	if !slices.ContainsFunc(sites, func(s *site) bool { return s.home == s && s.oauth && !hostPolicy(s.options.Registration.Dynamic).Off }) {
		return fmt.Errorf("nobody registers clients at %s. Leave out --registration-only, or let people sign in there", issuer)
	}
	return nil
}

// findResource finds the resource of one of the sites by its address; nil for none.
func findResource(sites []*site, address string) *oauth.Resource {
	canonical, ok := oauth.CanonicalResource(address)
	if !ok {
		return nil
	}
	for _, s := range sites {
		for _, r := range s.resources {
			if r.URL() == canonical {
				return r
			}
		}
	}
	return nil
}
