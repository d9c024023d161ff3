package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

// loginNamespace is the namespace of the ways to sign in.
const loginNamespace = "mcp_auth.logins"

// LoginModule is what modules in the namespace mcp_auth.logins implement.
type LoginModule interface {
	// LoginID names the login. The subjects of its users are the name, a colon
	// and what identifies them there, so that no two logins share a subject.
	LoginID() string

	// LoginLabel is what its button on the sign-in page says.
	LoginLabel() string

	// Method makes the login: a login.Redirect or a login.Request.
	Method() (login.Method, error)
}

// OIDCLogin signs people in at an OpenID provider. Register the address
// https://<the site>/callback there. Users have the subject "<id>:<sub>".
type OIDCLogin struct {
	// The name of the login: small letters, digits, - and _. It is part of the
	// subjects of its users, so keep it, and take a new one for another
	// provider.
	ID string `json:"id"`

	// The issuer identifier of the provider, byte by byte as the provider
	// spells it. May be a placeholder.
	Issuer string `json:"issuer"`

	// The client identifier that the provider has given out. May be a
	// placeholder.
	ClientID string `json:"client_id"`

	// The client secret that belongs to it. Without one we are a public client
	// there. May be a placeholder.
	ClientSecret string `json:"client_secret,omitempty"`

	// The scopes to ask for. Default: openid, profile and email.
	Scopes []string `json:"scopes,omitempty"`

	// Believe the identity assertions of the provider as well: signed JWTs that
	// clients get there for a person, and tokens here for them, without a
	// browser (Enterprise-Managed Authorization of MCP). Default: false.
	IdentityAssertions bool `json:"identity_assertions,omitempty"`

	// What the provider shows at each sign-in: login, consent or select_account.
	// Some give a refresh token only while they ask for consent. Default:
	// nothing in particular.
	Prompt []string `json:"prompt,omitempty"`

	// What the button says after "Continue with". Default: the host of the
	// issuer.
	Label string `json:"label,omitempty"`

	config oidclogin.Config // with placeholders replaced
}

// CaddyModule returns the Caddy module information.
func (OIDCLogin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: loginNamespace + ".oidc", New: func() caddy.Module { return new(OIDCLogin) }}
}

// Provision replaces placeholders and checks the login. Nothing is fetched: a
// provider that is down keeps nothing from starting.
func (l *OIDCLogin) Provision(ctx caddy.Context) error {
	resolved := *l
	r := resolver{caddy.NewReplacer()}
	for _, field := range []struct {
		name string
		at   *string
	}{{"issuer", &resolved.Issuer}, {"client_id", &resolved.ClientID}, {"client_secret", &resolved.ClientSecret}} {
		if *field.at == "" {
			continue
		}
		var err error
		if *field.at, err = r.required(*field.at); err != nil {
			return fmt.Errorf("login oidc %s: %s: %w", l.ID, field.name, err)
		}
	}
	if err := resolved.check(); err != nil {
		return err
	}
	scopes := resolved.Scopes
	if len(scopes) == 0 {
		scopes = []string{"openid", "profile", "email"}
	}
	l.config = oidclogin.Config{
		ID: l.ID, Issuer: resolved.Issuer, ClientID: resolved.ClientID, ClientSecret: resolved.ClientSecret, Scopes: scopes,
		Prompt: strings.Join(l.Prompt, " "),
		Log:    ctx.Logger(),
	}
	return nil
}

// LoginID implements LoginModule.
func (l *OIDCLogin) LoginID() string { return l.ID }

// LoginLabel implements LoginModule.
func (l *OIDCLogin) LoginLabel() string {
	u, err := url.Parse(l.config.Issuer)
	if err != nil {
		return cmp.Or(l.Label, l.ID)
	}
	return cmp.Or(l.Label, u.Host)
}

// Method implements LoginModule.
func (l *OIDCLogin) Method() (login.Method, error) {
	if l.IdentityAssertions {
		return oidclogin.NewAsserting(l.config), nil
	}
	return oidclogin.New(l.config), nil
}

// loginID is a name of a login. It must not hold what separates it from the
// rest of a subject.
var loginID = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// reservedLogins are names that subjects of others begin with: those of local
// users, of users of a proxy, of clients that are known by an address, and of
// static tokens.
var reservedLogins = []string{localProvider, headerProvider, "http", "https", strings.TrimSuffix(apitoken.SubjectPrefix, ":")}

// check looks at one login by itself. Values with placeholders pass.
func (l *OIDCLogin) check() error {
	where := "login oidc " + l.ID
	switch {
	case !loginID.MatchString(l.ID):
		return fmt.Errorf("%q is no name of a login: up to 32 small letters, digits, - and _. Write, for example: login oidc acme { … }", l.ID)
	case slices.Contains(reservedLogins, l.ID):
		return fmt.Errorf("the name '%s' of a login has a meaning of its own. Choose another one, for example: login oidc my-%s { … }", l.ID, l.ID)
	case l.Issuer == "":
		return fmt.Errorf("%s has no issuer. Add a line, for example: issuer https://id.example.com", where)
	case l.ClientID == "":
		return fmt.Errorf("%s has no client_id. Register the address https://<this site>/callback at the provider, "+
			"and add a line with what it gives you, for example: client_id {env.OIDC_CLIENT_ID}", where)
	case len(l.Scopes) > 0 && !slices.Contains(l.Scopes, "openid"):
		return fmt.Errorf("the scopes of %s lack openid, without which the provider does not say who signs in. "+
			"Write: scopes openid %s", where, strings.Join(l.Scopes, " "))
	}
	for _, scope := range l.Scopes {
		if err := checkScopeName(scope); err != nil {
			return err
		}
	}
	for _, word := range l.Prompt {
		if !slices.Contains(promptWords, word) {
			return fmt.Errorf("the prompt of %s cannot be '%s', only: prompt %s", where, word, strings.Join(promptWords, "|"))
		}
	}
	if err := checkText(l.Label); err != nil {
		return fmt.Errorf("the label of %s: %w", where, err)
	}
	return checkProviderIssuer(l.Issuer)
}

// promptWords are what a provider can be asked to show (OpenID Connect Core section
// 3.1.2.1).
var promptWords = []string{"login", "consent", "select_account"}

// checkProviderIssuer accepts an https URL (OpenID Connect Discovery section 2),
// and an http one on loopback.
func checkProviderIssuer(issuer string) error {
	if hasPlaceholder(issuer) {
		return nil
	}
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return fmt.Errorf("the issuer '%s' is no plain https address. Write, for example: issuer https://id.example.com", issuer)
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme != "https":
		return fmt.Errorf("the issuer '%s' is not https, so sign-ins could be forged on the way. Write, for example: "+
			"issuer https://id.example.com", issuer)
	}
	if plain, _, found := strings.Cut(issuer, "/.well-known/"); found {
		return fmt.Errorf("the issuer '%s' is the address of its discovery document. Write: issuer %s", issuer, plain)
	}
	return nil
}

// UnmarshalCaddyfile sets up the login from Caddyfile tokens. Syntax:
//
//	login oidc <id> {
//		issuer        <url>
//		client_id     <id>
//		client_secret <secret>
//		scopes        <scopes...>
//		prompt        login|consent|select_account
//		label         <text>
//		identity_assertions [on|off]
//	}
func (l *OIDCLogin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the module
	p := storeParser(d)
	if !p.NextArg() {
		return errArguments
	}
	l.ID = p.Val()
	if p.NextArg() {
		return errArguments
	}
	line := lineOf(p.Token())
	var assertions *bool
	err := p.readBlock("login oidc", "", map[string]subdirective{
		"issuer":        {usage: "issuer <url>", example: "issuer https://id.example.com", read: p.text(&l.Issuer)},
		"client_id":     {usage: "client_id <id>", example: "client_id {env.OIDC_CLIENT_ID}", read: p.text(&l.ClientID)},
		"client_secret": {usage: "client_secret <secret>", example: "client_secret {env.OIDC_CLIENT_SECRET}", read: p.text(&l.ClientSecret)},
		"scopes":        {usage: "scopes <scopes...>", example: "scopes openid profile email", read: p.list("scopes", &l.Scopes)},
		"prompt":        {usage: "prompt login|consent|select_account", example: "prompt consent", read: p.list("prompt", &l.Prompt)},
		"label":         {usage: "label <text>", example: `label "Acme SSO"`, read: p.text(&l.Label)},

		"identity_assertions": {usage: "identity_assertions [on|off]", read: p.flag(&assertions)},
	})
	l.IdentityAssertions = isSet(assertions)
	if err != nil {
		return err
	}
	if err := l.check(); err != nil {
		return line.WrapErr(err)
	}
	return nil
}

// loadLogins loads the guest modules of the ways to sign in. host is the module
// that embeds the options.
func loadLogins(ctx caddy.Context, host any, o Options) ([]LoginModule, error) {
	if o.LoginsRaw == nil {
		return nil, nil
	}
	modules, err := ctx.LoadModule(host, "LoginsRaw")
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	var out []LoginModule
	for _, m := range modules.([]any) {
		l, ok := m.(LoginModule)
		if !ok {
			return nil, fmt.Errorf("login: %T is no login", m)
		}
		out = append(out, l)
	}
	return out, checkLoginNames(out)
}

func checkLoginNames(logins []LoginModule) error {
	seen := map[string]bool{}
	for _, l := range logins {
		id := l.LoginID()
		switch {
		case seen[id] && id == headerProvider:
			return errors.New("there are two lines 'login header'; keep one of them")
		case seen[id]:
			return fmt.Errorf("there are two logins '%s', and their users could not be told apart. "+
				"Name one of them differently, for example: login oidc %s-2 { … }", id, id)
		}
		seen[id] = true
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*OIDCLogin)(nil)
	_ caddyfile.Unmarshaler = (*OIDCLogin)(nil)
	_ LoginModule           = (*OIDCLogin)(nil)
)
