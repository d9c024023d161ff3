package client

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Addition is a client as an operator adds it by a command.
type Addition struct {
	// ID is chosen by the operator: up to 128 characters of printable ASCII.
	ID string `json:"id"`

	// Name is what pages show. Default: the ID.
	Name string `json:"name,omitempty"`

	// RedirectURIs are where authorization responses may go.
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// GrantTypes default to DefaultGrantTypes.
	GrantTypes []string `json:"grant_types,omitempty"`

	// Scopes are the most that the client can have. Default: all.
	Scopes []string `json:"scopes,omitempty"`

	// JWKSURI is the https address of the keys of a client that authenticates
	// with private_key_jwt. A client without one gets a secret, unless it is
	// Public.
	JWKSURI string `json:"jwks_uri,omitempty"`
	Public  bool   `json:"public,omitempty"`
}

// AdditionError says what is wrong with an addition. Its text is for the operator.
type AdditionError string

// Error implements error.
func (e AdditionError) Error() string { return string(e) }

func badAddition(format string, args ...any) error {
	return AdditionError(fmt.Sprintf(format, args...))
}

// ErrExists says that there is a client with the id.
var ErrExists = errors.New("there is a client with this id already; remove it first, or choose another id")

// addedVersion is the schema version of clients that were added.
const addedVersion = 1

// addedRecord is the stored form of a client that was added. Its key is a hash, so
// that an id can be any text.
type addedRecord struct {
	Version      int          `json:"v"`
	ID           string       `json:"id"`
	Added        time.Time    `json:"added"`
	LastUsed     time.Time    `json:"last_used,omitzero"` // to about a day
	SecretHash   []byte       `json:"secret_hash,omitempty"`
	JWKSURI      string       `json:"jwks_uri,omitempty"`
	Name         string       `json:"name"`
	RedirectURIs []string     `json:"redirect_uris,omitempty"`
	GrantTypes   []string     `json:"grant_types"`
	Scopes       oauth.Scopes `json:"scopes,omitempty"`
}

func decodeAdded(data []byte) (*addedRecord, error) {
	rec := &addedRecord{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("stored client cannot be read: %w", err)
	}
	if rec.Version != addedVersion {
		return nil, fmt.Errorf("stored client has version %d; this program reads version %d", rec.Version, addedVersion)
	}
	return rec, nil
}

func (rec *addedRecord) client() *Client {
	c := &Client{
		ID: rec.ID, Kind: Added, Name: rec.Name, RedirectURIs: rec.RedirectURIs, GrantTypes: rec.GrantTypes,
		Scopes: rec.Scopes, Issued: rec.Added, LastUsed: rec.LastUsed, JWKSURI: rec.JWKSURI,
	}
	if rec.SecretHash != nil {
		c.Secret = randomSecret(rec.SecretHash)
	}
	return c
}

// Bounds of what an operator adds.
const (
	maxAddedID   = 128
	maxAddedName = 200 // characters
)

// CheckAddedID returns an error for what a client cannot be added as. Ids that
// mean another kind of client are among it, and a colon: HTTP Basic ends the id
// there, and the users of other logins have one in their names.
func CheckAddedID(id string) error {
	switch {
	case id == "" || len(id) > maxAddedID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }):
		return badAddition("%q is no id for a client: up to %d characters of printable ASCII without spaces", id, maxAddedID)
	case strings.Contains(id, "://"):
		return badAddition("%q is the id of a client with a metadata document, which introduces itself", id)
	case strings.Contains(id, ":"):
		return badAddition("%q has a colon, which no id of a client may have", id)
	case strings.HasPrefix(id, idPrefix):
		return badAddition("ids that begin with %s are for clients that register themselves; choose another one", idPrefix)
	}
	return nil
}

// CheckJWKSURI accepts the https address of a set of keys. Unlike those of
// strangers it may be in a private network.
func CheckJWKSURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || oauth.CheckRedirectURI(uri) != nil {
		return errors.New("is no https address of a set of keys")
	}
	return nil
}

// DefaultGrantTypes are those of a client of the operator's that names none:
// people sign in where there are redirect URIs.
func DefaultGrantTypes(redirectURIs []string) []string {
	if len(redirectURIs) > 0 {
		return []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
	}
	return []string{oauth.GrantClientCredentials}
}

// check returns an AdditionError for a client that cannot be.
func (a *Addition) check() error {
	if err := CheckAddedID(a.ID); err != nil {
		return err
	}
	if !utf8.ValidString(a.Name) || utf8.RuneCountInString(a.Name) > maxAddedName || strings.ContainsFunc(a.Name, unicode.IsControl) {
		return badAddition("the name is longer than %d characters, or has control characters", maxAddedName)
	}
	if len(a.RedirectURIs) > oauth.MaxRedirectURIs {
		return badAddition("there are more than %d redirect URIs", oauth.MaxRedirectURIs)
	}
	for _, uri := range a.RedirectURIs {
		if err := oauth.CheckRedirectURI(uri); err != nil {
			return badAddition("the redirect URI %q %v", uri, err)
		}
	}
	for _, scope := range a.Scopes {
		if !oauth.ValidScopeToken(scope) {
			return badAddition("%q is no scope", scope)
		}
	}
	if len(a.Scopes) > oauth.MaxScopes {
		return badAddition("there are more than %d scopes", oauth.MaxScopes)
	}
	if a.JWKSURI != "" {
		if err := CheckJWKSURI(a.JWKSURI); err != nil {
			return badAddition("%q %v", a.JWKSURI, err)
		}
	}
	if a.Public && a.JWKSURI != "" {
		return badAddition("a client with keys is not public")
	}
	return a.checkGrantTypes()
}

// checkGrantTypes demands what each grant type needs.
func (a *Addition) checkGrantTypes() error {
	for _, name := range a.GrantTypes {
		switch {
		case !slices.Contains(offered, name):
			return badAddition("there is no grant type %q; those are %s", name, strings.Join(offered, ", "))
		case name == oauth.GrantAuthorizationCode && len(a.RedirectURIs) == 0:
			return badAddition("a client that people sign in with needs a redirect URI, where answers go")
		case name == oauth.GrantClientCredentials && a.Public:
			// RFC 6749 section 4.4: confidential clients only.
			return badAddition("a client that acts for itself authenticates, so it cannot be public")
		}
	}
	if slices.Equal(a.GrantTypes, []string{oauth.GrantRefreshToken}) {
		return badAddition("the grant type refresh_token needs another one beside it")
	}
	return nil
}

// offered are the grant types that operators can give to a client.
var offered = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials, oauth.GrantDeviceCode}

// Add makes a client of the operator's. The secret is "" for a client without one;
// it is kept as a hash only. The error is an AdditionError or ErrExists, or the
// store failed.
func (d *Directory) Add(ctx context.Context, a Addition) (c *Client, secret string, err error) {
	if len(a.GrantTypes) == 0 {
		a.GrantTypes = DefaultGrantTypes(a.RedirectURIs)
	}
	if err := a.check(); err != nil {
		return nil, "", err
	}
	rec := &addedRecord{
		Version: addedVersion, ID: a.ID, Added: time.Now().UTC().Truncate(time.Second), Name: a.Name,
		RedirectURIs: a.RedirectURIs, GrantTypes: a.GrantTypes, Scopes: a.Scopes, JWKSURI: a.JWKSURI,
	}
	if rec.Name == "" {
		rec.Name = a.ID
	}
	if !a.Public && a.JWKSURI == "" {
		secret, rec.SecretHash = newSecret()
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, "", err
	}
	if len(data) > store.MaxValueLength {
		return nil, "", badAddition("all of that is too long; give fewer redirect URIs")
	}
	err = d.store.Update(ctx, d.addedKey(a.ID), func(r store.Record) (store.Record, error) {
		if r.Exists() {
			return r, ErrExists
		}
		return store.Record{Value: data}, nil
	})
	if err != nil {
		return nil, "", err
	}
	return rec.client(), secret, nil
}

func (d *Directory) addedKey(id string) string { return d.added + keyText(id) }

// byOperator returns a client that was added.
func (d *Directory) byOperator(ctx context.Context, id string) (*Client, error) {
	if CheckAddedID(id) != nil {
		return nil, ErrUnknown
	}
	stored, err := d.store.Get(ctx, d.addedKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	rec, err := decodeAdded(stored.Value)
	if err != nil {
		return nil, err
	}
	return rec.client(), nil
}

// addedUseInterval is how often the use of a client that was added is written down.
const addedUseInterval = 24 * time.Hour

func (d *Directory) touchAdded(ctx context.Context, c *Client) error {
	if time.Since(c.LastUsed) < addedUseInterval {
		return nil
	}
	return d.store.Update(ctx, d.addedKey(c.ID), func(r store.Record) (store.Record, error) {
		if !r.Exists() {
			return r, ErrUnknown
		}
		rec, err := decodeAdded(r.Value)
		if err != nil {
			return r, err
		}
		rec.LastUsed = time.Now().UTC().Truncate(time.Second)
		r.Value, err = json.Marshal(rec)
		return r, err
	})
}

// AddedVersion is the schema version of clients that were added.
const AddedVersion = addedVersion

// CheckAdded returns an error for a client that was added which this package could
// not have written at a key, of which name is what follows "added/".
func CheckAdded(name string, value []byte) error {
	rec, err := decodeAdded(value)
	if err != nil {
		return err
	}
	a := Addition{
		ID: rec.ID, Name: rec.Name, RedirectURIs: rec.RedirectURIs, GrantTypes: rec.GrantTypes, Scopes: rec.Scopes,
		JWKSURI: rec.JWKSURI, Public: rec.SecretHash == nil && rec.JWKSURI == "",
	}
	switch {
	case keyText(rec.ID) != name:
		return errors.New("the key is not that of the stored client")
	case rec.Added.IsZero() || rec.Name == "" || len(rec.GrantTypes) == 0:
		return errors.New("stored client is incomplete")
	case rec.SecretHash != nil && (len(rec.SecretHash) != sha256.Size || rec.JWKSURI != ""):
		return errors.New("stored client has a secret that does not fit how it authenticates")
	}
	return a.check()
}
