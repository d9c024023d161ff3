package caddymodule

import (
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// StoreModule is what modules in the namespace mcp_auth.stores implement. It
// describes a store; the app opens it when the configuration starts, and keeps
// it open while any configuration uses it.
type StoreModule interface {
	caddy.Module

	// Identity says which store this is. Two modules with the same identity
	// share one open store, also across reloads of the configuration.
	Identity() string

	// Open opens the store.
	Open() (store.Store, error)
}

// maxMemoryRecords bounds the memory store. At some 500 bytes a record it is
// about 500 MB when it is full.
const maxMemoryRecords = 1_000_000

// FileStore keeps the state in one file. It survives restarts and crashes, and
// serves one Caddy process at a time.
type FileStore struct {
	// Where the file is. Default: mcp_auth/state.db in Caddy's data directory.
	Path string `json:"path,omitempty"`

	Encryption
}

// CaddyModule returns the Caddy module information.
func (FileStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth.stores.file", New: func() caddy.Module { return new(FileStore) }}
}

// Provision fills in the default path. A placeholder in a path must stand for
// something, or the state would be somewhere else without a word.
func (s *FileStore) Provision(caddy.Context) error {
	path, err := resolver{caddy.NewReplacer()}.required(s.Path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "mcp_auth", "state.db")
	}
	if s.Path, err = filepath.Abs(path); err != nil {
		return err
	}
	return s.provisionEncryption()
}

// Identity implements StoreModule.
func (s *FileStore) Identity() string { return "file:" + s.Path }

// Open implements StoreModule.
func (s *FileStore) Open() (store.Store, error) { return filestore.Open(s.Path) }

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store file [<path>] {
//		encryption_key <key> [<old keys...>]
//	}
func (s *FileStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the store
	if d.NextArg() {
		s.Path = d.Val()
	}
	p := storeParser(d)
	return p.storeBlock("store file", "store file [<path>] { … }", s.encryptionLines(p))
}

// MemoryStore keeps the state in memory. A restart forgets it; a reload of the
// configuration does not.
type MemoryStore struct{}

// CaddyModule returns the Caddy module information.
func (MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth.stores.memory", New: func() caddy.Module { return new(MemoryStore) }}
}

// Identity implements StoreModule.
func (MemoryStore) Identity() string { return "memory" }

// Open implements StoreModule.
func (MemoryStore) Open() (store.Store, error) { return memstore.New(maxMemoryRecords), nil }

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store memory
func (*MemoryStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the store
	return storeParser(d).storeBlock("store memory", "store memory", nil)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*FileStore)(nil)
	_ caddyfile.Unmarshaler = (*FileStore)(nil)
	_ caddyfile.Unmarshaler = (*MemoryStore)(nil)
	_ StoreModule           = (*FileStore)(nil)
	_ StoreModule           = (*MemoryStore)(nil)
)
