package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
)

// Encryption seals the signing keys in a store, so that a stolen copy of it holds
// nothing to make tokens with. Everything else in a store is a hash or says
// nothing that lets somebody act.
type Encryption struct {
	// The key that seals: 32 random bytes in base64 or hexadecimal, as
	// "openssl rand -base64 32" prints them. It should be a placeholder such as
	// {env.MCP_STORAGE_KEY}. Keys that were stored before are sealed at the
	// next start. Default: none.
	EncryptionKey string `json:"encryption_key,omitempty"`

	// Further keys that open what was sealed with them. To change the key of
	// several nodes, let all of them know the new key first.
	OldEncryptionKeys []string `json:"old_encryption_keys,omitempty"`

	box *seal.Box
}

// provisionEncryption replaces the placeholders of the keys.
func (e *Encryption) provisionEncryption() error {
	if e.EncryptionKey == "" {
		return nil
	}
	r := resolver{caddy.NewReplacer()}
	var keys []string
	for _, configured := range append([]string{e.EncryptionKey}, e.OldEncryptionKeys...) {
		key, err := r.required(configured)
		if err != nil {
			return fmt.Errorf("encryption_key: %w", err)
		}
		keys = append(keys, key)
	}
	var err error
	if e.box, err = seal.New(keys...); err != nil {
		return fmt.Errorf("encryption_key: %w", err)
	}
	return nil
}

// sealBox implements sealing.
func (e *Encryption) sealBox() *seal.Box { return e.box }

// sealing is implemented by store modules with an encryption_key.
type sealing interface{ sealBox() *seal.Box }

// boxOf returns what seals the keys in a store; nil when nothing does.
func boxOf(m StoreModule) *seal.Box {
	if s, ok := m.(sealing); ok {
		return s.sealBox()
	}
	return nil
}

// encryptionLines are the lines of the block of a store about encryption.
func (e *Encryption) encryptionLines(p *parser) map[string]subdirective {
	return map[string]subdirective{
		"encryption_key": {
			usage:   "encryption_key <key> [<old keys...>]",
			example: "encryption_key {env.MCP_STORAGE_KEY}",
			read: func() error {
				if err := p.text(&e.EncryptionKey)(); err != nil {
					return err
				}
				e.OldEncryptionKeys = p.RemainingArgs()
				return nil
			},
		},
	}
}
