package caddymodule

import (
	"maps"
	"strconv"
)

// subdirectives are the lines of the mcp_auth block itself. The name of a line
// is the name of the field in JSON, except where the line is one of several
// that make up a list.
func (p *parser) subdirectives() map[string]subdirective {
	all := map[string]subdirective{}
	maps.Copy(all, p.accessLines())
	maps.Copy(all, p.protectionLines())
	maps.Copy(all, p.timespanLines())
	maps.Copy(all, p.operationLines())
	maps.Copy(all, p.upstreamLines("", &p.options.ForwardAssertion, &p.options.UpstreamCredential))
	return all
}

// accessLines say how requests prove who they are.
func (p *parser) accessLines() map[string]subdirective {
	o := p.options
	return map[string]subdirective{
		"auth_type": {usage: "auth_type auto|bearer|oauth2.1|both", read: p.authType},
		"user": {
			usage: "user <name> <hash> [<email>]", example: "user alice $2a$14$… alice@example.com",
			repeats: true, read: p.user,
		},
		"login": {
			usage: "login oidc <id> { … }|header <user> [<email> <name> <groups>]", example: "login oidc acme { … }",
			repeats: true, read: p.login,
		},
		"allow": {
			usage: "allow user|email|domain|group <patterns...>", example: "allow domain example.com",
			repeats: true, read: p.allow("allow", &o.Allow),
		},
		"bearer_token": {
			usage: "bearer_token <token> [<scopes...>]", example: "bearer_token {env.MCP_BEARER_TOKEN}",
			repeats: true, read: p.bearerToken,
		},
		"client": {
			usage: "client <id> { … }", example: "client nightly-report { … }",
			repeats: true, read: p.client,
		},
		"authorization_server": {
			usage: "authorization_server <issuers...> [{ … }]", example: "authorization_server https://id.example.com",
			repeats: true, read: p.authorizationServer,
		},
		"registration":     {usage: "registration { … }", read: p.registration},
		"pkce_plain":       {usage: "pkce_plain [on|off]", read: p.flag(&o.PKCEPlain)},
		"remember_consent": {usage: "remember_consent [on|off]", read: p.flag(&o.RememberConsent)},
		"device_authorization": {
			usage: "device_authorization [on|off]", read: p.flag(&o.DeviceAuthorization),
		},
		"second_factor": {usage: "second_factor optional|required", example: "second_factor required", read: p.text(&o.SecondFactor)},
		"allow_query_token": {
			usage: "allow_query_token [on|off]", read: p.flag(&o.AllowQueryToken),
		},
		"dangerously_omit_auth": {usage: "dangerously_omit_auth [true|false|anywhere]", read: p.omitAuth},
	}
}

// protectionLines say what is protected.
func (p *parser) protectionLines() map[string]subdirective {
	o := p.options
	return map[string]subdirective{
		"name":     {usage: "name <text>", example: `name "Acme Support"`, read: p.text(&o.Name)},
		"issuer":   {usage: "issuer <origin>", example: "issuer https://mcp.example.com", read: p.text(&o.Issuer)},
		"resource": {usage: "resource <path> [{ … }]", example: "resource /mcp", repeats: true, read: p.resource},
		"scope": {
			usage: "scope <name> <sentence> [{ … }]", example: `scope bugs:read "Search and read bugs"`,
			repeats: true, read: p.scope,
		},
	}
}

// timespanLines say how long things are good for, or may last.
func (p *parser) timespanLines() map[string]subdirective {
	lines := map[string]subdirective{}
	for _, l := range p.options.timespans() {
		lines[l.name] = subdirective{
			usage: l.name + " <duration>", example: l.name + " " + l.example, read: p.duration(l.field),
		}
	}
	return lines
}

// operationLines say how the site is run.
func (p *parser) operationLines() map[string]subdirective {
	o := p.options
	return map[string]subdirective{
		"store": {usage: "store memory|file [<path>]|redis <url>", example: "store file /var/lib/mcp/state.db", read: p.store},
		"forward": {
			usage: "forward <header> <value>", example: "forward X-Mcp-User {http.auth.user.id}",
			repeats: true, read: p.forward,
		},
		"rate_limit": {
			usage: "rate_limit login|register|token|mcp <number> <window>|off", example: "rate_limit login 10 1m",
			repeats: true, read: p.rateLimit,
		},
		"cors_origins": {
			usage: "cors_origins <origins...>", example: "cors_origins http://localhost:6274",
			repeats: true, read: p.list("cors_origins", &o.CORSOrigins),
		},
		"allow_origins": {
			usage: "allow_origins <origins...>", example: "allow_origins https://app.example.com",
			repeats: true, read: p.list("allow_origins", &o.AllowOrigins),
		},
		"pages": {usage: "pages [on|off]", read: p.flag(&o.LandingPage)},
		"audit": {usage: "audit { … }", read: p.audit},
		"ui":    {usage: "ui { … }", read: p.ui},
	}
}

// authType reads the kind of authentication. An empty argument, which is what
// an environment variable gives that is set to nothing, stands for the default.
func (p *parser) authType() error {
	if !p.NextArg() {
		return errArguments
	}
	p.options.AuthType = p.Val()
	return nil
}

// omitAuth reads whether authentication is off. Only a line without an argument
// means true: an empty argument comes from an environment variable that is set
// to nothing, which must not open the site.
func (p *parser) omitAuth() error {
	switch {
	case !p.NextArg():
		p.options.DangerouslyOmitAuth = "true"
	case p.Val() == "":
		p.options.DangerouslyOmitAuth = "false"
	default:
		p.options.DangerouslyOmitAuth = p.Val()
	}
	return nil
}

func (p *parser) user() error {
	var u User
	if !p.Args(&u.Name, &u.Hash) {
		return errArguments
	}
	if p.NextArg() {
		u.Email = p.Val()
	}
	p.mark(indexed("users", len(p.options.Users)))
	p.options.Users = append(p.options.Users, u)
	return nil
}

func (p *parser) bearerToken() error {
	if !p.NextArg() {
		return errArguments
	}
	p.mark(indexed("bearer_tokens", len(p.options.BearerTokens)))
	p.options.BearerTokens = append(p.options.BearerTokens, BearerToken{Token: p.Val(), Scopes: p.RemainingArgs()})
	return nil
}

func (p *parser) forward() error {
	var f Forward
	if !p.Args(&f.Header, &f.Value) {
		return errArguments
	}
	p.mark(indexed("forward", len(p.options.Forward)))
	p.options.Forward = append(p.options.Forward, f)
	return nil
}

// rateLimit reads "<name> <number> <window>" or "<name> off".
func (p *parser) rateLimit() error {
	var name, number string
	if !p.Args(&name, &number) {
		return errArguments
	}
	if _, ok := p.options.RateLimits[name]; ok {
		return p.Errf("the limit '%s' is set twice; keep one line: rate_limit %s 10 1m", name, name)
	}
	var limit RateLimit
	if number != "off" {
		n, err := strconv.Atoi(number)
		if err != nil || n == 0 {
			return p.Errf("%q is no number. Write a number from 1, or off, for example: rate_limit %s 10 1m", number, name)
		}
		limit.Max = n
		if err := p.duration(&limit.Window)(); err != nil {
			return err
		}
	}
	if p.options.RateLimits == nil {
		p.options.RateLimits = make(map[string]RateLimit)
	}
	p.mark("rate_limits." + name)
	p.options.RateLimits[name] = limit
	return nil
}
