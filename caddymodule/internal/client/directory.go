package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// ErrUnknown says that there is no client with the id.
var ErrUnknown = errors.New("unknown client")

// recordVersion is the schema version of stored registrations.
const recordVersion = 1

// idPrefix starts the ids that this server makes, so that they can never be
// taken for the URL of a metadata document.
const idPrefix = "mcp_"

// UnusedLifetime is how long a registration lives that never led to a grant.
const UnusedLifetime = 24 * time.Hour

// Config of a directory.
type Config struct {
	Configured []*Client

	// Policy of dynamic registration.
	Policy HostPolicy

	// ExpireAfter is how long a registration lives at least after its last use.
	ExpireAfter time.Duration

	// Budget bounds what is kept of registrations before their first use; nil
	// for a full one.
	Budget *Budget

	// Documents says which metadata documents are looked at.
	Documents DocumentPolicy

	// Web is what is known of documents and keys on the web; nil for nothing.
	Web *Web

	// Discovered is told of each document of a stranger that was fetched, with
	// the reason when it was refused; nil for nobody.
	Discovered func(error)

	// Log gets the reasons why documents are refused; nil for no log.
	Log *zap.Logger

	// Trusted reports that whoever registers a service account has shown an
	// initial access token, so that no bound is needed.
	Trusted bool
}

// Directory finds clients and registers new ones.
type Directory struct {
	store      store.Store
	prefix     string // of registrations
	added      string // prefix of the clients that operators have added
	documents  string // prefix of the copies of documents
	assertions string // prefix of the marks of used assertions
	cfg        Config
	configured map[string]*Client
}

// NewDirectory keeps registrations in s below prefix.
func NewDirectory(s store.Store, prefix string, cfg Config) *Directory {
	if cfg.Budget == nil {
		cfg.Budget = NewBudget()
	}
	if cfg.Web == nil {
		cfg.Web = NewWeb()
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Discovered == nil {
		cfg.Discovered = func(error) {}
	}
	d := &Directory{
		store: s, prefix: prefix + "client/", added: prefix + "added/", documents: prefix + "document/",
		assertions: prefix + "assertion/", cfg: cfg, configured: make(map[string]*Client),
	}
	for _, c := range cfg.Configured {
		d.configured[c.ID] = c
	}
	return d
}

// record is the stored form of a registration. Earlier programs wrote neither the
// hash of the registration access token nor the last use.
type record struct {
	Version        int                  `json:"v"`
	Issued         time.Time            `json:"issued"`
	SecretHash     []byte               `json:"secret_hash,omitempty"`
	ManagementHash []byte               `json:"management_hash,omitempty"` // of the registration access token
	LastUsed       time.Time            `json:"last_used,omitzero"`        // about; zero until somebody has allowed it something
	Metadata       oauth.ClientMetadata `json:"metadata"`
}

// Get returns the client with the id, or ErrUnknown. Another error means that
// the store failed. Of clients with a metadata document it knows those that
// somebody has allowed something.
func (d *Directory) Get(ctx context.Context, id string) (*Client, error) {
	return d.get(ctx, id, knownOnly, nil)
}

// Discover is Get for clients that nobody has allowed anything yet: it also
// fetches the metadata documents of strangers. may is asked before it does so,
// and counts what somebody makes this server fetch; nil permits all.
func (d *Directory) Discover(ctx context.Context, id string, may func() bool) (*Client, error) {
	return d.get(ctx, id, anybody, may)
}

// Recall is Get for a look back: it fetches nothing.
func (d *Directory) Recall(ctx context.Context, id string) (*Client, error) {
	return d.get(ctx, id, fromMemory, nil)
}

func (d *Directory) get(ctx context.Context, id string, from source, may func() bool) (*Client, error) {
	if c, ok := d.configured[id]; ok {
		return c, nil
	}
	if oauth.LooksLikeDocument(id) {
		return d.described(ctx, id, from, may)
	}
	if key, ok := d.key(id); ok {
		return d.registered(ctx, id, key)
	}
	return d.byOperator(ctx, id)
}

// registered returns a client that registered itself.
func (d *Directory) registered(ctx context.Context, id, key string) (*Client, error) {
	stored, rec, err := d.registration(ctx, key)
	if err != nil {
		return nil, err
	}
	return rec.client(id, stored.Expires), nil
}

// registration reads a registration, or returns ErrUnknown.
func (d *Directory) registration(ctx context.Context, key string) (store.Record, *record, error) {
	stored, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return stored, nil, ErrUnknown
	}
	if err != nil {
		return stored, nil, err
	}
	rec, err := decode(stored.Value)
	return stored, rec, err
}

// client is a registration as a client.
func (rec *record) client(id string, expires time.Time) *Client {
	c := &Client{
		ID: id, Kind: Registered, Name: rec.Metadata.ClientName,
		RedirectURIs: rec.Metadata.RedirectURIs, GrantTypes: rec.Metadata.GrantTypes,
		AuthMethod: rec.Metadata.TokenEndpointAuthMethod,
		Issued:     rec.Issued, LastUsed: rec.LastUsed, Expires: expires,
	}
	if rec.SecretHash != nil {
		c.Secret = randomSecret(rec.SecretHash)
	}
	return c
}

func decode(data []byte) (*record, error) {
	rec := &record{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("stored client cannot be read: %w", err)
	}
	if rec.Version != recordVersion {
		return nil, fmt.Errorf("stored client has version %d; this program reads version %d", rec.Version, recordVersion)
	}
	return rec, nil
}

// key is the store key of an id that this server could have made.
func (d *Directory) key(id string) (string, bool) {
	rest, ok := strings.CutPrefix(id, idPrefix)
	if !ok || len(rest) != len(rand.Text()) || store.CheckKey(rest) != nil || strings.Contains(rest, "/") {
		return "", false
	}
	return d.prefix + rest, true
}

// errRegistrationOff holds for clients without redirect URIs as well, which the
// list of hosts cannot stop.
var errRegistrationOff = &oauth.Error{
	Code: "access_denied", Status: http.StatusForbidden,
	Description: "dynamic client registration is off; ask whoever runs this server for a client_id",
}

// Register makes a client of normalized metadata (RFC 7591 section 3). A policy
// that does not permit it is an *oauth.Error, and so is a lack of room.
func (d *Directory) Register(ctx context.Context, m oauth.ClientMetadata) (*oauth.ClientInformation, error) {
	if err := d.permits(m); err != nil {
		return nil, err
	}
	now := time.Now()
	rec := record{Version: recordVersion, Issued: now.UTC().Truncate(time.Second), Metadata: m}
	id := rand.Text()
	info := rec.information(idPrefix + id)
	info.RegistrationAccessToken, rec.ManagementHash = newSecret()
	if m.TokenEndpointAuthMethod != oauth.AuthNone {
		info.ClientSecret, rec.SecretHash = newSecret()
		info.ClientSecretExpiresAt = new(int64)
	}
	data, err := rec.encode()
	if err != nil {
		return nil, err
	}
	lifetime, err := d.lifetime(m, len(data), now)
	if err != nil {
		return nil, err
	}
	if err := d.store.Put(ctx, d.prefix+id, store.Record{Value: data, Expires: now.Add(lifetime)}); err != nil {
		return nil, err
	}
	return info, nil
}

// information is what a client gets to know about its registration, without the
// secrets, of which only hashes are kept.
func (rec *record) information(id string) *oauth.ClientInformation {
	return &oauth.ClientInformation{ClientID: id, ClientIDIssuedAt: rec.Issued.Unix(), ClientMetadata: rec.Metadata}
}

func (rec *record) encode() ([]byte, error) {
	data, err := json.Marshal(rec)
	if err == nil && len(data) > store.MaxValueLength {
		// JSON may need six bytes for one of the request.
		err = oauth.InvalidClientMetadata("the metadata is too long; register fewer redirect_uris")
	}
	return data, err
}

// permits checks the policy.
func (d *Directory) permits(m oauth.ClientMetadata) error {
	if d.cfg.Policy.Off {
		return errRegistrationOff
	}
	for i, uri := range m.RedirectURIs {
		if !d.cfg.Policy.Permits(uri) {
			return oauth.InvalidRedirectURI(fmt.Sprintf(
				"redirect_uris[%d] is at a place that this server accepts no registrations for", i))
		}
	}
	return nil
}

// lifetime is how long a registration lives before its first use. What strangers
// store is taken from the budget.
func (d *Directory) lifetime(m oauth.ClientMetadata, length int, now time.Time) (time.Duration, error) {
	if d.cfg.Trusted && slices.Contains(m.GrantTypes, oauth.GrantClientCredentials) {
		// A service account may wait longer for its first use.
		return d.cfg.ExpireAfter, nil
	}
	lifetime, wait := d.cfg.Budget.spend(now, length)
	if lifetime == 0 {
		return 0, oauth.TooManyRequests("too many clients are registering at the moment; try again later",
			int(math.Ceil(wait.Seconds())))
	}
	return lifetime, nil
}

// Touch notes that a client is in use. It keeps a registration for at least
// ExpireAfter from now on. A little more is written than that, so that there is a
// write at most about once a day for each client. A client that was removed since
// it was looked up is ErrUnknown, if the write would have been due.
func (d *Directory) Touch(ctx context.Context, c *Client) error {
	switch c.Kind {
	case Described:
		return d.touchDocument(ctx, c)
	case Added:
		return d.touchAdded(ctx, c)
	case Registered:
		return d.touchRegistration(ctx, c)
	case Configured:
	}
	return nil
}

func (d *Directory) touchRegistration(ctx context.Context, c *Client) error {
	if !c.LastUsed.IsZero() && time.Until(c.Expires) >= d.cfg.ExpireAfter {
		return nil
	}
	key, ok := d.key(c.ID)
	if !ok {
		return ErrUnknown
	}
	return d.store.Update(ctx, key, func(r store.Record) (store.Record, error) {
		if !r.Exists() {
			return r, ErrUnknown
		}
		rec, err := decode(r.Value)
		if err != nil {
			return r, err
		}
		rec.LastUsed = time.Now().UTC().Truncate(time.Second)
		r.Expires = d.prolonged()
		r.Value, err = rec.encode()
		return r, err
	})
}

// prolonged is when a record lapses that is in use now.
func (d *Directory) prolonged() time.Time {
	return time.Now().Add(d.cfg.ExpireAfter + min(24*time.Hour, d.cfg.ExpireAfter/4))
}

// Known reports whether the operator listed the place that a redirect URI names.
func (d *Directory) Known(uri string) bool { return d.cfg.Policy.Names(uri) }

// newSecret makes a secret and the hash that is kept of it.
func newSecret() (secret string, hash []byte) {
	secret = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return secret, sum[:]
}

// randomSecret is the SHA-256 of a secret that this server made. It has more
// than 128 random bits, so a fast hash is enough.
type randomSecret []byte

// Check implements SecretChecker.
func (h randomSecret) Check(_ context.Context, secret string) (bool, error) {
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(sum[:], h) == 1, nil
}
