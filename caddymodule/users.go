package caddymodule

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Password hashes are made to be slow: one costs as much as some hundred proxied
// requests. Few run at a time, some wait, and the others are told to come back.
const (
	hashesAtOnce  = 2
	hashesWaiting = 32
	hashPatience  = 10 * time.Second
)

// Bounded queues of hashes for the whole process: one for people and one for
// clients, so that guesses about a client's secret keep nobody from signing in.
var (
	hashing       = newHashQueue()
	secretHashing = newHashQueue()
)

type hashQueue struct {
	running chan struct{}
	waiting chan struct{}
}

func newHashQueue() *hashQueue {
	return &hashQueue{make(chan struct{}, hashesAtOnce), make(chan struct{}, hashesAtOnce+hashesWaiting)}
}

// check compares a password with a hash of "caddy hash-password", or returns
// login.ErrBusy.
func (q *hashQueue) check(ctx context.Context, hash, password string) (bool, error) {
	select {
	case q.waiting <- struct{}{}:
		defer func() { <-q.waiting }()
	default:
		return false, login.ErrBusy
	}
	patience := time.NewTimer(hashPatience)
	defer patience.Stop()
	select {
	case q.running <- struct{}{}:
		defer func() { <-q.running }()
	case <-patience.C:
		return false, login.ErrBusy
	case <-ctx.Done():
		return false, ctx.Err()
	}
	var comparer caddyauth.Comparer = caddyauth.BcryptHash{}
	if strings.HasPrefix(hash, "$argon2id$") {
		comparer = caddyauth.Argon2idHash{}
	}
	return comparer.Compare([]byte(hash), []byte(password))
}

// localUsers are the users of the configuration.
type localUsers struct {
	byName map[string]localUser
	names  []string
}

type localUser struct {
	identity login.Identity
	hash     string
}

const localProvider = "local"

func newLocalUsers(users []User) *localUsers {
	l := &localUsers{byName: map[string]localUser{}}
	for _, u := range users {
		sum := sha256.Sum256([]byte(u.Hash))
		l.names = append(l.names, u.Name)
		l.byName[u.Name] = localUser{hash: u.Hash, identity: login.Identity{
			Subject: u.Name, Email: u.Email, Provider: localProvider,
			Stamp: base64.RawURLEncoding.EncodeToString(sum[:9]),
		}}
	}
	return l
}

// Authenticate implements login.Password. For an unknown user some user's hash is
// computed all the same, always the same one for a name, so that the time taken
// does not tell names apart.
func (l *localUsers) Authenticate(ctx context.Context, username, password string) (login.Identity, error) {
	u, known := l.byName[username]
	if !known {
		sum := sha256.Sum256([]byte(username))
		u = l.byName[l.names[binary.BigEndian.Uint64(sum[:])%uint64(len(l.names))]]
	}
	ok, err := hashing.check(ctx, u.hash, password)
	if errors.Is(err, login.ErrBusy) || ctx.Err() != nil {
		return login.Identity{}, login.ErrBusy
	}
	if err != nil || !ok || !known {
		// The comparers report a wrong password of some kinds as an error.
		return login.Identity{}, login.ErrDenied
	}
	return u.identity, nil
}

// Lookup implements login.Directory.
func (l *localUsers) Lookup(_ context.Context, subject string) (login.Identity, bool) {
	u, ok := l.byName[subject]
	return u.identity, ok
}

// configuredSecret checks the secret of a client of the configuration.
type configuredSecret struct {
	hash string // of "caddy hash-password", or "" when sum is of the secret itself

	// sum is the SHA-256 of the secret; with a hash, of the secret that was
	// right the last time, so that a client does not pay for the hash with
	// each of its tokens.
	sum atomic.Pointer[[sha256.Size]byte]
}

func newConfiguredSecret(secret string) client.SecretChecker {
	if isHash(secret) {
		return &configuredSecret{hash: secret}
	}
	c := &configuredSecret{}
	sum := sha256.Sum256([]byte(secret))
	c.sum.Store(&sum)
	return c
}

// Check implements client.SecretChecker.
func (c *configuredSecret) Check(ctx context.Context, secret string) (bool, error) {
	sum := sha256.Sum256([]byte(secret))
	if known := c.sum.Load(); known != nil && subtle.ConstantTimeCompare(sum[:], known[:]) == 1 {
		return true, nil
	}
	if c.hash == "" || len(secret) > maxClientSecret {
		return false, nil
	}
	ok, err := secretHashing.check(ctx, c.hash, secret)
	if errors.Is(err, login.ErrBusy) || ctx.Err() != nil {
		return false, login.ErrBusy
	}
	// The comparers report a wrong secret of some kinds as an error.
	right := err == nil && ok
	if right {
		c.sum.Store(&sum)
	}
	return right, nil
}

// maxClientSecret bounds a secret that is hashed slowly, in bytes.
const maxClientSecret = 1024
