package caddymodule

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// check refuses what only shows when the options of a site, of the app and of
// the other sites have come together.
func (b *builder) check(s *site) error {
	for _, check := range []func(*site) error{
		checkHomeLines, checkHomeStore, checkHomeLogins, checkPublicLogins, checkLoginSubjects, checkAssertions, b.checkHeaderTrust, b.checkOthers, b.checkEncryption, checkSubjects, checkOwnScopes, checkRules, checkStaticScopes, b.checkSharedScopes, b.checkClientScopes, b.checkIntrospection, checkDeviceClients, checkUpstreamLines, checkDelegates, checkFactorUsers,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// line is a line of the directive whose value counts under a condition only.
type line struct {
	name  string
	value func(*Options) any
}

// isSet reports whether the options have the line.
func (l line) isSet(o *Options) bool { return !reflect.ValueOf(l.value(o)).IsZero() }

// rateLimitLine is the line of one limit.
func rateLimitLine(name string) line {
	return line{"rate_limit " + name, func(o *Options) any {
		if l, ok := o.RateLimits[name]; ok {
			return &l // not the limit, as one that is off is zero
		}
		return (*RateLimit)(nil)
	}}
}

// signInLines count where people sign in.
var signInLines = []line{
	{"user", func(o *Options) any { return o.Users }},
	{"allow", func(o *Options) any { return o.Allow }},
	{"session_lifetime", func(o *Options) any { return o.SessionLifetime }},
	{"code_lifetime", func(o *Options) any { return o.CodeLifetime }},
	{"refresh_token_lifetime", func(o *Options) any { return o.RefreshTokenLifetime }},
	{"refresh_token_grace", func(o *Options) any { return o.RefreshTokenGrace }},
	rateLimitLine("login"),
	{"pkce_plain", func(o *Options) any { return o.PKCEPlain }},
	{"remember_consent", func(o *Options) any { return o.RememberConsent }},
	{"device_authorization", func(o *Options) any { return o.DeviceAuthorization }},
	{"second_factor", func(o *Options) any { return o.SecondFactor }},
}

// tokenLines count where tokens are issued.
var tokenLines = append([]line{
	{"client", func(o *Options) any { return o.Clients }},
	{"registration", func(o *Options) any { return o.Registration }},
	{"access_token_lifetime", func(o *Options) any { return o.AccessTokenLifetime }},
	{"signing_key_lifetime", func(o *Options) any { return o.SigningKeyLifetime }},
	rateLimitLine("register"),
	rateLimitLine("token"),
}, signInLines...)

// checkHomeLines refuses lines that would say something else about tokens than
// the site that issues them does.
func checkHomeLines(s *site) error {
	if s.home == nil || s.home == s {
		return nil
	}
	for _, l := range tokenLines {
		if !l.isSet(&s.handler.Options) || reflect.DeepEqual(l.value(&s.options), l.value(&s.home.options)) {
			continue
		}
		if s.home.origin == s.origin {
			return fmt.Errorf("there are several mcp_auth directives at this origin, and they differ in the line '%s'. "+
				"Move it into the global options: mcp_auth { %s … }", l.name, l.name)
		}
		return fmt.Errorf("tokens for this site come from %s, so the line '%s' has no effect here. "+
			"Move it there, or into the global options: mcp_auth { %s … }", s.home.origin, l.name, l.name)
	}
	return nil
}

// checkHomeStore refuses a store of a site's own when tokens come from another.
func checkHomeStore(s *site) error {
	if s.home == nil || s.home == s || s.handler.store == nil {
		return nil
	}
	if home := s.home.handler.store; home != nil && home.Identity() == s.handler.store.Identity() {
		return nil
	}
	return fmt.Errorf("tokens for this site come from %s and are kept in its store. "+
		"Move the line 'store' there, or into the global options: mcp_auth { store … }", s.home.origin)
}

// checkEncryption refuses a store with several encryption keys, however many
// sites name it.
func (b *builder) checkEncryption(s *site) error {
	m := s.storeModule(b.app)
	if m == nil {
		return nil
	}
	if b.fingerprints == nil {
		b.fingerprints = make(map[string]string)
	}
	own := boxOf(m).Fingerprint()
	if other, ok := b.fingerprints[m.Identity()]; ok && other != own {
		return errors.New("two sites name the same store with different lines 'encryption_key'. " +
			"Move the store into the global options: mcp_auth { store … }")
	}
	b.fingerprints[m.Identity()] = own
	return nil
}

// checkOwnScopes refuses scopes of tokens and resources that nobody could have.
func checkOwnScopes(s *site) error {
	for _, t := range s.options.BearerTokens {
		if err := checkDefined("a bearer_token", t.Scopes, s.scopes); err != nil {
			return err
		}
	}
	for _, r := range s.options.Resources {
		if err := checkDefined("the resource "+r.Path, r.Scopes, s.scopes); err != nil {
			return err
		}
	}
	return nil
}

// checkClientScopes does the same for clients, which may use any site of the
// issuer.
func (b *builder) checkClientScopes(s *site) error {
	if s.home != s {
		return nil
	}
	_, scopes := b.sharedResources(s)
	for _, c := range s.options.Clients {
		if err := checkDefined("the client "+c.ID, c.Scopes, scopes); err != nil {
			return err
		}
	}
	return nil
}

// checkDeviceClients refuses clients that could only get in by what is off.
func checkDeviceClients(s *site) error {
	if s.home != s || isSet(s.options.DeviceAuthorization) {
		return nil
	}
	for _, c := range s.options.Clients {
		if slices.Contains(c.GrantTypes, oauth.GrantDeviceCode) {
			return fmt.Errorf("the client '%s' has the grant of devices, which is off. Add the line: device_authorization on", c.ID)
		}
	}
	return nil
}

// checkSubjects keeps people and machines apart: a client that acts for itself has
// its id as the subject of its tokens, and must not pass for a user (RFC 9068
// section 5), nor may either pass for a static token.
func checkSubjects(s *site) error {
	for _, c := range s.options.Clients {
		if isTokenSubject(c.ID) {
			return fmt.Errorf("the client id '%s' could be the subject of requests with a static token. Choose another one", c.ID)
		}
	}
	for _, u := range s.options.Users {
		if isTokenSubject(u.Name) {
			return fmt.Errorf("the user name '%s' could be the subject of requests with a static token. Choose another name", u.Name)
		}
		for _, c := range s.options.Clients {
			if c.ID == u.Name {
				return fmt.Errorf("'%s' is a user and a client, and nobody could tell their requests apart. "+
					"Name the client, for example: client %s-service", c.ID, c.ID)
			}
		}
	}
	return nil
}

// isTokenSubject reports whether requests with a static token could have the
// subject.
func isTokenSubject(name string) bool {
	return name == bearerSubject || strings.HasPrefix(name, apitoken.SubjectPrefix)
}

func checkDefined(what string, names []string, defined []authserver.Scope) error {
	for _, name := range names {
		if !slices.ContainsFunc(defined, func(sc authserver.Scope) bool { return sc.Name == name }) {
			return fmt.Errorf("%s has the scope '%s', which no line defines. "+
				`Add a line with what it allows, for example: scope %s "Search and read"`, what, name, name)
		}
	}
	return nil
}

// announce says at the start what an operator has to know.
func (s *site) announce(log *zap.Logger) {
	log = log.With(zap.String("site", s.origin))
	if s.omit {
		log.Warn("authentication is switched off: everyone who reaches this site can use the MCP server")
	}
	if s.oauth && isSet(s.options.PKCEPlain) {
		log.Warn("pkce_plain is on: authorization codes of clients that use it are not protected")
	}
	if isSet(s.options.AllowQueryToken) && s.takesAPITokens() {
		log.Warn("allow_query_token is on: tokens in addresses end up in logs and browser histories")
	}
	if _, protected := registrationPolicy(s.options.Registration); s.options.Registration.ServiceAccounts == "open" && s.oauth && !protected {
		log.Warn("service_accounts open: everyone who reaches this site can register a client and use the MCP server")
	}
	if isSet(s.options.Registration.MetadataDocumentsOnLoopback) && s.oauth {
		log.Warn("metadata_documents_on_loopback is on: documents that programs on this machine serve are accepted; this is for tests only")
	}
	s.announceLogins(log)
	s.announceAssertions(log)
	s.announceUseless(log)
	s.announceHidden(log)
	if s.generated != "" {
		s.announceToken(log)
	}
}

// announceUseless warns of lines of the site that have no effect.
func (s *site) announceUseless(log *zap.Logger) {
	var useless []string
	needs := tokenLines
	if s.oauth {
		needs = signInLines
	}
	for _, l := range needs {
		if !s.signsIn() && l.isSet(&s.handler.Options) {
			useless = append(useless, l.name)
		}
	}
	if len(useless) > 0 {
		mend := "add a user line"
		if s.options.AuthType == "bearer" {
			mend = "write: auth_type both"
		}
		log.Warn("these lines have no effect, as nobody gets tokens that way; take them away, or "+mend, zap.Strings("lines", useless))
	}
	if s.omit && slices.ContainsFunc(s.options.Forward, func(f Forward) bool { return strings.Contains(f.Value, "{http.auth.user.") }) {
		log.Warn("forward tells the MCP server nothing about users while dangerously_omit_auth is on, as nobody signs in")
	}
	if s.omit && s.asserts() {
		log.Warn("forward_assertion tells the MCP server nothing while dangerously_omit_auth is on, as nobody signs in; take the line away")
	}
	if s.omit && slices.ContainsFunc(s.options.Scopes, func(sc Scope) bool { return sc.hasRules() }) {
		log.Warn("what scopes say about tools and methods has no effect while dangerously_omit_auth is on: every tool can be called")
	}
	if s.omit && s.handler.RateLimits["mcp"].Max > 0 {
		log.Warn("rate_limit mcp has no effect while dangerously_omit_auth is on, as nobody can tell whose requests those are")
	}
	if isSet(s.options.AllowQueryToken) && !s.takesAPITokens() {
		log.Warn("allow_query_token has no effect, as auth_type oauth2.1 takes no static token; take the line away, or write: auth_type both")
	}
}

// announceHidden warns of a matcher that keeps clients from the endpoints: they
// are at the root of the origin, whatever the path of the MCP server is.
func (s *site) announceHidden(log *zap.Logger) {
	if !s.oauth || s.omit {
		return
	}
	paths := append([]string{oauth.WellKnownResource + s.resources[0].Path}, authserver.OAuthPaths(s.signsIn())...)
	switch {
	case s.home == nil || s.home.origin != s.origin:
		paths = paths[:1]
	case s.home.redirects():
		paths = append(paths, authserver.PathCallback)
	}
	if s.home != nil && s.home.origin == s.origin && s.signsIn() && isSet(s.home.options.DeviceAuthorization) {
		paths = append(paths, authserver.DevicePaths()...)
	}
	var hidden []string
	for _, path := range paths {
		if !s.reaches(path) {
			hidden = append(hidden, path)
		}
	}
	if len(hidden) > 0 {
		log.Warn("a matcher keeps requests for endpoints from mcp_auth, so clients cannot sign in; take it away and name the paths "+
			"of the MCP server inside, for example: mcp_auth localhost:3000 { resource /mcp }", zap.Strings("hidden", hidden))
	}
}
