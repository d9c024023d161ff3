package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// states holds the open stores of the process by their identity. A reload of the
// configuration provisions the new modules before it cleans up the old ones, so
// the store, its file lock and everything remembered stay as they are.
var states = caddy.NewUsagePool()

// holding are the states that a configuration uses. It gives back these and no
// others, so that the end of a rejected configuration leaves the running one
// alone.
type holding struct {
	mu       sync.Mutex
	keys     []string
	released bool
}

// errReleased is for requests that outlive their configuration.
var errReleased = errors.New("the configuration has ended")

// take returns the open store that a module describes.
func (h *holding) take(m StoreModule) (*state, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return nil, errReleased
	}
	key := m.Identity()
	v, _, err := states.LoadOrNew(key, func() (caddy.Destructor, error) { return openState(m) })
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	h.keys = append(h.keys, key)
	return v.(*state), nil
}

// release gives everything back, for good.
func (h *holding) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, key := range h.keys {
		if _, err := states.Delete(key); err != nil {
			errs = append(errs, err)
		}
	}
	h.keys, h.released = nil, true
	return errors.Join(errs...)
}

// openTimeout bounds the first look into a store.
const openTimeout = 15 * time.Second

// sweepInterval is how often expired records are removed.
const sweepInterval = time.Minute

// state is an open store with what is derived from it for each issuer.
type state struct {
	store  store.Store
	log    *zap.Logger
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	// operatorGrace is set while the configuration has a grace_period of its own.
	operatorGrace atomic.Bool

	// others are the keys of authorization servers of somebody else.
	others *external.Directory

	metrics *metrics.Metrics
	census  *metrics.Census
	unlist  func() // takes the state out of the metrics

	making  sync.Mutex // of issuers
	mu      sync.Mutex // of the map
	issuers map[string]*issuerState
}

// issuerState is what an issuer keeps across reloads.
type issuerState struct {
	authserver.State
	verifier *token.Verifier
	tokens   *apitoken.Tokens
	sessions *mcpsession.Sessions
	streams  *gate.Streams

	// delegations are the tokens of login providers, for upstreams.
	delegations *delegation.Keeper
}

// openState opens a store. It is the constructor of the pool.
func openState(m StoreModule) (caddy.Destructor, error) {
	s, err := m.Open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	st := &state{log: newRunningLog(), ctx: ctx, cancel: cancel, metrics: takeMetrics(), issuers: map[string]*issuerState{}}
	st.store = st.metrics.Store(s, m.CaddyModule().ID.Name())
	st.census = metrics.NewCensus(st.store, st.prefixes)
	st.others = external.NewDirectory(st.log)
	if w, ok := s.(interface{ Warnings() []string }); ok {
		for _, warning := range w.Warnings() {
			st.log.Warn("the store is not as safe as it could be: " + warning)
		}
	}
	st.tasks.Go(st.sweep)
	st.tasks.Go(st.watchExit)
	st.tasks.Go(func() { st.census.Follow(ctx) })
	st.unlist = st.metrics.AddSource(st.snapshot)
	return st, nil
}

// Destruct implements caddy.Destructor: no configuration uses the store any more.
func (st *state) Destruct() error {
	st.unlist()
	releaseMetrics()
	st.cancel()
	st.tasks.Wait()
	return st.store.Close()
}

// known are the issuers at the moment.
func (st *state) known() []*issuerState {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Collect(maps.Values(st.issuers))
}

// sweep removes what has expired, away from any request.
func (st *state) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-st.ctx.Done():
			return
		case now := <-tick.C:
			if s, ok := st.store.(store.Sweeper); ok {
				if _, err := s.Sweep(st.ctx, now); err != nil && st.ctx.Err() == nil {
					st.log.Warn("could not remove expired records", zap.Error(err))
				}
			}
			for _, is := range st.known() {
				is.Revocations.Sweep()
			}
		}
	}
}

// exitGrace is how long event streams stay open while Caddy exits, unless the
// operator has set a grace_period. Without one Caddy waits for open requests for
// ever, and event streams do not end by themselves.
const exitGrace = 10 * time.Second

// watchExit ends the event streams when Caddy exits. A module is not told of the
// exit before the web server has waited for its requests, so it has to look.
func (st *state) watchExit() {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var deadline time.Time
	for {
		select {
		case <-st.ctx.Done():
			return
		case now := <-tick.C:
			switch {
			case !caddy.Exiting() || st.operatorGrace.Load():
			case deadline.IsZero():
				deadline = now.Add(exitGrace)
			case now.After(deadline):
				for _, is := range st.known() {
					is.streams.CloseAll()
				}
			}
		}
	}
}

// issuer returns the state of an issuer, made at its first use, with its keys
// kept as the configuration says.
func (st *state) issuer(issuer string, cfg token.KeysConfig) (*issuerState, error) {
	st.making.Lock()
	defer st.making.Unlock()
	ctx, cancel := context.WithTimeout(st.ctx, openTimeout)
	defer cancel()
	cfg.Log = st.log
	st.mu.Lock()
	is, ok := st.issuers[issuer]
	st.mu.Unlock()
	if ok {
		if err := is.Keys.Configure(ctx, cfg); err != nil {
			return nil, fmt.Errorf("keys of %s: %w", issuer, err)
		}
		return is, nil
	}
	is, err := st.openIssuer(ctx, issuer, cfg)
	if err != nil {
		return nil, err
	}
	st.follow(is)
	st.mu.Lock()
	st.issuers[issuer] = is
	st.mu.Unlock()
	return is, nil
}

// openIssuer reads what the store has of an issuer.
func (st *state) openIssuer(ctx context.Context, issuer string, cfg token.KeysConfig) (*issuerState, error) {
	prefix := keyPrefix(issuer)
	keys, err := token.OpenKeys(ctx, st.store, prefix, cfg)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", issuer, err)
	}
	revocations, err := token.OpenRevocations(ctx, st.store, prefix, st.log)
	if err != nil {
		return nil, fmt.Errorf("reading the revocations of %s: %w", issuer, err)
	}
	tokens, err := apitoken.Open(ctx, st.store, prefix, st.log)
	if err != nil {
		return nil, fmt.Errorf("reading the bearer tokens of %s: %w", issuer, err)
	}
	delegations, err := delegation.NewKeeper(st.store, prefix, keys.Derive)
	if err != nil {
		return nil, err
	}
	return &issuerState{
		State: authserver.State{
			Store: st.store, Prefix: prefix, Keys: keys, Revocations: revocations,
			Counts:        limit.Share(st.store, prefix, keys.Derive("limits"), st.log),
			Registrations: client.NewBudget(), Web: client.NewWeb(),
		},
		verifier: token.NewVerifier(issuer, keys, revocations, prepareBearer),
		tokens:   tokens,
		sessions: mcpsession.New(st.store, prefix, keys.Derive("MCP sessions"), st.log),
		streams:  gate.NewStreams(),

		delegations: delegations,
	}, nil
}

// follow keeps the state of an issuer up to date with what other nodes write, and
// ends the streams whose tokens end.
func (st *state) follow(is *issuerState) {
	is.Revocations.Notify(is.streams.Close, func() { is.streams.CloseRefused(is.verifier.Revoked) })
	is.tokens.Notify(is.streams.Close)
	for _, task := range []func(context.Context){is.Revocations.Follow, is.Keys.Follow, is.tokens.Follow, is.sessions.Run} {
		st.tasks.Go(func() { task(st.ctx) })
	}
}

// keyPrefix keeps the records of issuers that share a store apart: a client or a
// session of one of them means nothing to the others.
func keyPrefix(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10])) + "/"
}
