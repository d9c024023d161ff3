// Package caddymodule is the Caddy skin of mcp_auth: the app, the handler, the
// Caddyfile directive and the guest modules, on top of packages that know
// nothing of Caddy.
package caddymodule

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(FileStore{})
	caddy.RegisterModule(MemoryStore{})
}

// App holds what all sites share. Its options are the defaults of every site.
type App struct {
	Options
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth", New: func() caddy.Module { return new(App) }}
}

// Start does nothing yet.
func (a *App) Start() error { return nil }

// Stop does nothing yet.
func (a *App) Stop() error { return nil }

// Handler protects the MCP servers of one site.
type Handler struct {
	Options

	// Forward nothing but the paths of the resources; any other path is
	// answered with 404. The shortcut form of the directive sets it.
	// Default: false.
	ResourcesOnly bool `json:"resources_only,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mcp_auth", New: func() caddy.Module { return new(Handler) }}
}

// ServeHTTP lets nothing through.
func (h *Handler) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
	return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("mcp_auth cannot check tokens"))
}

// FileStore keeps the state in one file.
type FileStore struct {
	// Where the file is. Default: a file in Caddy's data directory.
	Path string `json:"path,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (FileStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth.stores.file", New: func() caddy.Module { return new(FileStore) }}
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store file [<path>]
func (s *FileStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the store
	if d.NextArg() {
		s.Path = d.Val()
	}
	return endOfStore(d)
}

// MemoryStore keeps the state in memory: a restart forgets it.
type MemoryStore struct{}

// CaddyModule returns the Caddy module information.
func (MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth.stores.memory", New: func() caddy.Module { return new(MemoryStore) }}
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store memory
func (*MemoryStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the store
	return endOfStore(d)
}

// Interface guards
var (
	_ caddy.App                   = (*App)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*FileStore)(nil)
	_ caddyfile.Unmarshaler       = (*MemoryStore)(nil)
)
