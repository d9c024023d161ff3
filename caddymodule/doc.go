// Package caddymodule is the Caddy skin of mcp_auth: the app, the handler, the
// Caddyfile directive and the guest modules, on top of packages that know
// nothing of Caddy.
package caddymodule

import "github.com/caddyserver/caddy/v2"

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(FileStore{})
	caddy.RegisterModule(MemoryStore{})
	caddy.RegisterModule(RedisStore{})
	caddy.RegisterModule(OIDCLogin{})
	caddy.RegisterModule(HeaderLogin{})
}
