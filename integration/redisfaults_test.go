package integration

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// answerLimit is how long a gateway may try to reach Redis before it tells the client to come again.
const answerLimit = 10 * time.Second

// TestRedisFaults takes Redis away from a running gateway. What needs the store is answered with 503, since any other
// refusal would make clients throw away what is good; tokens go on to work, and with Redis comes back everything else.
func TestRedisFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		begin, mend func(*redistest.Server)
	}{
		{"stopped", (*redistest.Server).Stop, (*redistest.Server).Restart},
		{"killed", (*redistest.Server).Kill, (*redistest.Server).Restart},
		{"frozen", (*redistest.Server).Freeze, (*redistest.Server).Thaw},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			redis, rec := redistest.StartServer(t), startRecorder(t)
			g := startGateway(t, redisConfig(rec.address, "redis://"+redis.Addr))
			gr, ended := g.newGrant(t, nil), g.newGrant(t, nil)
			requests := newStoreRequests(t, gr, ended)
			stream := openStream(t, g.client, g.origin+"/sse", gr.access)
			stream.want(endpointEvent)

			tt.begin(redis)
			for range 2 {
				requests.wantUnavailable(t)
			}
			for what, a := range map[string]*answer{
				"a call": g.call(t, g.client, "/mcp", gr.access), "a call with a token that was not revoked": g.call(t, g.client, "/mcp", ended.access),
				"the keys":                     send(t, g.client, http.MethodGet, g.origin+"/jwks", ""),
				"the metadata":                 send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-authorization-server", ""),
				"the metadata of the resource": send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-protected-resource/mcp", ""),
			} {
				wantStatus(t, what, a, http.StatusOK)
			}

			rec.proceed <- struct{}{}
			stream.want("event: message\ndata: {\"n\":2}\n")

			tt.mend(redis)
			requests.wantSuccess(t)
			wantStatus(t, "the token that was revoked", g.call(t, g.client, "/mcp", ended.access), http.StatusUnauthorized)
			gr.visitor.get(g.origin+"/account").submit("/logout", nil)
			stream.cancel()
		})
	}
}

// storeRequest is a request that needs the store.
type storeRequest struct {
	what    string
	send    func(t testing.TB) *answer
	success int
}

type storeRequests []storeRequest

// newStoreRequests prepares requests that can be repeated until they succeed. One of them revokes the second grant.
func newStoreRequests(t *testing.T, gr, ended *grant) storeRequests {
	t.Helper()
	g := gr.g
	post := func(path string, form url.Values) func(t testing.TB) *answer {
		return func(t testing.TB) *answer {
			return send(t, g.client, http.MethodPost, g.origin+path, form.Encode(), "Content-Type", formType)
		}
	}
	page := func(path string) func(t testing.TB) *answer {
		return func(t testing.TB) *answer {
			p := gr.visitor.during(t).get(g.origin + path)
			return &answer{p.status, p.header, p.body}
		}
	}
	code := g.codeFor(t, gr.visitor, gr.clientID, nil)
	return storeRequests{
		{"redeeming a code", post("/token", code), http.StatusOK},
		{"refreshing", post("/token", url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID},
		}), http.StatusOK},
		{"revoking", post("/revoke", url.Values{"token": {ended.refresh}, "client_id": {ended.clientID}}), http.StatusOK},
		{"registering", func(t testing.TB) *answer {
			return send(t, g.client, http.MethodPost, g.origin+"/register", `{"client_name":"x","redirect_uris":["`+redirectURI+`"]}`,
				"Content-Type", "application/json")
		}, http.StatusCreated},
		{"an authorization request", page("/authorize?" + authorizeRequest(gr.clientID, rand.Text()+rand.Text()).Encode()), http.StatusOK},
		{"the account page", page("/account"), http.StatusOK},
	}
}

// wantUnavailable sends all of them at once, while the store cannot be reached.
func (all storeRequests) wantUnavailable(t *testing.T) {
	t.Helper()
	var sent sync.WaitGroup
	for _, r := range all {
		sent.Go(func() {
			err := attempt(t, func(t testing.TB) {
				begin := time.Now()
				wantUnavailable(t, r.what, r.send(t))
				if took := time.Since(begin); took > answerLimit {
					t.Errorf("%s: the answer took %v", r.what, took)
				}
			})
			if err != nil && !errors.Is(err, errReported) {
				t.Errorf("%s: %v", r.what, err)
			}
		})
	}
	sent.Wait()
}

// wantSuccess repeats each of them until the store can be reached again.
func (all storeRequests) wantSuccess(t *testing.T) {
	t.Helper()
	begin := time.Now()
	for _, r := range all {
		eventually(t, r.what+" succeeds", func() bool {
			a := r.send(t)
			if a.status != http.StatusServiceUnavailable {
				wantStatus(t, r.what, a, r.success)
			}
			return a.status != http.StatusServiceUnavailable
		})
	}
	t.Logf("all is well after %v", time.Since(begin))
}

// TestStartWithoutRedis starts a gateway that cannot reach Redis. It ends, and says why in one line.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.StartServer(t)
	for _, state := range []string{"frozen", "stopped"} {
		if state == "frozen" {
			redis.Freeze()
		} else {
			redis.Thaw()
			redis.Stop()
		}
		g := newGateway(t, redisConfig(startRecorder(t).address, "redis://"+redis.Addr))
		g.launch()
		select {
		case <-g.proc.exited:
		case <-time.After(patience):
			t.Fatalf("with Redis %s, Caddy goes on", state)
		}
		out := strings.TrimSpace(g.proc.output.String())
		last := out[strings.LastIndexByte(out, '\n')+1:]
		if g.proc.err == nil || !strings.Contains(last, "cannot use Redis at "+redis.Addr) {
			t.Errorf("with Redis %s, Caddy ends with %v and says %s", state, g.proc.err, last)
		}
		if strings.Count(out, `"level":"error"`) != 1 || strings.Contains(out, "goroutine ") {
			t.Errorf("with Redis %s, Caddy says more than one line:\n%s", state, out)
		}
	}
}

// TestRedisCluster goes through everything with a cluster.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, false)
	g := startGateway(t, redisConfig(startRecorder(t).address, "redis://"+cluster.Addrs()+" {\ncluster\n}"))
	roundTrip(t, g.newGrant(t, nil))
}

// roundTrip renews a grant, and takes another one from sign-in to its end.
func roundTrip(t *testing.T, gr *grant) {
	t.Helper()
	g := gr.g
	gr.renew(t)
	wantStatus(t, "the token", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	other := g.newGrant(t, nil)
	other.renew(t)
	wantStatus(t, "the token of another grant", g.call(t, g.client, "/mcp", other.access), http.StatusOK)
	other.revoke(t)
	wantStatus(t, "its revoked token", g.call(t, g.client, "/mcp", other.access), http.StatusUnauthorized)
	wantError(t, "its refresh token", g.refresh(t, other.clientID, other.refresh), "invalid_grant")
	wantStatus(t, "the first token", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
}
