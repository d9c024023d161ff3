package mcpsession

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Lifetime is how long a session is remembered after it was seen last.
const Lifetime = 24 * time.Hour

const (
	// renewAfter is how long a session may be in use before the store is told
	// that it still is.
	renewAfter = time.Hour

	// storeTimeout bounds how long a request or an answer waits for the store.
	storeTimeout = 2 * time.Second

	// entries bounds how many sessions are remembered in memory without the
	// store; at most twice as many take some 300 bytes each.
	entries = 1 << 16

	// maxID bounds the id of a session in bytes; some servers keep all of their
	// state in it. A longer one is nobody's.
	maxID = 8 << 10
)

// Reasons why a session is not the caller's, and ErrUnavailable, which says that
// nobody can tell.
var (
	ErrUnknown     = errors.New("nobody was given one of that id")
	ErrForeign     = errors.New("it was given to somebody else")
	ErrUnavailable = errors.New("the store cannot be asked whose the MCP session is")
)

// Session is what an MCP server calls a session. Different resources may use the
// same id.
type Session struct{ Resource, ID string }

// Caller is whom a session can belong to: the user and the client of an access
// token, or the holder of a static one.
type Caller struct {
	Issuer, Subject, ClientID string
	Token                     string // tells static tokens apart
}

// Sessions are the sessions of one issuer's resources. It is safe for concurrent
// use.
type Sessions struct {
	store  store.Store
	prefix string
	macs   sync.Pool // of *macer
	log    *zap.Logger
	known  *bounded.Cache // *held by the name of the record
	budget budgets
	jobs   chan job

	// An answer of the store that was asked for before a session was bound must
	// not take its place, so bound counts, and mu is held while known changes.
	mu    sync.Mutex
	bound uint64
}

// held is a session that is remembered.
type held struct {
	owner digest
	told  atomic.Int64 // when the store was told last that it is in use, in Unix seconds
}

// New keeps sessions in s below prefix. The key is that of all nodes.
func New(s store.Store, prefix string, key []byte, log *zap.Logger) *Sessions {
	return &Sessions{
		store: s, prefix: prefix + "mcpsession/", log: log, macs: sync.Pool{New: func() any { return newMacer(key) }},
		known: bounded.NewCache(entries), budget: newBudgets(), jobs: make(chan job, maxJobs),
	}
}

func (s *Sessions) owner(c Caller) digest {
	return s.mac("owner", c.Issuer, c.Subject, c.ClientID, c.Token)
}

func (s *Sessions) name(session Session) string {
	return nameOf(s.mac("session", session.Resource, session.ID))
}

// Check returns nil for a session that was given to the caller, and one of the
// errors otherwise. It asks the store when the session is not remembered here.
func (s *Sessions) Check(ctx context.Context, session Session, caller Caller) error {
	if len(session.ID) > maxID {
		return ErrUnknown
	}
	name, owner := s.name(session), s.owner(caller)
	h, ok := s.remembered(name)
	if !ok {
		var err error
		if h, err = s.recall(ctx, name, owner); err != nil {
			return err
		}
	}
	if !hmac.Equal(h.owner[:], owner[:]) {
		return ErrForeign
	}
	s.renew(name, h)
	return nil
}

// remember puts a session into known unless one was bound since the count was
// since.
func (s *Sessions) remember(name string, h *held, since uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound == since {
		s.known.Set(name, h, Lifetime)
	}
}

// keep makes known hold on to a session, or forget it, unless it holds another one
// by now.
func (s *Sessions) keep(name string, h *held, lifetime time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now, ok := s.remembered(name); !ok || now == h {
		s.known.Set(name, h, lifetime)
	}
}

// bind puts a session into known whatever is there; nil takes away what is.
func (s *Sessions) bind(name string, h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound++
	if h == nil {
		s.known.Set(name, nil, 0)
		return
	}
	s.known.Set(name, h, Lifetime)
}

func (s *Sessions) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bound
}

func (s *Sessions) remembered(name string) (*held, bool) {
	v, ok := s.known.Get(name)
	if !ok {
		return nil, false
	}
	return v.(*held), true
}

// recall asks the store for a session. Who asks for too many is told to come back
// later, so that guesses do not become a load for the store.
func (s *Sessions) recall(ctx context.Context, name string, asks digest) (*held, error) {
	if !s.budget.reads.allows(asks) {
		return nil, fmt.Errorf("%w: too many sessions that are not remembered here", ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	since := s.count()
	r, err := s.store.Get(ctx, s.prefix+name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	h := &held{}
	if h.owner, err = decode(r.Value); err != nil {
		// The client begins another one, which costs less than to wait for
		// whoever could read it.
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	h.told.Store(r.Expires.Add(-Lifetime).Unix())
	s.remember(name, h, since)
	return h, nil
}

// Bind notes that an MCP server has given a session to a caller, whoever had one
// of that id before. When it returns, the other nodes can know it as well, unless
// the store has failed: then it is told later.
func (s *Sessions) Bind(ctx context.Context, session Session, caller Caller) {
	if session.ID == "" || len(session.ID) > maxID {
		return
	}
	name, owner := s.name(session), s.owner(caller)
	now := time.Now()
	if h, ok := s.remembered(name); ok && h.owner == owner {
		s.renew(name, h)
		return
	}
	h := &held{owner: owner}
	h.told.Store(now.Unix())
	s.bind(name, h)
	if !s.budget.writes.allows(owner) {
		s.budget.warn(s.log, caller)
		return
	}
	// The caller may have gone, and come back with the session.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := s.store.Put(ctx, s.prefix+name, store.Record{Value: encode(owner), Expires: now.Add(Lifetime)}); err != nil {
		s.log.Warn("could not note whose an MCP session is; until that works, other nodes do not know it", zap.Error(err))
		s.do(job{name: name, held: h})
	}
}

// Forget ends a session that the MCP server has ended. Should the store not hear of
// it, it ends by itself.
func (s *Sessions) Forget(ctx context.Context, session Session) {
	name := s.name(session)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := s.store.Delete(ctx, s.prefix+name); err != nil {
		s.log.Debug("could not forget an MCP session", zap.Error(err))
	}
	s.bind(name, nil)
}
