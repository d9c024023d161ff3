package integration

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// sharedIssuer is what clients of several nodes know: the address of a balancer in front of them.
const sharedIssuer = "https://mcp.test"

// redisConfig is a gateway with its state in Redis. store is what stands behind "store redis".
func redisConfig(upstream, store string) gatewayConfig {
	return gatewayConfig{issuer: sharedIssuer, site: "mcp_auth " + upstream + " {\nissuer " + sharedIssuer + "\n" + userLine +
		"\ncode_lifetime 10m\nstore redis " + store + "\n}"}
}

// startNodes runs two gateways that share a Redis server, both for the first time and at once.
func startNodes(t *testing.T) (one, two *gateway, rec *recorder) {
	t.Helper()
	rec = startRecorder(t)
	cfg := redisConfig(rec.address, "redis://"+redistest.StartServer(t).Addr)
	nodes := startGateways(t, cfg, cfg)
	return nodes[0], nodes[1], rec
}

// at is the grant as the client uses it at another node.
func (gr *grant) at(g *gateway) *grant {
	copied := *gr
	copied.g = g
	return &copied
}

// TestTwoNodes begins at one node what it goes on with at the other.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	one, two, _ := startNodes(t)
	keys := send(t, one.client, http.MethodGet, one.origin+"/jwks", "")
	wantStatus(t, "the keys", keys, http.StatusOK)
	if other := send(t, two.client, http.MethodGet, two.origin+"/jwks", ""); other.body != keys.body {
		t.Errorf("the nodes have different keys: %s and %s", keys.body, other.body)
	}

	first := one.newGrant(t, nil)
	wantStatus(t, "a token of the other node", two.call(t, two.client, "/mcp", first.access), http.StatusOK)
	v := first.visitor.at(two)
	v.password = "that of a session which only the other node knows"
	if p := v.get(two.origin + "/account"); p.form("grant") == nil {
		t.Errorf("the browser is not signed in at the other node, or its apps are not there: %v", p)
	}
	code := two.codeFor(t, v, first.clientID, nil)
	wantStatus(t, "a code of the other node", one.postForm(t, "/token", code), http.StatusOK)
	wantError(t, "the same code again", two.postForm(t, "/token", code), "invalid_grant")

	request := authorizeRequest(first.clientID, "a verifier of forty-three characters or more")
	consent := first.visitor.get(one.origin + "/authorize?" + request.Encode())
	consent.v = v
	if callback := consent.submit("allow", nil).callback(); callback.Get("code") == "" {
		t.Errorf("a consent page of the other node leads to %v", callback)
	}

	one.proc.kill()
	gr := first.at(two)
	wantStatus(t, "a token of the dead node", two.call(t, two.client, "/mcp", gr.access), http.StatusOK)
	gr.renew(t)
	wantStatus(t, "the next one", two.call(t, two.client, "/mcp", gr.access), http.StatusOK)
	if p := v.get(two.origin + "/account"); p.form("grant") == nil {
		t.Errorf("the browser that signed in at the dead node is not signed in: %v", p)
	}
	two.codeFor(t, v, first.clientID, nil)
	one.start()
	two.proc.kill()
	gr = gr.at(one)
	gr.renew(t)
	wantStatus(t, "a token of the first node after its return", one.call(t, one.client, "/mcp", gr.access), http.StatusOK)
}

// TestRacesOverTwoNodes uses one code, and one refresh token, a hundred times at once.
func TestRacesOverTwoNodes(t *testing.T) {
	t.Parallel()
	one, two, _ := startNodes(t)
	gr := one.newGrant(t, nil)
	code := one.codeFor(t, gr.visitor, gr.clientID, nil)
	won := 0
	for _, a := range postOver(t, 100, code, one, two) {
		if a.status == http.StatusOK {
			won++
		} else {
			wantError(t, "a loser", a, "invalid_grant")
		}
	}
	if won != 1 {
		t.Errorf("%d of 100 requests got tokens for one code", won)
	}

	successors := map[string]int{}
	for _, a := range postOver(t, 100, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID},
	}, one, two) {
		wantStatus(t, "one of many refreshes", a, http.StatusOK)
		successors[a.field(t, "refresh_token")]++
		gr.access = a.field(t, "access_token")
	}
	if len(successors) != 1 {
		t.Errorf("one refresh token has %d successors", len(successors))
	}
	for refresh := range successors {
		gr.refresh = refresh
	}
	for _, g := range []*gateway{one, two} {
		wantStatus(t, "an access token of the race", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	}
	gr.at(two).renew(t)
}

// postOver posts the same form to the token endpoints of several nodes n times at the same time.
func postOver(t *testing.T, n int, form url.Values, nodes ...*gateway) []*answer {
	t.Helper()
	answers, errs := make([]*answer, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			g := nodes[i%len(nodes)]
			answers[i], errs[i] = trySend(t.Context(), g.client, http.MethodPost, g.origin+"/token", form.Encode(), "Content-Type", formType)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return answers
}

// TestRevocationReachesOtherNode revokes at one node what is used at the other.
func TestRevocationReachesOtherNode(t *testing.T) {
	t.Parallel()
	one, two, _ := startNodes(t)
	gr, other := one.newGrant(t, nil), one.newGrant(t, nil)
	stream := openStream(t, two.client, two.origin+"/sse", gr.access)
	stream.want(endpointEvent)
	kept := openStream(t, two.client, two.origin+"/sse", other.access)
	kept.want(endpointEvent)
	gr.revoke(t)
	refusedAt(t, two, gr.access)
	stream.wantEnd()
	wantError(t, "the refresh token", two.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
	wantStatus(t, "another grant", two.call(t, two.client, "/mcp", other.access), http.StatusOK)
	kept.cancel()
}

// refusedAt waits until a node refuses a token that was revoked elsewhere.
func refusedAt(t *testing.T, g *gateway, access string) {
	t.Helper()
	begin := time.Now()
	eventually(t, "the node refuses the token", func() bool {
		return g.call(t, g.client, "/mcp", access).status == http.StatusUnauthorized
	})
	t.Logf("refused after %v", time.Since(begin))
}

// TestNodeThatWasCutOff loses the way to Redis at one node, and revokes at the other meanwhile. The first one goes on
// with what it knows, and has caught up when the way is back.
func TestNodeThatWasCutOff(t *testing.T) {
	t.Parallel()
	rec, redis := startRecorder(t), redistest.StartServer(t)
	way := startRelay(t, redis.Addr)
	nodes := startGateways(t, redisConfig(rec.address, "redis://"+redis.Addr), redisConfig(rec.address, "redis://"+way.address))
	one, two := nodes[0], nodes[1]
	gr, other := one.newGrant(t, nil), one.newGrant(t, nil)
	stream := openStream(t, two.client, two.origin+"/sse", gr.access)
	stream.want(endpointEvent)

	way.cut()
	gr.revoke(t)
	wantUnavailable(t, "a refresh at the node that is cut off", two.refresh(t, other.clientID, other.refresh))
	wantStatus(t, "a call there", two.call(t, two.client, "/mcp", other.access), http.StatusOK)
	way.mend()
	refusedAt(t, two, gr.access)
	stream.wantEnd()
	eventually(t, "the node renews again", func() bool {
		a := two.refresh(t, other.clientID, other.refresh)
		if a.status != http.StatusOK {
			wantUnavailable(t, "a refresh", a)
		}
		return a.status == http.StatusOK
	})
}

// wantUnavailable fails the test when an answer does not tell to come again.
func wantUnavailable(t testing.TB, what string, a *answer) {
	t.Helper()
	wantStatus(t, what, a, http.StatusServiceUnavailable)
	var seconds int
	if _, err := fmt.Sscan(a.header.Get("Retry-After"), &seconds); err != nil || seconds < 1 {
		t.Errorf("%s: Retry-After is %q", what, a.header.Get("Retry-After"))
	}
}
