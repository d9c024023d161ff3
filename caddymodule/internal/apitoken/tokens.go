package apitoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/feed"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// MaxTokens is how many tokens an issuer can have: all of them are remembered on
// each node.
const MaxTokens = 1000

// Faults of whoever makes or revokes a token.
var (
	ErrExists  = errors.New("there is a token of that name. Take another name, or revoke that token first")
	ErrTooMany = fmt.Errorf("there are %d tokens already, and no room for more. Revoke those that nobody uses", MaxTokens)
	ErrUnknown = errors.New("there is no token of that name")
)

// Spec describes a token that is to be made.
type Spec struct {
	Name string

	// Scopes are the most that it can do; none for all that there are.
	Scopes oauth.Scopes

	// Resource is the address of the only resource that it is good for; "" for
	// all.
	Resource string

	// RegistrationOnly makes a token that lets clients register and does
	// nothing else.
	RegistrationOnly bool

	// Expires is when it ends; zero for never.
	Expires time.Time
}

// Info tells of a token what operators may know.
type Info struct {
	Name             string       `json:"name"`
	Scopes           oauth.Scopes `json:"scopes,omitempty"`
	Resource         string       `json:"resource,omitempty"`
	RegistrationOnly bool         `json:"registration_only,omitempty"`
	Created          time.Time    `json:"created"`
	Expires          time.Time    `json:"expires,omitzero"`

	// LastUsed is zero for never, and may be some minutes old for uses at
	// another node.
	LastUsed time.Time `json:"last_used,omitzero"`
}

// Tokens are the tokens of one issuer. Requests are checked with what is
// remembered here, which is fed by the store.
type Tokens struct {
	store  store.Store
	prefix string
	log    *zap.Logger

	// taking is held from before the store is asked or changed until the answer
	// is in current. Otherwise an answer from before a token was revoked could
	// come last, and bring that token back.
	taking sync.Mutex

	current atomic.Pointer[set]

	// ended is called for tokens that are no more; see Notify.
	ended func(id string)
}

// set is one immutable state of what is remembered.
type set struct {
	byName map[string]*held
	byHash map[digest]*held
	byID   map[string]*held
}

// held is a token that is remembered.
type held struct {
	record
	name    string
	expires time.Time

	used  atomic.Int64 // when a request came with it last at this node, in Unix seconds
	noted atomic.Int64 // the last use that the store knows of, in Unix seconds
}

// Open reads the tokens that the store holds below prefix.
func Open(ctx context.Context, s store.Store, prefix string, log *zap.Logger) (*Tokens, error) {
	t := &Tokens{store: s, prefix: prefix + "apitoken/", log: log}
	t.current.Store(newSet(nil))
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// Notify makes ended be called with the id of each token that is revoked, here or
// on another node, or expires. It is called once, before the tokens are used.
func (t *Tokens) Notify(ended func(id string)) { t.ended = ended }

func newSet(byName map[string]*held) *set {
	s := &set{byName: byName, byHash: make(map[digest]*held, len(byName)), byID: make(map[string]*held, len(byName))}
	for _, h := range byName {
		s.byHash[digest(h.Hash)] = h
		s.byID[h.ID] = h
	}
	return s
}

func (h *held) expiredAt(now time.Time) bool { return !h.expires.IsZero() && !now.Before(h.expires) }

func (h *held) info() Info {
	info := Info{
		Name: h.name, Scopes: h.Scopes, Resource: h.Resource, RegistrationOnly: h.RegistrationOnly,
		Created: h.Created, Expires: h.expires,
	}
	if used := max(h.used.Load(), h.noted.Load()); used > 0 {
		info.LastUsed = time.Unix(used, 0).UTC()
	}
	return info
}

// Create makes a token and returns it: nobody can do that a second time. An error
// that is neither ErrExists nor ErrTooMany, nor about the name, means that the
// store failed; a token of that name, which nobody knows, may be there then.
func (t *Tokens) Create(ctx context.Context, spec Spec) (secret string, info Info, err error) {
	if err := CheckName(spec.Name); err != nil {
		return "", Info{}, err
	}
	t.taking.Lock()
	defer t.taking.Unlock()
	if len(t.current.Load().byName) >= MaxTokens {
		return "", Info{}, ErrTooMany
	}
	secret = newSecret()
	sum := digestOf(secret)
	h := &held{name: spec.Name, expires: spec.Expires, record: record{
		Version: RecordVersion, ID: newID(), Hash: sum[:], Scopes: spec.Scopes, Resource: spec.Resource,
		RegistrationOnly: spec.RegistrationOnly, Created: time.Now().UTC().Truncate(time.Second),
	}}
	data, err := json.Marshal(h.record)
	if err != nil {
		return "", Info{}, err
	}
	err = t.store.Update(ctx, t.prefix+spec.Name, func(old store.Record) (store.Record, error) {
		if old.Exists() {
			return old, ErrExists
		}
		return store.Record{Value: data, Expires: spec.Expires}, nil
	})
	if err != nil {
		return "", Info{}, err
	}
	t.take(spec.Name, h)
	return secret, h.info(), nil
}

// Revoke ends a token: at once on this node, and on the others when they hear of
// it. Any error but ErrUnknown means that it may still be good.
func (t *Tokens) Revoke(ctx context.Context, name string) error {
	if CheckName(name) != nil {
		return ErrUnknown
	}
	t.taking.Lock()
	defer t.taking.Unlock()
	err := t.store.Update(ctx, t.prefix+name, func(old store.Record) (store.Record, error) {
		if !old.Exists() {
			return old, ErrUnknown
		}
		return store.Record{}, nil
	})
	if err == nil || errors.Is(err, ErrUnknown) {
		t.take(name, nil)
	}
	return err
}

// List returns what is known of the tokens, by name.
func (t *Tokens) List() []Info {
	out := []Info{}
	now := time.Now()
	byName := t.current.Load().byName
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if h := byName[name]; !h.expiredAt(now) {
			out = append(out, h.info())
		}
	}
	return out
}

// Follow keeps the tokens up to date with what other nodes make and revoke, and
// the store with when they were used, until ctx is done.
func (t *Tokens) Follow(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { t.keepBooks(ctx) })
	feed.Feed{
		Store: t.store, Prefix: t.prefix, What: "bearer tokens", Log: t.log,
		Load: t.load, Changed: t.read,
	}.Follow(ctx)
	both.Wait()
}

// load reads all tokens. Those that a list does not have are asked for one by one,
// since a list may lack what is written meanwhile.
func (t *Tokens) load(ctx context.Context) error {
	listed := map[string]struct{}{}
	for e, err := range t.store.List(ctx, t.prefix) {
		if err != nil {
			return err
		}
		listed[e.Key] = struct{}{}
	}
	for name := range t.current.Load().byName {
		listed[t.prefix+name] = struct{}{}
	}
	for key := range listed {
		if err := t.read(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// read takes over what the store holds at a key.
func (t *Tokens) read(ctx context.Context, key string) error {
	name := strings.TrimPrefix(key, t.prefix)
	t.taking.Lock()
	defer t.taking.Unlock()
	r, err := t.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		t.take(name, nil)
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := decode(r.Value)
	if err != nil {
		// It lets nobody in. The others must not wait for it.
		t.log.Error("a bearer token is left out", zap.String("name", name), zap.Error(err))
		t.take(name, nil)
		return nil
	}
	h := &held{name: name, expires: r.Expires, record: rec}
	if !rec.LastUsed.IsZero() {
		h.noted.Store(rec.LastUsed.Unix())
	}
	t.take(name, h)
	return nil
}

// take makes h, nil for nothing, what is remembered under a name. The caller holds
// taking.
func (t *Tokens) take(name string, h *held) {
	before := t.current.Load()
	old := before.byName[name]
	if h != nil && old != nil && h.ID == old.ID && digest(h.Hash) == digest(old.Hash) {
		old.noted.Store(h.noted.Load())
		return
	}
	if h == nil && old == nil {
		return
	}
	byName := maps.Clone(before.byName)
	if byName == nil {
		byName = map[string]*held{}
	}
	delete(byName, name)
	if h != nil {
		byName[name] = h
	}
	t.current.Store(newSet(byName))
	if old != nil && t.ended != nil {
		t.ended(old.ID)
	}
}
