// This file implements the public keys of clients: RFC 7517 (JSON Web Key), in
// the members jwks and jwks_uri of RFC 7591 section 2.

package client

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
)

// Bounds of a set of keys. RSA keys of less than 2048 bits are not to be used
// (RFC 7518 section 3.3), and much larger ones cost more than they bring.
const (
	maxKeys    = 16
	minRSABits = 2048
	maxRSABits = 8192
)

// Keys are the public keys of a client.
type Keys []jose.JSONWebKey

// ParseKeys reads a set of public keys (RFC 7517 section 5). Keys of kinds that
// are not known are left out; a secret among them is an error, since everyone can
// read it.
func ParseKeys(data []byte) (Keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("the keys are not a JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("there are more than %d keys", maxKeys)
	}
	keys := Keys{}
	for _, raw := range set.Keys {
		var parts map[string]json.RawMessage
		if json.Unmarshal(raw, &parts) != nil {
			return nil, errors.New("a key is not a JSON object")
		}
		if parts["d"] != nil || parts["k"] != nil || parts["p"] != nil {
			return nil, errors.New("a key is secret, and everyone can read it")
		}
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if public, ok := key.Key.(*rsa.PublicKey); ok && (public.N.BitLen() < minRSABits || public.N.BitLen() > maxRSABits) {
			continue
		}
		key.Certificates, key.CertificatesURL = nil, nil
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key to check signatures with")
	}
	return keys, nil
}

// fit are the keys that a signature with the header may have been made with.
func (k Keys) fit(header jose.Header) Keys {
	var out Keys
	for _, key := range k {
		named := header.KeyID == "" || key.KeyID == header.KeyID
		if named && (key.Algorithm == "" || key.Algorithm == header.Algorithm) {
			out = append(out, key)
		}
	}
	return out
}

// remoteKeys are keys that were fetched.
type remoteKeys struct {
	keys           Keys
	fetched, fresh time.Time
}

// keysOf returns the keys of a client. With renew it fetches them anew if they
// are on the web and were not fetched within the last minute: the client may have
// a new key.
func (d *Directory) keysOf(ctx context.Context, c *Client, renew bool) (Keys, error) {
	if c.JWKSURI == "" {
		return c.Keys, nil
	}
	reach := d.reach(c.JWKSURI)
	if c.ByOperator() {
		reach = outbound.Anywhere
	} else if err := oauth.CheckClientIDURL(c.JWKSURI, d.cfg.Documents.Loopback); err != nil {
		return nil, fmt.Errorf("jwks_uri %w", err)
	}
	key := fmt.Sprint(int(reach), " ", c.JWKSURI)
	found, ok := d.cfg.Web.keys.Get(key)
	var last *remoteKeys
	if ok {
		last = found.(*remoteKeys)
		now := time.Now()
		if now.Before(last.fresh) && (!renew || now.Sub(last.fetched) < outbound.MinFresh) {
			return last.keys, nil
		}
	}
	got, err := d.cfg.Web.fetcher.Get(ctx, reach, c.JWKSURI, func(body []byte) (any, error) { return ParseKeys(body) })
	if err != nil {
		d.cfg.Log.Info("the keys of a client cannot be fetched", zap.String("client_id", c.ID),
			zap.String("jwks_uri", strings.ToValidUTF8(c.JWKSURI, "")), zap.Error(err))
		if last == nil {
			return nil, fmt.Errorf("the keys of the client cannot be fetched: %w", err)
		}
		return last.keys, nil
	}
	now := time.Now()
	fetched := &remoteKeys{keys: got.Value.(Keys), fetched: now, fresh: now.Add(got.Fresh)}
	// Old keys are better than none for a while.
	d.cfg.Web.keys.Set(key, fetched, got.Fresh+staleTime)
	return fetched.keys, nil
}
