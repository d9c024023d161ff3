package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
)

// withStore opens the store that the flags name and closes it behind work. Only
// with create it makes a store where there is none.
func withStore(fl caddycmd.Flags, create bool, work func(store.Store, StoreModule) error) error {
	config, name, _, err := caddycmd.LoadConfig(fl.String("config"), fl.String("adapter"))
	if err != nil {
		return err
	}
	if name == "" {
		return errors.New("there is no Caddyfile in the current folder; name the configuration with --config")
	}
	modules, done, err := storesOf(config)
	if err != nil {
		return err
	}
	defer done()
	identity, err := choose(slices.Sorted(maps.Keys(modules)), fl.String("store"))
	if err != nil {
		return err
	}
	s, err := openDirectly(modules[identity], create)
	switch {
	case errors.Is(err, filestore.ErrLocked):
		return fmt.Errorf("%w. If it is Caddy with this configuration, stop it, or export from it while it runs: %s",
			err, exportCommand(fl, config))
	case errors.Is(err, errInMemory):
		return fmt.Errorf("%w: %s", err, exportCommand(fl, config))
	case err != nil:
		return err
	}
	return errors.Join(work(s, modules[identity]), s.Close())
}

// lockPatience is how long a command waits for a Caddy that is about to end.
const lockPatience = time.Second

var errInMemory = errors.New("a memory store is in the running Caddy only. Export from it")

// openDirectly opens a store without the app.
func openDirectly(m StoreModule, create bool) (store.Store, error) {
	switch m := m.(type) {
	case *MemoryStore:
		return nil, errInMemory
	case *FileStore:
		if _, err := os.Stat(m.Path); errors.Is(err, fs.ErrNotExist) && !create {
			return nil, fmt.Errorf("there is no store at %s. Where it is by default depends on the user: "+
				"run the command as the user that Caddy runs as, such as: sudo -u caddy caddy mcp-auth …", m.Path)
		}
		return filestore.Open(m.Path, filestore.WithLockTimeout(lockPatience))
	default:
		return m.Open()
	}
}

// storesOf returns the modules of all stores that a configuration names, by their
// identities, and what ends them. Nothing else of the configuration is
// provisioned: that would open its logs, which then get the errors of the command,
// and make certificates.
func storesOf(config []byte) (map[string]StoreModule, func(), error) {
	var root any
	if err := json.Unmarshal(config, &root); err != nil {
		return nil, nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	found := storeFinder{ctx: ctx, modules: make(map[string]StoreModule)}
	if err := found.find(root); err != nil {
		cancel()
		return nil, nil, err
	}
	return found.modules, cancel, nil
}

// storeFinder collects the stores of a configuration.
type storeFinder struct {
	ctx     caddy.Context
	modules map[string]StoreModule
}

// find looks at the app and at all handlers, wherever they are. A handler without
// a store uses that of the app.
func (f *storeFinder) find(root any) error {
	app, configured := member(member(root, "apps"), "mcp_auth").(map[string]any)
	shared := app["store"]
	users := 0
	err := eachHandler(root, func(handler map[string]any) error {
		if own, ok := handler["store"]; ok {
			return f.add(own)
		}
		users++
		return f.add(shared)
	})
	if err == nil && users == 0 && configured && shared != nil {
		err = f.add(shared)
	}
	return err
}

func member(v any, name string) any {
	object, _ := v.(map[string]any)
	return object[name]
}

// eachHandler calls fn for all mcp_auth handlers below v.
func eachHandler(v any, fn func(map[string]any) error) error {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := eachHandler(item, fn); err != nil {
				return err
			}
		}
	case map[string]any:
		if v["handler"] == "mcp_auth" {
			return fn(v)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if err := eachHandler(v[name], fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// add loads the module of a store; nil stands for the default one.
func (f *storeFinder) add(raw any) error {
	backend := "file"
	settings := map[string]any{}
	if raw != nil {
		object, ok := raw.(map[string]any)
		if !ok {
			return errors.New("store: not an object")
		}
		settings = maps.Clone(object)
		backend, _ = settings["backend"].(string)
		delete(settings, "backend")
	}
	data, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	loaded, err := f.ctx.LoadModuleByID("mcp_auth.stores."+backend, data)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	m, ok := loaded.(StoreModule)
	if !ok {
		return fmt.Errorf("store: %T is no store", loaded)
	}
	// Of two that are the same, one may lack the key that both need.
	if known, ok := f.modules[m.Identity()]; !ok || boxOf(known) == nil {
		f.modules[m.Identity()] = m
	}
	return nil
}
