package client

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// manages reports whether the token is the registration access token of the
// client. A registration of before there were such tokens has none.
func (rec *record) manages(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], rec.ManagementHash) == 1
}

// managed returns the registration of a client that presents a registration
// access token. What is wrong with either is one and the same *oauth.Error.
func (d *Directory) managed(ctx context.Context, id, token string) (string, *record, error) {
	key, ok := d.key(id)
	if _, configured := d.configured[id]; configured || !ok || token == "" {
		return "", nil, oauth.InvalidRegistrationToken()
	}
	_, rec, err := d.registration(ctx, key)
	if errors.Is(err, ErrUnknown) || err == nil && !rec.manages(token) {
		return "", nil, oauth.InvalidRegistrationToken()
	}
	return key, rec, err
}

// updateManaged changes a registration in one atomic step, if it is still there
// and still has the token.
func (d *Directory) updateManaged(ctx context.Context, key, token string, change func(*record, store.Record) (store.Record, error)) error {
	return d.store.Update(ctx, key, func(r store.Record) (store.Record, error) {
		if !r.Exists() {
			return r, oauth.InvalidRegistrationToken()
		}
		rec, err := decode(r.Value)
		if err != nil {
			return r, err
		}
		if !rec.manages(token) {
			return r, oauth.InvalidRegistrationToken()
		}
		return change(rec, r)
	})
}

// Registration returns what a client has registered (RFC 7592 section 2.1). The
// token is in the answer as it was presented; the client secret is not, as only
// its hash is kept.
func (d *Directory) Registration(ctx context.Context, id, token string) (*oauth.ClientInformation, error) {
	_, rec, err := d.managed(ctx, id, token)
	if err != nil {
		return nil, err
	}
	info := rec.information(id)
	info.RegistrationAccessToken = token
	return info, nil
}

// Replace replaces the normalized metadata of a client (RFC 7592 section 2.2). The
// policy of registrations holds, and an update takes as much of what strangers may
// store as a registration does. A client that begins to authenticate gets a secret.
func (d *Directory) Replace(ctx context.Context, id, token string, u oauth.ClientUpdate) (*oauth.ClientInformation, error) {
	key, rec, err := d.managed(ctx, id, token)
	if err != nil {
		return nil, err
	}
	if err := d.mayReplace(rec, id, u); err != nil {
		return nil, err
	}
	rec.Metadata = u.ClientMetadata
	data, err := rec.encode()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	lifetime, err := d.lifetime(u.ClientMetadata, len(data), now)
	if err != nil {
		return nil, err
	}
	fresh, freshHash := newSecret()
	var info *oauth.ClientInformation
	err = d.updateManaged(ctx, key, token, func(rec *record, r store.Record) (store.Record, error) {
		rec.Metadata = u.ClientMetadata
		info = rec.information(id)
		info.RegistrationAccessToken = token
		switch {
		case rec.Metadata.TokenEndpointAuthMethod == oauth.AuthNone:
			rec.SecretHash = nil
		case rec.SecretHash == nil:
			rec.SecretHash = freshHash
			info.ClientSecret, info.ClientSecretExpiresAt = fresh, new(int64)
		}
		if end := now.Add(lifetime); rec.LastUsed.IsZero() && end.Before(r.Expires) {
			r.Expires = end
		}
		var err error
		r.Value, err = rec.encode()
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return info, nil
}

// mayReplace checks an update against the registration and the policy.
func (d *Directory) mayReplace(rec *record, id string, u oauth.ClientUpdate) error {
	if u.ClientID != id {
		return oauth.InvalidClientMetadata("client_id must be the one of the client")
	}
	if u.ClientSecret != "" {
		sum := sha256.Sum256([]byte(u.ClientSecret))
		if subtle.ConstantTimeCompare(sum[:], rec.SecretHash) != 1 {
			return oauth.InvalidClientMetadata("client_secret must be the one of the client, or be left out")
		}
	}
	machine := func(m oauth.ClientMetadata) bool { return slices.Contains(m.GrantTypes, oauth.GrantClientCredentials) }
	if d.cfg.Trusted && machine(u.ClientMetadata) && !machine(rec.Metadata) {
		// The request has no room for an initial access token.
		return oauth.InvalidClientMetadata("a client cannot become a service account; register for client_credentials " +
			"with an initial access token")
	}
	return d.permits(u.ClientMetadata)
}

// errInUse stops the removal of a client that was used for the first time since it
// was looked at.
var errInUse = errors.New("the client is in use")

// Deregister ends a registration (RFC 7592 section 2.3). If somebody has ever
// allowed the client something, revoke is called first: it ends its access tokens.
// What nobody has used leaves nothing behind, so that strangers who come and go
// cannot fill anything up.
func (d *Directory) Deregister(ctx context.Context, id, token string, revoke func() error) error {
	for {
		key, rec, err := d.managed(ctx, id, token)
		if err != nil {
			return err
		}
		used := !rec.LastUsed.IsZero()
		if used {
			if err := revoke(); err != nil {
				return err
			}
		}
		err = d.updateManaged(ctx, key, token, func(rec *record, r store.Record) (store.Record, error) {
			if !used && !rec.LastUsed.IsZero() {
				return r, errInUse
			}
			return store.Record{}, nil
		})
		if !errors.Is(err, errInUse) {
			return err
		}
	}
}
