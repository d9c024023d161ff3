package caddymodule

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterDirective("mcp_auth", parseDirective)
	// After forward_auth, so that it can sign people in on /authorize, and
	// before everything that answers requests.
	httpcaddyfile.RegisterDirectiveOrder("mcp_auth", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterGlobalOption("mcp_auth", parseGlobalOption)
}

// parseDirective sets up the protection of a site from Caddyfile tokens.
// Syntax:
//
//	mcp_auth [<matcher>] [<upstreams...>] {
//		# how requests prove who they are
//		auth_type    auto|bearer|oauth2.1|both
//		user         <name> <hash> [<email>]
//		login oidc <id> {
//			issuer        <url>
//			client_id     <id>
//			client_secret <secret>
//			scopes        <scopes...>
//			label         <text>
//		}
//		login header <user> [<email> [<name> [<groups>]]]
//		allow        user|email|domain|group <patterns...>
//		bearer_token <token> [<scopes...>]
//		client <id> {
//			name          <text>
//			secret        <secret>
//			redirect_uris <uris...>
//			grant_types   <types...>
//			scopes        <scopes...>
//			jwks_uri      <url>
//			introspect    [<resources...>]
//		}
//		authorization_server <issuers...> {
//			audience <values...>
//			jwks_uri <url>
//			introspection {
//				endpoint      <url>
//				client_id     <id>
//				client_secret <secret>
//			}
//		}
//		registration {
//			metadata_documents on|off|<hosts...>
//			dynamic            on|off|token|<hosts...>
//			expire_after       <duration>
//			service_accounts   token|open
//		}
//		device_authorization  [on|off]
//		second_factor         optional|required
//		pkce_plain            [on|off]
//		remember_consent      [on|off]
//		allow_query_token     [on|off]
//		dangerously_omit_auth [true|false|anywhere]
//
//		# what is protected
//		name   <text>
//		issuer <origin>
//		resource <path> {
//			name   <text>
//			scopes <scopes...>
//			forward_assertion   …
//			upstream_credential …
//		}
//		scope <name> <sentence> {
//			tools    <patterns...>
//			methods  <patterns...>
//			implies  <scopes...>
//			optional [on|off]
//			listed   [on|off]
//			allow    user|email|domain|group|client <patterns...>
//		}
//
//		# how long
//		access_token_lifetime  <duration>
//		refresh_token_lifetime <duration>
//		refresh_token_grace    <duration>
//		session_lifetime       <duration>
//		code_lifetime          <duration>
//		signing_key_lifetime   <duration>
//		stream_keep_alive      <duration>
//
//		# how it is run
//		store         memory
//		store         file [<path>]
//		store         redis <url> { … }
//		forward       <header> <value>
//		forward_assertion [<header>] {
//			audience <value>
//		}
//		upstream_credential [<header>] <secret>
//		upstream_credential login <id> [<header>]
//		rate_limit    login|register|token|mcp <number> <window>
//		rate_limit    login|register|token|mcp off
//		cors_origins  <origins...>
//		allow_origins <origins...>
//		audit {
//			tool_calls [on|off]
//		}
//		pages         [on|off]
//		ui {
//			accent   <colour>
//			help_url <url>
//		}
//	}
//
// With upstreams the directive is a shortcut: it also proxies to them, and it
// forwards only the paths of the resources. So
//
//	mcp_auth localhost:3000
//
// is the handler with resources_only, followed by what this would set up:
//
//	reverse_proxy localhost:3000 {
//		header_up Host {upstream_hostport}
//		transport mcp_auth {
//			dial_timeout                  3s
//			keepalive_idle_conns_per_host 512
//			compression                   off
//			read_buffer                   64KiB
//			write_buffer                  64KiB
//		}
//	}
//
// With several upstreams there is an lb_policy client_ip_hash as well. Without
// upstreams the directive guards whatever follows it in the site: handle,
// handle_path, reverse_proxy and so on.
//
// The lines user, bearer_token, client, authorization_server, resource, scope, forward, rate_limit,
// cors_origins and allow_origins may be repeated.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	h.Next() // consume the name again: extracting the matcher has reset the dispenser

	directive := h.Token()
	upstreams := h.RemainingArgsAsTokens()
	options, err := parseOptions(h.Dispenser)
	if err != nil {
		return nil, err
	}

	handler := Handler{Options: *options, ResourcesOnly: len(upstreams) > 0}
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{
		caddyconfig.JSONModuleObject(handler, "handler", "mcp_auth", nil),
	}}
	if matchers != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matchers}
	}
	if len(upstreams) > 0 {
		proxy, err := newProxy(h, directive, upstreams)
		if err != nil {
			return nil, err
		}
		route.HandlersRaw = append(route.HandlersRaw,
			caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil))
	}
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: route}}, nil
}

// parseGlobalOption sets up the defaults of all sites from the global option,
// which has the subdirectives of the directive and takes no upstreams.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // consume the name of the option
	if existing != nil {
		return nil, d.Err("the global options have 'mcp_auth' twice; put all lines into one block: mcp_auth { … }")
	}
	if d.NextArg() {
		return nil, d.Errf("the global option 'mcp_auth' takes no upstreams; name them in the site: mcp_auth %s", d.Val())
	}
	options, err := parseOptions(d)
	if err != nil {
		return nil, err
	}
	return httpcaddyfile.App{
		Name:  "mcp_auth",
		Value: caddyconfig.JSON(App{Options: *options}, nil),
	}, nil
}

// parseOptions reads the block that may open at the end of the current line,
// and validates what it says.
func parseOptions(d *caddyfile.Dispenser) (*Options, error) {
	p := &parser{Dispenser: d, options: new(Options), lines: make(map[string]caddyfile.Token)}
	if err := p.readBlock("mcp_auth", "", p.subdirectives()); err != nil {
		return nil, err
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	return p.options, nil
}
