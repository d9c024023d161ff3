package caddymodule

import (
	"cmp"
	"maps"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Defaults of the options.
const (
	defaultAccessLifetime     = caddy.Duration(time.Hour)
	defaultRefreshLifetime    = caddy.Duration(30 * 24 * time.Hour)
	defaultRefreshGrace       = caddy.Duration(2 * time.Minute)
	defaultSessionLifetime    = caddy.Duration(12 * time.Hour)
	defaultCodeLifetime       = caddy.Duration(60 * time.Second)
	defaultClientLifetime     = caddy.Duration(30 * 24 * time.Hour)
	defaultSigningKeyLifetime = caddy.Duration(90 * 24 * time.Hour)
)

// defaultRateLimits are the limits that hold when nobody says otherwise. Requests
// to MCP servers have none.
var defaultRateLimits = map[string]RateLimit{
	"login":    {Max: 10, Window: caddy.Duration(time.Minute)},
	"register": {Max: 20, Window: caddy.Duration(time.Hour)},
	"token":    {Max: 60, Window: caddy.Duration(time.Minute)},
}

// merge returns the options of a site: its own fields, then those of the app,
// then the defaults.
func (o Options) merge(global Options) Options {
	o.AuthType = cmp.Or(o.AuthType, global.AuthType, "auto")
	o.Name = cmp.Or(o.Name, global.Name)
	o.Issuer = cmp.Or(o.Issuer, global.Issuer)
	o.DangerouslyOmitAuth = cmp.Or(o.DangerouslyOmitAuth, global.DangerouslyOmitAuth, "false")
	o.Users = either(o.Users, global.Users)
	o.Allow = cmp.Or(o.Allow, global.Allow)
	o.BearerTokens = either(o.BearerTokens, global.BearerTokens)
	o.Clients = either(o.Clients, global.Clients)
	o.AuthorizationServers = either(o.AuthorizationServers, global.AuthorizationServers)
	o.Resources = either(o.Resources, global.Resources)
	o.Scopes = either(o.Scopes, global.Scopes)
	o.Forward = either(o.Forward, global.Forward)
	o.ForwardAssertion = cmp.Or(o.ForwardAssertion, global.ForwardAssertion)
	o.UpstreamCredential = cmp.Or(o.UpstreamCredential, global.UpstreamCredential)
	o.CORSOrigins = either(o.CORSOrigins, global.CORSOrigins)
	o.AllowOrigins = either(o.AllowOrigins, global.AllowOrigins)
	o.AccessTokenLifetime = cmp.Or(o.AccessTokenLifetime, global.AccessTokenLifetime, defaultAccessLifetime)
	o.RefreshTokenLifetime = cmp.Or(o.RefreshTokenLifetime, global.RefreshTokenLifetime, defaultRefreshLifetime)
	o.RefreshTokenGrace = cmp.Or(o.RefreshTokenGrace, global.RefreshTokenGrace, defaultRefreshGrace)
	o.SessionLifetime = cmp.Or(o.SessionLifetime, global.SessionLifetime, defaultSessionLifetime)
	o.CodeLifetime = cmp.Or(o.CodeLifetime, global.CodeLifetime, defaultCodeLifetime)
	o.SigningKeyLifetime = cmp.Or(o.SigningKeyLifetime, global.SigningKeyLifetime, defaultSigningKeyLifetime)
	o.StreamKeepAlive = cmp.Or(o.StreamKeepAlive, global.StreamKeepAlive)
	o.DeviceAuthorization = cmp.Or(o.DeviceAuthorization, global.DeviceAuthorization)
	o.SecondFactor = cmp.Or(o.SecondFactor, global.SecondFactor)
	o.PKCEPlain = cmp.Or(o.PKCEPlain, global.PKCEPlain)
	o.RememberConsent = cmp.Or(o.RememberConsent, global.RememberConsent)
	o.AllowQueryToken = cmp.Or(o.AllowQueryToken, global.AllowQueryToken)
	o.LandingPage = cmp.Or(o.LandingPage, global.LandingPage)
	o.Registration = o.Registration.merge(global.Registration)
	o.UI = o.UI.merge(global.UI)
	o.Audit = o.Audit.merge(global.Audit)
	limits := maps.Clone(defaultRateLimits)
	maps.Copy(limits, global.RateLimits)
	maps.Copy(limits, o.RateLimits)
	o.RateLimits = limits
	return o
}

// either returns the first list that says anything.
func either[T any](site, global []T) []T {
	if len(site) > 0 {
		return site
	}
	return global
}

func (r *Registration) merge(global *Registration) *Registration {
	var out Registration
	if r != nil {
		out = *r
	}
	if global == nil {
		global = &Registration{}
	}
	out.MetadataDocuments = either(out.MetadataDocuments, global.MetadataDocuments)
	out.MetadataDocumentsOnLoopback = cmp.Or(out.MetadataDocumentsOnLoopback, global.MetadataDocumentsOnLoopback)
	out.Dynamic = either(out.Dynamic, global.Dynamic)
	out.ExpireAfter = cmp.Or(out.ExpireAfter, global.ExpireAfter, defaultClientLifetime)
	out.ServiceAccounts = cmp.Or(out.ServiceAccounts, global.ServiceAccounts, "token")
	return &out
}

func (u *UI) merge(global *UI) *UI {
	var out UI
	if u != nil {
		out = *u
	}
	if global != nil {
		out.Accent = cmp.Or(out.Accent, global.Accent)
		out.HelpURL = cmp.Or(out.HelpURL, global.HelpURL)
	}
	return &out
}

// isSet reports whether a switch is on.
func isSet(b *bool) bool { return b != nil && *b }
