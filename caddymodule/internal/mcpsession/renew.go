package mcpsession

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// maxJobs bounds what waits to be told to the store. What does not fit is told
// when the session is used again.
const maxJobs = 1024

// job is a session of which the store has to be told, behind the requests, that it
// is in use.
type job struct {
	name string
	held *held
}

// do hands a job over, if there is room for it.
func (s *Sessions) do(j job) bool {
	select {
	case s.jobs <- j:
		return true
	default:
		return false
	}
}

// renew keeps a session that is in use from being forgotten.
func (s *Sessions) renew(name string, h *held) {
	now, told := time.Now().Unix(), h.told.Load()
	if now-told < int64(renewAfter/time.Second) || !h.told.CompareAndSwap(told, now) {
		return
	}
	s.keep(name, h, Lifetime)
	if !s.do(job{name: name, held: h}) {
		h.told.Store(told)
	}
}

// Run tells the store what there is to tell, until ctx is done.
func (s *Sessions) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-s.jobs:
			s.tell(ctx, j)
		}
	}
}

// tell does a job. What fails is tried again when the session is used the next
// time, but not before retryAfter.
func (s *Sessions) tell(ctx context.Context, j job) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	expires := time.Now().Add(Lifetime)
	err := s.store.Update(ctx, s.prefix+j.name, func(old store.Record) (store.Record, error) {
		if old.Exists() {
			if owner, err := decode(old.Value); err != nil || owner != j.held.owner {
				return old, errTaken
			}
		}
		return store.Record{Value: encode(j.held.owner), Expires: expires}, nil
	})
	switch {
	case err == nil:
		j.held.told.Store(time.Now().Unix())
	case errors.Is(err, errTaken):
		// The MCP server has given the id to somebody else, at another node.
		s.keep(j.name, j.held, 0)
	default:
		j.held.told.Store(time.Now().Add(retryAfter - renewAfter).Unix())
		s.log.Debug("could not tell the store that an MCP session is in use", zap.Error(err))
	}
}

// retryAfter is how long a job that has failed is left alone.
const retryAfter = time.Minute

var errTaken = errors.New("the session is somebody else's")

// A caller may make that many writes and reads of sessions at once, and so many
// each second in the long run. It is far more than clients need.
const (
	burst           = 1000
	writesPerSecond = 1
	readsPerSecond  = 10
)

// budgets bound what a caller can make this node do with the store.
type budgets struct {
	writes, reads *budget
	warned        *rate.Sometimes
}

func newBudgets() budgets {
	return budgets{newBudget(writesPerSecond), newBudget(readsPerSecond), &rate.Sometimes{Interval: time.Minute}}
}

func (b budgets) warn(log *zap.Logger, c Caller) {
	b.warned.Do(func() {
		log.Warn("somebody begins so many MCP sessions that they are known to this node only, and end with it",
			zap.String("user", c.Subject), zap.String("client_id", c.ClientID))
	})
}

// budget counts for each caller.
type budget struct {
	mu      sync.Mutex // of making limiters
	callers *bounded.Cache
	perSec  rate.Limit
}

// maxCallers bounds how many callers are counted.
const maxCallers = 1 << 13

func newBudget(perSecond rate.Limit) *budget {
	return &budget{callers: bounded.NewCache(maxCallers), perSec: perSecond}
}

// allows counts one for the caller, if there is one left.
func (b *budget) allows(caller digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := string(caller[:])
	l, ok := b.callers.Get(key)
	if !ok {
		l = rate.NewLimiter(b.perSec, burst)
	}
	// One that nobody uses for that long is full again.
	b.callers.Set(key, l, time.Duration(float64(burst)/float64(b.perSec)*float64(time.Second)))
	return l.(*rate.Limiter).Allow()
}
