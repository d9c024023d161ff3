package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// fieldError is a fault in one field of the options.
type fieldError struct {
	path string // as in JSON, such as users[3]
	err  error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Error() }

func (e *fieldError) Unwrap() error { return e.err }

// faults keeps the first fault of a validation.
type faults struct{ first error }

// add notes the fault err, if it is one, of the field at path.
func (f *faults) add(path string, err error) {
	if err != nil && f.first == nil {
		f.first = &fieldError{path: path, err: err}
	}
}

// indexed returns the path of a list's element.
func indexed(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// validate returns a *fieldError for the first field that can be seen to be
// wrong by itself, whether the options come from a Caddyfile or from JSON. What
// depends on the options of the site and of the app together is not looked at.
// Secrets, addresses and e-mail addresses with placeholders pass: call validate
// again when the placeholders are replaced.
// Errors name no secret.
func (o *Options) validate() error {
	var f faults
	f.add("auth_type", checkAuthType(o.AuthType))
	f.add("second_factor", checkSecondFactor(o.SecondFactor))
	f.add("name", checkText(o.Name))
	f.add("issuer", checkIssuer(o.Issuer))
	f.add("dangerously_omit_auth", checkOmitAuth(o.DangerouslyOmitAuth))
	validateUsers(&f, o.Users)
	o.Allow.validateSite(&f)
	validateBearerTokens(&f, o.BearerTokens)
	validateClients(&f, o.Clients)
	validateAuthorizationServers(&f, o.AuthorizationServers)
	if o.Registration != nil {
		o.Registration.validate(&f)
	}
	validateResources(&f, o.Resources)
	validateScopes(&f, o.Scopes)
	for _, l := range o.timespans() {
		f.add(l.name, l.check())
	}
	validateForward(&f, o.Forward)
	o.validateUpstreams(&f)
	validateRateLimits(&f, o.RateLimits)
	for i, origin := range o.CORSOrigins {
		f.add(indexed("cors_origins", i), checkWebOrigin("cors_origins", origin))
	}
	for i, origin := range o.AllowOrigins {
		f.add(indexed("allow_origins", i), checkOriginHeader(origin))
	}
	if o.UI != nil {
		f.add("ui.accent", checkAccent(o.UI.Accent))
		f.add("ui.help_url", checkHelpURL(o.UI.HelpURL))
	}
	return f.first
}

// requiredFactor is the value of second_factor that makes everybody have one.
const requiredFactor = "required"

func checkSecondFactor(s string) error {
	if s == "" || s == "optional" || s == requiredFactor {
		return nil
	}
	return fmt.Errorf("there is no second_factor '%s'. Write one of: second_factor optional|required", s)
}

func checkAuthType(s string) error {
	switch s {
	case "", "auto", "bearer", "oauth2.1", "both":
		return nil
	case "oauth", "oauth2", "oauth2.0", "oauth21":
		return fmt.Errorf("auth_type '%s' is spelled oauth2.1. Write: auth_type oauth2.1", s)
	}
	return fmt.Errorf("there is no auth_type '%s'. Write one of: auth_type auto|bearer|oauth2.1|both", s)
}

func checkOmitAuth(s string) error {
	switch s {
	case "", "true", "false", "anywhere":
		return nil
	}
	return fmt.Errorf("dangerously_omit_auth is true, false or anywhere, not '%s'. Write, for development on loopback: "+
		"dangerously_omit_auth", s)
}

func validateUsers(f *faults, users []User) {
	names := map[string]bool{}
	for i, u := range users {
		path := indexed("users", i)
		f.add(path, checkUser(u))
		if names[u.Name] {
			f.add(path, fmt.Errorf("there are two users '%s'; keep one of the lines", u.Name))
		}
		names[u.Name] = true
	}
}

func checkUser(u User) error {
	if err := checkUserName(u.Name); err != nil {
		return err
	}
	if err := checkHash(u.Name, u.Hash); err != nil {
		return err
	}
	return checkEmail(u.Name, u.Email)
}

func validateBearerTokens(f *faults, tokens []BearerToken) {
	seen := map[string]bool{}
	for i, t := range tokens {
		path := indexed("bearer_tokens", i)
		f.add(path, checkBearerToken(t.Token))
		if seen[t.Token] {
			f.add(path, errors.New("the same bearer_token is there twice; name all its scopes on one line: "+
				"bearer_token <token> [<scopes...>]"))
		}
		seen[t.Token] = true
		addScopes(f, path+".scopes", t.Scopes)
	}
}

func validateClients(f *faults, clients []Client) {
	ids := map[string]bool{}
	for i, c := range clients {
		path := indexed("clients", i)
		c.validate(f, path)
		if ids[c.ID] {
			f.add(path, fmt.Errorf("there are two clients '%s'; put all lines into one block: client %s { … }", c.ID, c.ID))
		}
		ids[c.ID] = true
	}
}

func (c Client) validate(f *faults, path string) {
	f.add(path, checkClientID(c.ID))
	f.add(path+".name", checkText(c.Name))
	f.add(path+".secret", checkClientSecret(c.Secret))
	f.add(path+".jwks_uri", c.checkJWKSURI())
	for i, uri := range c.RedirectURIs {
		f.add(indexed(path+".redirect_uris", i), checkRedirectURI(uri))
	}
	for i, grant := range c.GrantTypes {
		f.add(indexed(path+".grant_types", i), c.checkGrantType(grant))
	}
	addScopes(f, path+".scopes", c.Scopes)
	c.validateIntrospect(f, path+".introspect")
	if len(c.RedirectURIs) == 0 && !c.confidential() && !slices.Contains(c.GrantTypes, oauth.GrantDeviceCode) {
		f.add(path, fmt.Errorf("the client '%s' has neither redirect_uris, for people who sign in, nor a secret, for a machine. "+
			"Add a line, for example: secret {env.CLIENT_SECRET}", c.ID))
	}
}

// confidential reports whether the client has something to authenticate with.
func (c Client) confidential() bool { return c.Secret != "" || c.JWKSURI != "" }

// checkGrantType checks one of the client's grant types, and that the client
// has what the grant needs.
func (c Client) checkGrantType(grant string) error {
	switch grant {
	case "refresh_token", oauth.GrantDeviceCode:
		return nil
	case "device_code", "device":
		return fmt.Errorf("the grant of devices is spelled in full. Write: grant_types %s", oauth.GrantDeviceCode)
	case "authorization_code":
		if len(c.RedirectURIs) == 0 {
			return errors.New("the grant authorization_code needs to know where answers go. " +
				"Add a line, for example: redirect_uris https://app.example.com/callback")
		}
		return nil
	case oauth.GrantClientCredentials, oauth.GrantJWTBearer:
		// RFC 6749 section 4.4, and the draft of identity assertions section 8.1:
		// confidential clients only.
		if !c.confidential() {
			return fmt.Errorf("the grant %s needs a secret, as nobody signs in. "+
				"Add a line, for example: secret {env.CLIENT_SECRET}", grant)
		}
		return nil
	}
	return fmt.Errorf("there is no grant type '%s'. Write, of these: "+
		"grant_types authorization_code refresh_token client_credentials %s %s", grant, oauth.GrantDeviceCode, oauth.GrantJWTBearer)
}

func (r *Registration) validate(f *faults) {
	for i, host := range r.MetadataDocuments {
		f.add(indexed("registration.metadata_documents", i), checkDocumentHost(host, len(r.MetadataDocuments) == 1))
	}
	for i, host := range r.Dynamic {
		f.add(indexed("registration.dynamic", i), checkRegistrationHost(host, len(r.Dynamic) == 1))
	}
	expireAfter := timespan{"expire_after", "30d", &r.ExpireAfter, time.Second, 0}
	f.add("registration.expire_after", expireAfter.check())
	switch r.ServiceAccounts {
	case "", "token", "open":
	default:
		f.add("registration.service_accounts", fmt.Errorf("service_accounts is token or open, not '%s'. "+
			"Write: service_accounts token", r.ServiceAccounts))
	}
}

func validateResources(f *faults, resources []Resource) {
	paths := map[string]bool{}
	for i, r := range resources {
		path := indexed("resources", i)
		f.add(path, checkResourcePath(r.Path))
		if paths[r.Path] {
			f.add(path, fmt.Errorf("there are two resources '%s'; put all lines into one block: resource %s { … }", r.Path, r.Path))
		}
		paths[r.Path] = true
		f.add(path+".name", checkText(r.Name))
		addScopes(f, path+".scopes", r.Scopes)
	}
}

// addScopes checks a list of scope names.
func addScopes(f *faults, path string, scopes []string) {
	seen := map[string]bool{}
	for i, s := range scopes {
		f.add(indexed(path, i), checkScopeName(s))
		if seen[s] {
			f.add(indexed(path, i), fmt.Errorf("the scope '%s' is there twice; take one away", s))
		}
		seen[s] = true
	}
}

// timespan is a field that says how long.
type timespan struct {
	name    string // in JSON and in the Caddyfile
	example string
	field   *caddy.Duration
	atLeast time.Duration
	atMost  time.Duration // 0 is no bound
}

// timespans lists these fields with their bounds. The upper ones are RFC 6749
// section 4.1.2 for codes and, for the grace time, how long a stolen refresh
// token may at most go unnoticed. Clients need some minutes of an access token
// to be worth its refresh.
func (o *Options) timespans() []timespan {
	return []timespan{
		{"access_token_lifetime", "1h", &o.AccessTokenLifetime, 5 * time.Minute, 0},
		{"refresh_token_lifetime", "30d", &o.RefreshTokenLifetime, time.Second, 0},
		{"refresh_token_grace", "2m", &o.RefreshTokenGrace, time.Second, 10 * time.Minute},
		{"session_lifetime", "12h", &o.SessionLifetime, time.Second, 0},
		{"code_lifetime", "60s", &o.CodeLifetime, time.Second, 10 * time.Minute},
		{"signing_key_lifetime", "90d", &o.SigningKeyLifetime, time.Hour, 0},
		{"stream_keep_alive", "20s", &o.StreamKeepAlive, time.Second, 10 * time.Minute},
	}
}

func validateForward(f *faults, forward []Forward) {
	headers := map[string]bool{}
	for i, fw := range forward {
		path := indexed("forward", i)
		f.add(path, checkForward(fw))
		name := normalHeader(fw.Header)
		if headers[name] {
			f.add(path, fmt.Errorf("the header '%s' is forwarded twice; keep one of the lines", http.CanonicalHeaderKey(fw.Header)))
		}
		headers[name] = true
	}
}

func validateRateLimits(f *faults, limits map[string]RateLimit) {
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		f.add("rate_limits."+name, checkRateLimit(name, limits[name]))
	}
}
