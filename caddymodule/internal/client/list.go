package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// All yields every client that the server knows: those of the configuration, those
// that were added or registered, and those whose metadata document is kept. It
// reads all of their records, so it is for operators. A record that cannot be read
// is left out, with a line in the log. The loop may call the store. An error ends the
// sequence.
func (d *Directory) All(ctx context.Context) iter.Seq2[*Client, error] {
	return func(yield func(*Client, error) bool) {
		for _, c := range d.cfg.Configured {
			if !yield(c, nil) {
				return
			}
		}
		for _, folder := range []struct {
			prefix string
			read   func(name string, r store.Record) (*Client, error)
		}{
			{d.added, readAdded}, {d.prefix, readRegistered}, {d.documents, readCopy},
		} {
			for e, err := range store.UniqueEntries(d.store.List(ctx, folder.prefix)) {
				if err != nil {
					yield(nil, err)
					return
				}
				c, err := d.readListed(ctx, e.Key, folder.prefix, folder.read)
				if err != nil {
					yield(nil, err)
					return
				}
				if c != nil && !yield(c, nil) {
					return
				}
			}
		}
	}
}

// readListed reads a client that a list has; nil when it is gone or unreadable.
func (d *Directory) readListed(ctx context.Context, key, prefix string, read func(string, store.Record) (*Client, error)) (*Client, error) {
	r, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := read(key[len(prefix):], r)
	if err != nil {
		d.cfg.Log.Warn("a stored client cannot be read; 'caddy mcp-auth store check' tells more", zap.String("key", key), zap.Error(err))
		return nil, nil
	}
	return c, nil
}

func readAdded(_ string, r store.Record) (*Client, error) {
	rec, err := decodeAdded(r.Value)
	if err != nil {
		return nil, err
	}
	return rec.client(), nil
}

func readRegistered(name string, r store.Record) (*Client, error) {
	rec, err := decode(r.Value)
	if err != nil {
		return nil, err
	}
	return rec.client(idPrefix+name, r.Expires), nil
}

func readCopy(_ string, r store.Record) (*Client, error) {
	rec, err := decodeCopy(r.Value)
	if err != nil {
		return nil, err
	}
	var own struct {
		ID string `json:"client_id"`
	}
	if err := json.Unmarshal(rec.Document, &own); err != nil {
		return nil, fmt.Errorf("stored metadata document cannot be read: %w", err)
	}
	doc, err := newDocument(own.ID, rec.Document)
	if err != nil {
		return nil, err
	}
	c := *doc.client
	c.Expires = r.Expires
	return &c, nil
}

// IsConfigured reports whether the configuration has a client with the id. It
// overrules what the store has.
func (d *Directory) IsConfigured(id string) bool { return d.configured[id] != nil }

// Stored returns what the store has about a client, whatever the configuration
// says, or ErrUnknown.
func (d *Directory) Stored(ctx context.Context, id string) (*Client, error) {
	key, ok := d.storeKey(id)
	if !ok {
		return nil, ErrUnknown
	}
	r, err := d.store.Get(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrUnknown
	case err != nil:
		return nil, err
	case oauth.LooksLikeDocument(id):
		return readCopy("", r)
	case CheckAddedID(id) == nil:
		return readAdded("", r)
	}
	return readRegistered(id[len(idPrefix):], r)
}

// storeKey is where a client with the id is stored, of whichever kind it is.
func (d *Directory) storeKey(id string) (string, bool) {
	if oauth.LooksLikeDocument(id) {
		return d.documentKey(id), true
	}
	if key, ok := d.key(id); ok {
		return key, true
	}
	return d.addedKey(id), CheckAddedID(id) == nil
}

// Remove forgets what the store has about a client. It is for operators; what the
// client was allowed is left to the caller.
func (d *Directory) Remove(ctx context.Context, id string) error {
	if oauth.LooksLikeDocument(id) {
		return d.forget(ctx, id, d.webKey(id))
	}
	key, ok := d.storeKey(id)
	if !ok {
		return nil
	}
	return d.store.Delete(ctx, key)
}

// NeverReturns reports whether an id is one that this server has made, so that no
// other client will ever have it.
func NeverReturns(id string) bool {
	_, ok := (&Directory{}).key(id)
	return ok
}
