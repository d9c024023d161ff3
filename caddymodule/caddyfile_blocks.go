package caddymodule

import (
	"maps"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func (p *parser) client() error {
	path := indexed("clients", len(p.options.Clients))
	p.mark(path)
	var c Client
	if !p.Args(&c.ID) {
		return errArguments
	}
	err := p.readBlock("client", path+".", map[string]subdirective{
		"name":   {usage: "name <text>", example: `name "Nightly report"`, read: p.text(&c.Name)},
		"secret": {usage: "secret <secret>", example: "secret {env.REPORT_SECRET}", read: p.text(&c.Secret)},
		"jwks_uri": {
			usage: "jwks_uri <url>", example: "jwks_uri https://app.example.com/jwks.json", read: p.text(&c.JWKSURI),
		},
		"redirect_uris": {
			usage: "redirect_uris <uris...>", example: "redirect_uris https://app.example.com/callback",
			repeats: true, read: p.list(path+".redirect_uris", &c.RedirectURIs),
		},
		"grant_types": {
			usage: "grant_types <types...>", example: "grant_types authorization_code refresh_token",
			repeats: true, read: p.list(path+".grant_types", &c.GrantTypes),
		},
		"scopes": {
			usage: "scopes <scopes...>", example: "scopes bugs:read",
			repeats: true, read: p.list(path+".scopes", &c.Scopes),
		},
		"introspect": {
			usage: "introspect [<resources...>]", example: "introspect /mcp",
			repeats: true, read: func() error { return p.introspect(path+".introspect", &c) },
		},
	})
	p.options.Clients = append(p.options.Clients, c)
	return err
}

func (p *parser) registration() error {
	r := new(Registration)
	p.options.Registration = r
	return p.readBlock("registration", "registration.", map[string]subdirective{
		"metadata_documents": {
			usage: "metadata_documents on|off|<hosts...>", example: "metadata_documents claude.ai",
			read: p.list("registration.metadata_documents", &r.MetadataDocuments),
		},
		"metadata_documents_on_loopback": {
			usage: "metadata_documents_on_loopback [on|off]", read: p.flag(&r.MetadataDocumentsOnLoopback),
		},
		"dynamic": {
			usage: "dynamic on|off|token|<hosts...>", example: "dynamic claude.ai chatgpt.com localhost",
			read: func() error { return p.dynamic(r) },
		},
		"expire_after": {
			usage: "expire_after <duration>", example: "expire_after 30d", read: p.duration(&r.ExpireAfter),
		},
		"service_accounts": {usage: "service_accounts token|open", read: p.text(&r.ServiceAccounts)},
	})
}

// dynamic reads who may register. The words true and false are what the
// variable OAUTH2_ALLOW_DYNAMIC_REGISTRATION of older set-ups holds; an empty
// argument, from a variable that is set to nothing, stands for the default.
func (p *parser) dynamic(r *Registration) error {
	err := p.list("registration.dynamic", &r.Dynamic)()
	if err != nil || len(r.Dynamic) != 1 {
		return err
	}
	switch r.Dynamic[0] {
	case "":
		r.Dynamic = nil
	case "true":
		r.Dynamic[0] = "on"
	case "false":
		r.Dynamic[0] = "off"
	}
	return nil
}

func (p *parser) resource() error {
	path := indexed("resources", len(p.options.Resources))
	p.mark(path)
	var r Resource
	if !p.Args(&r.Path) {
		return errArguments
	}
	lines := map[string]subdirective{
		"name": {usage: "name <text>", example: "name GitHub", read: p.text(&r.Name)},
		"scopes": {
			usage: "scopes <scopes...>", example: "scopes bugs:read",
			repeats: true, read: p.list(path+".scopes", &r.Scopes),
		},
	}
	maps.Copy(lines, p.upstreamLines(path+".", &r.ForwardAssertion, &r.UpstreamCredential))
	err := p.readBlock("resource", path+".", lines)
	p.options.Resources = append(p.options.Resources, r)
	return err
}

func (p *parser) scope() error {
	path := indexed("scopes", len(p.options.Scopes))
	p.mark(path)
	var s Scope
	if !p.Args(&s.Name, &s.Description) {
		return errArguments
	}
	var optional, listed *bool
	err := p.readBlock("scope", path+".", map[string]subdirective{
		"tools": {
			usage: "tools <patterns...>", example: "tools search_* get_*",
			repeats: true, read: p.list(path+".tools", &s.Tools),
		},
		"methods": {
			usage: "methods <patterns...>", example: "methods resources/*",
			repeats: true, read: p.list(path+".methods", &s.Methods),
		},
		"implies": {
			usage: "implies <scopes...>", example: "implies bugs:read",
			repeats: true, read: p.list(path+".implies", &s.Implies),
		},
		"optional": {usage: "optional [on|off]", read: p.flag(&optional)},
		"listed":   {usage: "listed [on|off]", read: p.flag(&listed)},
		"allow": {
			usage: "allow user|email|domain|group|client <patterns...>", example: "allow group mcp-admins",
			repeats: true, read: p.allow(path+".allow", &s.Allow),
		},
	})
	s.Optional, s.Listed = isSet(optional), isSet(listed)
	p.options.Scopes = append(p.options.Scopes, s)
	return err
}

func (p *parser) ui() error {
	p.options.UI = new(UI)
	return p.readBlock("ui", "ui.", map[string]subdirective{
		"accent": {
			// Without quotes a # begins a comment, so the argument is missing.
			usage: `accent "<colour>"`, example: `accent "#1b4fc4"`, read: p.text(&p.options.UI.Accent),
		},
		"help_url": {
			usage: "help_url <url>", example: "help_url https://example.com/help", read: p.text(&p.options.UI.HelpURL),
		},
	})
}

// storeNamespace is the namespace of the modules that keep the state.
const storeNamespace = "mcp_auth.stores"

func (p *parser) store() error {
	if !p.NextArg() {
		return errArguments
	}
	name := p.Val()
	id := storeNamespace + "." + name
	if _, err := caddy.GetModule(id); err != nil {
		var known []string
		for _, module := range caddy.GetModules(storeNamespace) {
			known = append(known, module.ID.Name())
		}
		return p.Errf("there is no store '%s'. This Caddy has: %s. Write, for example: store file",
			name, strings.Join(known, ", "))
	}
	backend, err := caddyfile.UnmarshalModule(p.Dispenser, id)
	if err != nil {
		return err
	}
	p.options.StoreRaw = caddyconfig.JSONModuleObject(backend, "backend", name, nil)
	return nil
}

func (p *parser) login() error {
	if !p.NextArg() {
		return errArguments
	}
	name := p.Val()
	id := loginNamespace + "." + name
	if _, err := caddy.GetModule(id); err != nil {
		return p.Errf("there is no kind of login '%s'. Write, for example: login oidc acme { … }", name)
	}
	line := lineOf(p.Token())
	module, err := caddyfile.UnmarshalModule(p.Dispenser, id)
	if err != nil {
		return err
	}
	if l, ok := module.(LoginModule); ok {
		p.logins = append(p.logins, l)
		if err := checkLoginNames(p.logins); err != nil {
			return line.WrapErr(err)
		}
	}
	p.options.LoginsRaw = append(p.options.LoginsRaw, caddyconfig.JSONModuleObject(module, "method", name, nil))
	return nil
}

// storeParser reads the block of a store with the means of the directive.
func storeParser(d *caddyfile.Dispenser) *parser {
	return &parser{Dispenser: d, lines: make(map[string]caddyfile.Token)}
}

// storeBlock reads the rest of a store's line and its block.
func (p *parser) storeBlock(name, usage string, lines map[string]subdirective) error {
	if p.NextArg() {
		return p.Errf("the arguments of '%s' do not fit. Write: %s", name, usage)
	}
	if len(lines) == 0 && p.NextBlock(p.Nesting()) {
		return p.Errf("'%s' has no block; take the braces away", name)
	}
	return p.readBlock(name, "", lines)
}
