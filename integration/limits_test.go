package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// wantHeld fails the test when an answer is not a refusal for a limit that clients, those in browsers included, can tell
// people about.
func wantHeld(t testing.TB, what string, a *answer, code, says string) {
	t.Helper()
	wantStatus(t, what, a, http.StatusTooManyRequests)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 3600 {
		t.Errorf("%s: Retry-After is %q", what, a.header.Get("Retry-After"))
	}
	var body struct {
		Error       string
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error != code || !strings.HasPrefix(body.Description, says+"; try again in ") {
		t.Errorf("%s: the body is %s, want %q and %q", what, a.body, code, says)
	}
	if h := a.header; h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(h.Get("Access-Control-Expose-Headers"), "Retry-After") || h.Get("Www-Authenticate") != "" {
		t.Errorf("%s: the headers are %v", what, h)
	}
}

// TestRateLimits reaches each limit of a site, and reloads the configuration in between.
func TestRateLimits(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	cfg := gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\nbearer_token a-static-token-12345\nauth_type both\n" +
		"rate_limit register 2 1h\nrate_limit token 4 1h\nrate_limit mcp 5 1h\nrate_limit login 3 1h\n}"}
	g := startGateway(t, cfg)
	gr, other := g.newGrant(t, nil), g.newGrantFor(t, g.newVisitor(t), nil)
	register := func() *answer {
		body := `{"redirect_uris":["` + redirectURI + `"]}`
		return send(t, g.client, http.MethodPost, g.origin+"/register", body, "Content-Type", "application/json")
	}
	held := func() {
		t.Helper()
		wantHeld(t, "a third registration", register(), "temporarily_unavailable", "rate_limit register allows 2 in 1h")
		wantHeld(t, "a fifth token request", g.refresh(t, gr.clientID, gr.refresh), "temporarily_unavailable", "rate_limit token allows 4 in 1h")
		wantHeld(t, "a sixth call", g.call(t, g.client, "/mcp", gr.access), "rate_limited", "rate_limit mcp allows 5 in 1h")
	}
	for range 3 { // the code was the first of its grant
		gr.renew(t)
	}
	for range 5 {
		wantStatus(t, "a call", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	}
	held()
	if err := g.reload(cfg); err != nil {
		t.Fatal(err)
	}
	held()
	other.renew(t)
	wantStatus(t, "a call of another client", g.call(t, g.client, "/mcp", other.access), http.StatusOK)
	wantStatus(t, "a call with a static token", g.call(t, g.client, "/mcp", "a-static-token-12345"), http.StatusOK)
	wantStatus(t, "a call without a token", g.call(t, g.client, "/mcp", ""), http.StatusUnauthorized)
	if n := strings.Count(g.proc.output.String(), "too many requests of this user and client"); n != 1 {
		t.Errorf("the log tells of the flood %d times", n)
	}

	v := g.newVisitor(t)
	v.password = "wrong"
	p := v.get(g.origin + "/account")
	for range 4 {
		p = p.signIn()
	}
	if p.status != http.StatusTooManyRequests || p.header.Get("Retry-After") == "" {
		t.Errorf("a fourth wrong password leads to %v", p)
	}
}

// limitedNodes are two gateways on one Redis server with a limit.
func limitedNodes(t *testing.T, lines string) (nodes []*gateway, redis *redistest.Server) {
	t.Helper()
	redis = redistest.StartServer(t)
	cfg := redisConfig(startRecorder(t).address, "redis://"+redis.Addr)
	cfg.site = strings.Replace(cfg.site, "code_lifetime", lines+"\ncode_lifetime", 1)
	return startGateways(t, cfg, cfg), redis
}

// TestRateLimitOverTwoNodes sends ten thousand requests of one user to two nodes, and some of another one.
func TestRateLimitOverTwoNodes(t *testing.T) {
	t.Parallel()
	const limit, requests = 600, 10000
	nodes, redis := limitedNodes(t, fmt.Sprintf("rate_limit mcp %d 1h\nrate_limit login 4 1h", limit))
	gr, other := nodes[0].newGrant(t, nil), nodes[1].newGrant(t, nil)
	writes := func() int { return commandCalls(t, redis, "evalsha") }
	before := writes()
	got := flood(t, nodes, gr.access, requests)
	if got[http.StatusOK] != limit || got[http.StatusTooManyRequests] != requests-limit {
		t.Errorf("%d requests are answered with %v, want %d times 200 and 429 else", requests, got, limit)
	}
	if n := writes() - before; n > 150 {
		t.Errorf("they took %d scripts of Redis", n)
	}
	for _, g := range nodes {
		wantHeld(t, "one more", g.call(t, g.client, "/mcp", gr.access), "rate_limited", "rate_limit mcp allows 600 in 1h")
		wantStatus(t, "another user", g.call(t, g.client, "/mcp", other.access), http.StatusOK)
	}

	// Guesses count together as well.
	for i := range 4 {
		v := nodes[i%2].newVisitor(t)
		v.password = "wrong"
		if p := v.get(v.g.origin + "/account").signIn(); p.status != http.StatusForbidden {
			t.Errorf("guess %d leads to %v", i, p)
		}
	}
	for _, g := range nodes {
		if p := g.newVisitor(t).get(g.origin + "/account").signIn(); p.status != http.StatusTooManyRequests {
			t.Errorf("after four guesses at two nodes a sign-in leads to %v", p)
		}
	}
}

// flood sends requests with a token to several nodes, and counts the answers by their status.
func flood(t *testing.T, nodes []*gateway, access string, requests int) map[int]int {
	t.Helper()
	var mu sync.Mutex
	got := map[int]int{}
	const workers = 20
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			g := nodes[i%len(nodes)]
			for range requests / workers {
				a, err := trySend(t.Context(), g.client, http.MethodPost, g.origin+"/mcp", `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
					"Content-Type", "application/json", "Authorization", "Bearer "+access)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got[a.status]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return got
}

// commandCalls is how often a command of Redis has been called.
func commandCalls(t *testing.T, redis *redistest.Server, command string) int {
	t.Helper()
	_, rest, _ := strings.Cut(redis.Command("info", "commandstats"), "cmdstat_"+command+":calls=")
	number, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("Redis does not tell how often %s was called: %q", command, number)
	}
	return n
}

// TestRateLimitWithoutRedis takes Redis away. Limits are then those of each node, and refuse nobody for that.
func TestRateLimitWithoutRedis(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*redistest.Server){"killed": (*redistest.Server).Kill, "frozen": (*redistest.Server).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes, redis := limitedNodes(t, "rate_limit mcp 100 1h")
			gr := nodes[0].newGrant(t, nil)
			for _, g := range nodes {
				wantStatus(t, "a call", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
			}
			away(redis)
			got := flood(t, nodes, gr.access, 1000)
			if n := got[http.StatusOK]; n < 190 || n > 198 || got[http.StatusTooManyRequests] != 1000-n {
				t.Errorf("1000 requests are answered with %v, want 99 times 200 at each node and 429 else", got)
			}
			if name == "frozen" {
				redis.Thaw()
			} else {
				redis.Restart()
			}
			other := &grant{}
			eventually(t, "the node works again", func() bool {
				a := nodes[1].postForm(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID}})
				if a.status == http.StatusOK {
					other.access = a.field(t, "access_token")
				}
				return other.access != ""
			})
			wantHeld(t, "a call of the same user", nodes[1].call(t, nodes[1].client, "/mcp", other.access), "rate_limited", "rate_limit mcp allows 100 in 1h")
		})
	}
}
