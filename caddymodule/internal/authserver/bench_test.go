package authserver_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// exchangesPerRound is how many codes are redeemed in one go. Rounds of the token
// endpoint and of the engine alone take turns, so that both meet the same machine.
const exchangesPerRound = 1024

// BenchmarkTokenExchange redeems authorization codes at the token endpoint, each of
// them durably, next to what the engine alone writes in the same run. Only the
// ratio means something: the goals are 0.6 of bbolt's group commit and half of
// the Redis client.
func BenchmarkTokenExchange(b *testing.B) {
	for _, engine := range []struct {
		name string
		open func(b *testing.B) (s store.Store, raw func(ctx context.Context, key string, value []byte) error)
	}{{"file", openFile}, {"redis", openRedis}} {
		b.Run(engine.name, func(b *testing.B) {
			s, raw := engine.open(b)
			site := newBenchSite(b, s)
			for _, callers := range []int{1, 16, 64} {
				b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
					var exchanges, writes []float64
					for round := 0; b.Loop(); round++ {
						codes := site.codes(b)
						// Codes and what the engine writes are there before, and
						// lie all over a store that grows.
						value := make([]byte, 600) // as long as a grant
						write := func(i int) error { return raw(b.Context(), grantKey(round, i), value) }
						rate(b, 64, write)
						exchanges = append(exchanges, rate(b, callers, func(i int) error { return site.exchange(codes[i]) }))
						writes = append(writes, rate(b, callers, write))
					}
					slices.Sort(exchanges)
					slices.Sort(writes)
					x, w := exchanges[len(exchanges)/2], writes[len(writes)/2]
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(x, "exchanges/s")
					b.ReportMetric(w, "engine/s")
					b.ReportMetric(x/w, "ratio")
				})
			}
		})
	}
}

// rate does something exchangesPerRound times, by so many callers at once, and
// returns how often a second.
func rate(b *testing.B, callers int, do func(i int) error) float64 {
	b.Helper()
	var wg sync.WaitGroup
	start := time.Now()
	for c := range callers {
		wg.Go(func() {
			for i := c; i < exchangesPerRound; i += callers {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return exchangesPerRound / time.Since(start).Seconds()
}

func openFile(b *testing.B) (store.Store, func(context.Context, string, []byte) error) {
	s, err := filestore.Open(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s, func(ctx context.Context, key string, value []byte) error {
		return s.Update(ctx, key, func(store.Record) (store.Record, error) {
			return store.Record{Value: value, Expires: time.Now().Add(time.Hour)}, nil
		})
	}
}

// compareAndSet is what a client without this module would send: one script that
// changes a record if it is as expected.
var compareAndSet = redis.NewScript(`
local old = redis.call('GET', KEYS[1])
if old and #old ~= #ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', 3600000)
return 1`)

func openRedis(b *testing.B) (store.Store, func(context.Context, string, []byte) error) {
	server := redistest.StartServer(b)
	s, err := redisstore.Open(b.Context(), redisstore.Config{URL: "redis://" + server.Addr})
	if err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, PoolSize: 64})
	b.Cleanup(func() { _, _ = s.Close(), client.Close() })
	return s, func(ctx context.Context, key string, value []byte) error {
		return compareAndSet.Run(ctx, client, []string{key}, value).Err()
	}
}

// everybody is a login that knows everybody.
type everybody struct{ login.Password }

func (everybody) Lookup(_ context.Context, subject string) (login.Identity, bool) {
	return login.Identity{Subject: subject, Email: "user@example.com", Provider: "local", Stamp: "1"}, true
}

// benchSite is an authorization server without the tools of the tests, which
// count and remember everything.
type benchSite struct {
	server   *authserver.Server
	token    http.HandlerFunc
	clientID string
}

func newBenchSite(b *testing.B, s store.Store) *benchSite {
	b.Helper()
	const prefix = "test/"
	keys, err := token.OpenKeys(b.Context(), s, prefix, token.KeysConfig{})
	if err != nil {
		b.Fatal(err)
	}
	revocations, err := token.OpenRevocations(b.Context(), s, prefix, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	cfg := defaultConfig()
	cfg.Password, cfg.Log, cfg.CodeLifetime = everybody{}, zap.NewNop(), 10*time.Minute
	state := authserver.State{Store: s, Prefix: prefix, Keys: keys, Revocations: revocations}
	out := &benchSite{}
	if out.server, err = authserver.New(cfg, state, token.NewVerifier(cfg.Issuer, keys, revocations, nil)); err != nil {
		b.Fatal(err)
	}
	out.token, _ = out.server.Endpoint("/token")
	register, _ := out.server.Endpoint("/register")
	r := httptest.NewRequest(http.MethodPost, issuer+"/register", strings.NewReader(`{"redirect_uris":["`+callback+`"]}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	register(w, r)
	_, id, _ := strings.Cut(w.Body.String(), `"client_id":"`)
	out.clientID, _, _ = strings.Cut(id, `"`)
	return out
}

// grantKey is a key like those of grants, which lie all over the store.
func grantKey(round, i int) string {
	sum := sha256.Sum256(fmt.Append(nil, round, i))
	return fmt.Sprintf("raw/%x/%x", sum[:8], sum[8:21])
}

// codes makes the codes of one round, of as many users.
func (s *benchSite) codes(b *testing.B) []string {
	b.Helper()
	out, round := make([]string, exchangesPerRound), rand.Text()
	rate(b, 64, func(i int) (err error) {
		user := login.Identity{Subject: fmt.Sprintf("user %d", i), Email: "user@example.com", Provider: "local", Stamp: "1"}
		out[i], err = s.server.Allow(b.Context(), grant.Consent{
			Request: fmt.Sprint(round, i), User: user, ClientID: s.clientID, Resource: resource,
			Scopes: oauth.Scopes{"mcp"}, RedirectURI: callback,
			Challenge: oauth.S256(verifier), ChallengeMethod: oauth.ChallengeS256,
		})
		return err
	})
	return out
}

// exchange redeems a code.
func (s *benchSite) exchange(code string) error {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "client_id": {s.clientID}, "redirect_uri": {callback},
		"code_verifier": {verifier}, "resource": {resource},
	}
	r := httptest.NewRequest(http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.token(w, r)
	if w.Code != http.StatusOK {
		return fmt.Errorf("%d %s", w.Code, w.Body)
	}
	return nil
}
