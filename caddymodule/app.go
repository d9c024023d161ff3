package caddymodule

import (
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
)

// App is what the sites of a configuration share: the issuers, their stores and
// the options that sites do not set themselves.
type App struct {
	Options

	ctx      caddy.Context
	log      *zap.Logger
	options  Options // with placeholders replaced
	store    StoreModule
	logins   []LoginModule
	handlers []*Handler
	audits   *auditLogs

	accessLogs *accessLogs

	// build makes the sites once. The web server may start before this app
	// does, so the first request builds them when Start has not yet.
	build func() error

	stores  *holding
	metrics *metrics.Metrics
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth", New: func() caddy.Module { return new(App) }}
}

// Provision checks the options. It opens nothing, since configurations are also
// provisioned to be validated only.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.log = ctx.Logger()
	a.build = sync.OnceValue(a.buildSites)
	a.stores, a.audits, a.accessLogs = new(holding), new(auditLogs), newAccessLogs(ctx)
	if err := a.provisionMetrics(ctx); err != nil {
		return err
	}
	var err error
	if a.options, err = a.resolved(); err != nil {
		return err
	}
	if a.store, err = loadStore(ctx, a, a.Options); err != nil {
		return err
	}
	a.logins, err = loadLogins(ctx, a, a.Options)
	return err
}

// loadStore loads the guest module of the store, if one is configured. host is
// the module that embeds the options.
func loadStore(ctx caddy.Context, host any, o Options) (StoreModule, error) {
	if o.StoreRaw == nil {
		return nil, nil
	}
	m, err := ctx.LoadModule(host, "StoreRaw")
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s, ok := m.(StoreModule)
	if !ok {
		return nil, fmt.Errorf("store: %T is no store", m)
	}
	return s, nil
}

// Start opens the stores and builds what serves the sites.
func (a *App) Start() error { return a.build() }

// Stop does nothing: the requests of this configuration that are still under way
// end by themselves, and what they use is released by Cleanup.
func (a *App) Stop() error { return nil }

// Cleanup lets go of the stores. It also runs when Provision failed.
func (a *App) Cleanup() error {
	if a.metrics != nil {
		releaseMetrics()
	}
	if a.stores == nil {
		return nil
	}
	return a.stores.release()
}

func (a *App) buildSites() error {
	if len(a.handlers) == 0 {
		return nil
	}
	web, err := a.ctx.App("http")
	if err != nil {
		return err
	}
	b := &builder{app: a, web: web.(*caddyhttp.App)}
	return b.build()
}

// state returns the open store that a module describes, or the default one, and
// that module.
func (a *App) state(m StoreModule) (*state, StoreModule, error) {
	if m == nil {
		file := &FileStore{}
		if err := file.Provision(a.ctx); err != nil {
			return nil, nil, err
		}
		m = file
	}
	st, err := a.stores.take(m)
	return st, m, err
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
