package caddymodule

import (
	"fmt"
	"strings"
	"testing"
)

// decided is the first site of a configuration with everything decided that
// needs no store.
func decided(t *testing.T, caddyfile string) (*builder, error) {
	t.Helper()
	b := provisioned(t, caddyfile)
	if err := b.addSites(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(*site) error{(*site).decideOmit, (*site).decideAuthType, b.addResources, b.check} {
		for _, s := range b.sites {
			if err := step(s); err != nil {
				return b, err
			}
		}
	}
	return b, nil
}

func TestTheAuthTypeOfASite(t *testing.T) {
	const machine = "client robot {\nsecret robot-secret-1234\n}\n"
	const public = "client app {\nredirect_uris https://app.example.com/cb\n}\n"
	const token = "bearer_token dev_token_12345\n"
	const open = "registration {\nservice_accounts open\n}\n"
	for name, tt := range map[string]struct {
		lines, want string
	}{
		"auto with nobody":                 {"", "static"},
		"auto with a token":                {token, "static"},
		"auto with a user":                 {alice, "oauth"},
		"auto with a user and a token":     {alice + token, "oauth static"},
		"auto with a machine":              {machine, "oauth"},
		"auto with a server that asks":     {"client rs {\nsecret robot-secret-1234\nintrospect\n}\n", "static"},
		"auto with open service accounts":  {open, "oauth"},
		"auto with a public client only":   {public, "static"},
		"bearer with a user":               {"auth_type bearer\n" + alice, "static"},
		"oauth2.1 with a user and a token": {"auth_type oauth2.1\n" + alice + token, "oauth"},
		"both with a user":                 {"auth_type both\n" + alice, "oauth static"},
		"both with a machine":              {"auth_type both\n" + machine, "oauth static"},
		"oauth2.1 with nobody":             {"auth_type oauth2.1\n", "error: https://mcp.example.com: auth_type oauth2.1 needs somebody who can sign in. Add a line with a hash of 'caddy hash-password', for example: user alice $2a$14$…"},
		"both with a token only":           {"auth_type both\n" + token, "error: https://mcp.example.com: auth_type both needs somebody who can sign in. Add a line with a hash of 'caddy hash-password', for example: user alice $2a$14$…"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := decided(t, "mcp.example.com {\nmcp_auth {\n"+tt.lines+"}\n}")
			if got := tokensOf(b.sites[0], err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func tokensOf(s *site, err error) string {
	if err != nil {
		return "error: " + s.origin + ": " + err.Error()
	}
	var out []string
	if s.oauth {
		out = append(out, "oauth")
	}
	if s.static {
		out = append(out, "static")
	}
	return strings.Join(out, " ")
}

func TestTheAuthTypeOfASiteWhoseIssuerIsElsewhere(t *testing.T) {
	const issuerLine = "issuer https://auth.example.com\n"
	for name, tt := range map[string]struct {
		auth, site string // lines of the two sites
		want       string // about the second one
	}{
		"people sign in there":            {alice, "", "oauth"},
		"and tokens work here":            {alice, "bearer_token dev_token_12345\n", "oauth static"},
		"nobody signs in there":           {"", "", "static"},
		"the issuer has static tokens":    {"auth_type bearer\n" + alice, "", "static"},
		"static tokens here only":         {alice, "auth_type bearer\n", "static"},
		"OAuth here and nobody there":     {"", "auth_type oauth2.1\n", "auth_type oauth2.1 needs somebody who can sign in. Add a line with a hash of 'caddy hash-password', for example: user alice $2a$14$…"},
		"OAuth here, static tokens there": {"auth_type bearer\n" + alice, "auth_type oauth2.1\n", "auth_type oauth2.1 needs tokens, and the site of the issuer issues none. Write there: auth_type both"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := decided(t, "auth.example.com {\nmcp_auth {\n"+tt.auth+"}\n}\nmcp.example.com {\nmcp_auth {\n"+issuerLine+tt.site+"}\n}")
			got := tokensOf(b.sites[1], nil)
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

const oidcLogin = "login oidc acme {\nissuer https://id.example.com\nclient_id x\n}\n"

// siteOf is the site of a configuration with these lines.
func siteOf(lines string) string { return "mcp.example.com {\nmcp_auth {\n" + lines + "}\n}" }

// siteElsewhere is a site with these lines, whose tokens come from another site.
func siteElsewhere(lines string) string {
	return "auth.example.com {\nmcp_auth {\n" + alice + "}\n}\n" + siteOf("issuer https://auth.example.com\n"+lines)
}

// checks are configurations and the errors that are wanted of them, "" for none.
type checks map[string]struct{ caddyfile, want string }

func (cases checks) run(t *testing.T) {
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := decided(t, tt.caddyfile)
			if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
				t.Errorf("got the error\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestLinesThatBelongToTheSiteOfTheIssuer(t *testing.T) {
	elsewhere := func(line string) string {
		return "tokens for this site come from https://auth.example.com, so the line '" + line + "' has no effect here. " +
			"Move it there, or into the global options: mcp_auth { " + line + " … }"
	}
	checks{
		"users where nobody signs in":    {siteElsewhere("user bob " + cheapBcrypt + "\n"), elsewhere("user")},
		"the same users in both sites":   {siteElsewhere(alice), ""},
		"clients":                        {siteElsewhere(robot), elsewhere("client")},
		"registration":                   {siteElsewhere("registration {\ndynamic off\n}\n"), elsewhere("registration")},
		"the lifetime of access tokens":  {siteElsewhere("access_token_lifetime 2h\n"), elsewhere("access_token_lifetime")},
		"the lifetime of refresh tokens": {siteElsewhere("refresh_token_lifetime 2h\n"), elsewhere("refresh_token_lifetime")},
		"the grace time":                 {siteElsewhere("refresh_token_grace 1m\n"), elsewhere("refresh_token_grace")},
		"the lifetime of sessions":       {siteElsewhere("session_lifetime 1h\n"), elsewhere("session_lifetime")},
		"the lifetime of codes":          {siteElsewhere("code_lifetime 10s\n"), elsewhere("code_lifetime")},
		"the limit of sign-ins":          {siteElsewhere("rate_limit login 5 1m\n"), elsewhere("rate_limit login")},
		"the limit of sign-ins, off":     {siteElsewhere("rate_limit login off\n"), elsewhere("rate_limit login")},
		"the limit of registrations":     {siteElsewhere("rate_limit register 5 1h\n"), elsewhere("rate_limit register")},
		"the limit of token requests":    {siteElsewhere("rate_limit token 5 1m\n"), elsewhere("rate_limit token")},
		"the limit of requests":          {siteElsewhere("rate_limit mcp 5 1m\n"), ""},
		"plain PKCE":                     {siteElsewhere("pkce_plain\n"), elsewhere("pkce_plain")},
		"devices":                        {siteElsewhere("device_authorization\n"), elsewhere("device_authorization")},
		"second factors":                 {siteElsewhere("second_factor required\n"), elsewhere("second_factor")},
		"what is about the site itself":  {siteElsewhere("name X\nbearer_token dev_token_12345\nforward X-A {http.auth.user.id}\nresource /x\nui {\naccent \"#123\"\n}\n"), ""},
		"another store than that of the issuer": {
			siteElsewhere("store memory\n"),
			"tokens for this site come from https://auth.example.com and are kept in its store. " +
				"Move the line 'store' there, or into the global options: mcp_auth { store … }",
		},
	}.run(t)
}

func TestWhatSitesSayTogetherIsChecked(t *testing.T) {
	checks{
		"the issuer is nowhere": {
			siteOf("issuer https://auth.example.com\n"),
			"nothing in this configuration is at the issuer https://auth.example.com, so nobody can get tokens. " +
				"Add a site: https://auth.example.com { mcp_auth }",
		},
		"the issuer is nowhere, and not needed": {siteOf("issuer https://auth.example.com\nauth_type bearer\n"), ""},
		"second factors of users of a provider": {
			siteOf("login oidc acme {\nissuer https://id.example.com\nclient_id x\n}\nsecond_factor required\n"),
			"second_factor required is about local users, and all users of this site sign in elsewhere. " +
				"Require a second factor there, and take the line away",
		},
		"second factors of local users": {siteOf(alice + "second_factor required\n"), ""},
		"a client of the device grant that is off": {
			siteOf(alice + "client tv {\ngrant_types urn:ietf:params:oauth:grant-type:device_code\n}\n"),
			"the client 'tv' has the grant of devices, which is off. Add the line: device_authorization on",
		},
		"a client of the device grant": {
			siteOf(alice + "device_authorization\nclient tv {\ngrant_types urn:ietf:params:oauth:grant-type:device_code\n}\n"), "",
		},
		"two directives of one origin, the same": {"mcp.example.com {\nhandle /a/* {\nmcp_auth {\n" + alice + "}\n}\nhandle {\nmcp_auth {\n" + alice + "}\n}\n}", ""},
		"two directives of one origin": {
			"mcp.example.com {\nhandle /a/* {\nmcp_auth {\n" + alice + "}\n}\nhandle {\nmcp_auth {\nuser bob " + cheapBcrypt + "\n}\n}\n}",
			"there are several mcp_auth directives at this origin, and they differ in the line 'user'. " +
				"Move it into the global options: mcp_auth { user … }",
		},
	}.run(t)
}

func TestTokensOfALoginNeedPeopleWhoSignInThere(t *testing.T) {
	checks{
		"tokens of a login": {siteOf(oidcLogin + "upstream_credential login acme\n"), ""},
		"tokens of a login at the issuer": {
			"auth.example.com {\nmcp_auth {\n" + oidcLogin + "}\n}\nmcp.example.com {\nmcp_auth {\nissuer https://auth.example.com\nresource /a {\nupstream_credential login acme\n}\n}\n}", "",
		},
		"tokens of a login that is not there": {
			siteOf(alice + "upstream_credential login acme\n"),
			"upstream_credential login acme names no OpenID provider that people sign in at. Add a block: login oidc acme { … }",
		},
		"tokens of a login that nobody can sign in at": {
			siteOf(oidcLogin + "auth_type bearer\nresource /a {\nupstream_credential login acme\n}\n"),
			"upstream_credential login acme names no OpenID provider that people sign in at. Add a block: login oidc acme { … }",
		},
		"tokens of a login beside another authorization server": {
			siteOf("authorization_server https://id.example.com\nupstream_credential login acme\n"),
			"upstream_credential login acme needs people who sign in here, and with authorization_server they do so elsewhere. Take one of the lines away",
		},
		"tokens of a login of nobody": {
			siteOf(oidcLogin + "dangerously_omit_auth anywhere\nupstream_credential login acme\n"),
			"upstream_credential login acme needs people who sign in, and with dangerously_omit_auth nobody does. Take one of the lines away",
		},
	}.run(t)
}

func TestNoTwoLinesAreAboutOneHeader(t *testing.T) {
	checks{
		"one header for two lines": {
			"{\nmcp_auth {\nforward_assertion Authorization\n}\n}\n" + siteOf(alice+"upstream_credential secret\n"),
			"upstream_credential: forward_assertion and upstream_credential are both about the header 'Authorization'. " +
				"Name another one, for example: forward_assertion X-Mcp-Assertion",
		},
		"one header for a line of the global options and one of a resource": {
			"{\nmcp_auth {\nforward X-User {http.auth.user.id}\n}\n}\n" + siteOf(alice+"resource /a {\nupstream_credential x_user secret\n}\n"),
			"resources[0].upstream_credential: the header 'X-User' has a line forward as well; keep one of them",
		},
	}.run(t)
}

func TestScopesAreThoseOfALine(t *testing.T) {
	checks{
		"a scope of a token": {
			siteOf("bearer_token dev_token_12345 bugs:read\n"),
			`a bearer_token has the scope 'bugs:read', which no line defines. Add a line with what it allows, for example: scope bugs:read "Search and read"`,
		},
		"a scope of a client": {
			siteOf("scope a \"A\"\nclient robot {\nsecret robot-secret-1234\nscopes a b\n}\n"),
			`the client robot has the scope 'b', which no line defines. Add a line with what it allows, for example: scope b "Search and read"`,
		},
		"a scope of a resource": {
			siteOf("scope a \"A\"\nresource /mcp {\nscopes mcp\n}\n"),
			`the resource /mcp has the scope 'mcp', which no line defines. Add a line with what it allows, for example: scope mcp "Search and read"`,
		},
		"the scope that is there without a line": {siteOf("bearer_token dev_token_12345 mcp\nresource /mcp {\nscopes mcp\n}\n"), ""},
		"a client's scope of another site of the issuer": {
			"{\nmcp_auth {\nissuer https://auth.example.com\n}\n}\nauth.example.com {\nmcp_auth {\nclient robot {\nsecret robot-secret-1234\nscopes bugs\n}\n}\n}\n" +
				"mcp.example.com {\nmcp_auth {\nscope bugs \"Bugs\"\n}\n}", "",
		},
	}.run(t)
}

func TestAuthenticationIsOmittedOnLoopbackOnly(t *testing.T) {
	const refused = "dangerously_omit_auth opens this server to everyone who can reach it. " +
		"Listen on loopback only by adding the line: bind 127.0.0.1; or, if everyone shall have access: dangerously_omit_auth anywhere"
	const on, off = "omitted", "not omitted"
	for name, tt := range map[string]struct{ site, bind, line, want string }{
		"all interfaces":               {"http://localhost:8080", "", "dangerously_omit_auth", refused},
		"a loopback address":           {"http://localhost:8080", "127.0.0.1", "dangerously_omit_auth", on},
		"both loopback addresses":      {"http://localhost:8080", "127.0.0.1 ::1", "dangerously_omit_auth", on},
		"the name localhost":           {"http://localhost:8080", "localhost", "dangerously_omit_auth", on},
		"a name below localhost":       {"http://localhost:8080", "x.localhost", "dangerously_omit_auth", refused},
		"the rest of 127.0.0.0/8":      {"http://localhost:8080", "127.9.9.9", "dangerously_omit_auth", on},
		"one address of the network":   {"http://localhost:8080", "127.0.0.1 192.0.2.1", "dangerously_omit_auth", refused},
		"any IPv4 address":             {"http://localhost:8080", "0.0.0.0", "dangerously_omit_auth", refused},
		"any IPv6 address":             {"http://localhost:8080", "::", "dangerously_omit_auth", refused},
		"a Unix socket":                {"http://localhost:8080", "unix//tmp/mcp-auth-test.sock", "dangerously_omit_auth", on},
		"a file descriptor":            {"http://localhost:8080", "fd/3", "dangerously_omit_auth", refused},
		"https is no excuse":           {"https://localhost:8443", "", "dangerously_omit_auth", refused},
		"anywhere":                     {"http://localhost:8080", "", "dangerously_omit_auth anywhere", on},
		"false":                        {"http://localhost:8080", "", "dangerously_omit_auth false", off},
		"a variable set to nothing":    {"http://localhost:8080", "", `dangerously_omit_auth ""`, off},
		"without the line":             {"http://localhost:8080", "127.0.0.1", "", off},
		"a loopback name says nothing": {"http://127.0.0.1:8080", "", "dangerously_omit_auth true", refused},
	} {
		t.Run(name, func(t *testing.T) {
			bind := ""
			if tt.bind != "" {
				bind = "bind " + tt.bind + "\n"
			}
			b, err := decided(t, tt.site+" {\n"+bind+"mcp_auth {\n"+tt.line+"\n}\n}")
			got := off
			if err != nil {
				got = err.Error()
			} else if b.sites[0].omit {
				got = on
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheSiteSwitchesOffAnOmissionOfTheGlobalOptions(t *testing.T) {
	b, err := decided(t, "{\nmcp_auth {\ndangerously_omit_auth anywhere\n}\n}\nmcp.example.com {\nmcp_auth {\ndangerously_omit_auth false\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	if b.sites[0].omit {
		t.Error("authentication is omitted")
	}
}
