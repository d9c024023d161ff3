package integration

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

const (
	issuingAtOnce = 8
	grantsPerKill = 100 // that are acknowledged before the next kill
)

// TestKilledWhileIssuing kills a gateway with the default store again and again while it issues, renews and revokes
// grants. What it has acknowledged holds afterwards: no grant is lost, no code is good twice, no replaced refresh token
// comes back, no revoked grant either, and who did not get an answer gets it by asking again.
func TestKilledWhileIssuing(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + "\nrefresh_token_grace 10m\n}"})
	var longest time.Duration
	issueAndKill(t, g, 20, func() {
		g.proc.kill()
		g.checkLog()
		g.client.CloseIdleConnections()
		begin := time.Now()
		g.start()
		longest = max(longest, time.Since(begin))
	}, false)
	t.Logf("the longest start took %v", longest)
}

// TestRedisKilledWhileIssuing does the same with a Redis server that writes to the disk before it answers. The gateway
// itself runs on, and says that it cannot do its work.
func TestRedisKilledWhileIssuing(t *testing.T) {
	t.Parallel()
	redis := redistest.StartServer(t)
	g := startGateway(t, redisConfig(startRecorder(t).address, "redis://"+redis.Addr+"\nrefresh_token_grace 10m"))
	issueAndKill(t, g, 5, func() {
		redis.Kill()
		time.Sleep(100 * time.Millisecond) // so that every client meets the fault
		redis.Restart()
	}, true)
}

// issueAndKill lets clients work on grants, and kills in the middle of it. Afterwards it looks whether all is as it was
// acknowledged.
func issueAndKill(t *testing.T, g *gateway, kills int, kill func(), mayBeUnavailable bool) {
	t.Helper()
	workers := make([]*ledger, issuingAtOnce)
	for i := range workers {
		v := g.newVisitor(t)
		v.get(g.origin + "/account").signIn()
		id := g.register(t, map[string]any{"client_name": "Test", "redirect_uris": []string{redirectURI}})
		workers[i] = &ledger{g: g, visitor: v, clientID: id, mayBeUnavailable: mayBeUnavailable}
	}
	var acknowledged atomic.Int64
	var all sync.WaitGroup
	for round := range kills {
		var over atomic.Bool
		for _, l := range workers {
			all.Go(func() { l.issue(t, &acknowledged, &over) })
		}
		eventually(t, "grants are issued", func() bool { return acknowledged.Load() >= int64((round+1)*grantsPerKill) || t.Failed() })
		kill()
		over.Store(true) // for who has not noticed
		all.Wait()
		g.forgetSecrets() // what is looked for in the log would become too much
		for _, l := range workers {
			all.Go(func() { l.audit(t) })
		}
		all.Wait()
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	for _, l := range workers {
		all.Go(func() { l.auditAll(t) })
	}
	all.Wait()
	t.Logf("%d kills, %d grants", kills, acknowledged.Load())
}

// ledger is what one client knows of its grants.
type ledger struct {
	g        *gateway
	visitor  *visitor
	clientID string
	recent   []*entry // since the last kill
	audited  []*entry // from before

	mayBeUnavailable bool // while a kill is on
}

// entry is one grant.
type entry struct {
	redeem          url.Values // the request that redeems its code
	access, refresh string     // the newest
	replaced        []string   // older refresh tokens
	revoked         bool
	lost            url.Values // the request to /token or /revoke that got no answer
}

// issue makes grants until one of them fails. A quarter of them is only redeemed, one renewed once, one renewed
// twice, and one revoked.
func (l *ledger) issue(t testing.TB, acknowledged *atomic.Int64, over *atomic.Bool) {
	for n := 0; !over.Load(); n++ {
		err := attempt(t, func(t testing.TB) {
			form := l.g.codeFor(t, l.visitor.during(t), l.clientID, nil)
			e := &entry{redeem: form}
			l.recent = append(l.recent, e)
			l.tokens(t, e, form)
			acknowledged.Add(1)
			for range min(n%4, 2) {
				l.renew(t, e)
			}
			if n%4 == 3 {
				l.revoke(t, e)
			}
		})
		if err != nil {
			if errors.Is(err, errUnavailable) && !l.mayBeUnavailable {
				t.Error(err)
			}
			return
		}
	}
}

// tokens sends a request to /token that has to give tokens.
func (l *ledger) tokens(t testing.TB, e *entry, form url.Values) {
	t.Helper()
	e.lost = form
	a := l.post(t, "/token", form)
	e.lost = nil
	l.take(t, e, a)
}

// post is a request whose answer gets lost, or is as good as lost when it is 503.
func (l *ledger) post(t testing.TB, path string, form url.Values) *answer {
	t.Helper()
	a := l.g.postForm(t, path, form)
	if a.status == http.StatusServiceUnavailable {
		wantUnavailable(t, path, a)
		t.Fatal(errUnavailable)
	}
	return a
}

func (l *ledger) take(t testing.TB, e *entry, a *answer) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("asking for tokens: %d %s", a.status, a.body)
	}
	if e.refresh != "" {
		e.replaced = append(e.replaced, e.refresh)
	}
	e.access, e.refresh = a.field(t, "access_token"), a.field(t, "refresh_token")
}

func (l *ledger) renew(t testing.TB, e *entry) {
	t.Helper()
	l.tokens(t, e, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {e.refresh}, "client_id": {l.clientID}})
}

func (l *ledger) revoke(t testing.TB, e *entry) {
	t.Helper()
	e.lost = url.Values{"token": {e.refresh}, "client_id": {l.clientID}}
	wantStatus(t, "revoking", l.post(t, "/revoke", e.lost), http.StatusOK)
	e.lost, e.revoked = nil, true
}

// audit checks the grants since the last kill. Every eighth is taken apart, the others are kept for the end.
func (l *ledger) audit(t testing.TB) {
	recent := l.recent
	l.recent = nil
	for i, e := range recent {
		l.attempt(t, func(t testing.TB) {
			l.settle(t, e)
			if e.access == "" {
				return
			}
			l.check(t, e)
			if i%8 == 7 {
				l.takeApart(t, e)
			} else {
				l.audited = append(l.audited, e)
			}
		})
	}
}

// auditAll checks the grants of all rounds, and takes them apart.
func (l *ledger) auditAll(t testing.TB) {
	for _, e := range l.audited {
		l.attempt(t, func(t testing.TB) {
			l.check(t, e)
			l.takeApart(t, e)
		})
	}
}

// attempt is for times when nothing is killed. After the first failure it does nothing.
func (l *ledger) attempt(t testing.TB, part func(t testing.TB)) {
	if t.Failed() {
		return
	}
	if err := attempt(t, part); err != nil && !errors.Is(err, errReported) {
		t.Errorf("asking the gateway: %v", err)
	}
}

// settle repeats the request that got no answer.
func (l *ledger) settle(t testing.TB, e *entry) {
	t.Helper()
	switch form := e.lost; {
	case form == nil:
	case form.Has("code"):
		// If the first request has been carried out, this is the replay of a code, and the grant ends.
		if a := l.g.postForm(t, "/token", form); a.status == http.StatusOK {
			l.take(t, e, a)
		} else {
			wantError(t, "a code again whose first answer was lost", a, "invalid_grant")
		}
	case form.Has("refresh_token"):
		l.tokens(t, e, form)
	default:
		l.revoke(t, e)
	}
	e.lost = nil
}

// check wants the grant to be what was acknowledged last.
func (l *ledger) check(t testing.TB, e *entry) {
	t.Helper()
	if e.revoked {
		l.wantEnded(t, "revoked", e)
		return
	}
	wantStatus(t, "the access token", l.g.call(t, l.g.client, "/mcp", e.access), http.StatusOK)
	if n := len(e.replaced); n > 0 {
		again := l.g.refresh(t, l.clientID, e.replaced[n-1])
		wantStatus(t, "the refresh token that was replaced last", again, http.StatusOK)
		if again.field(t, "refresh_token") != e.refresh {
			t.Error("a replaced refresh token gets another successor than before")
		}
	}
	l.renew(t, e)
	wantStatus(t, "the next access token", l.g.call(t, l.g.client, "/mcp", e.access), http.StatusOK)
}

// takeApart ends a grant by one of its tokens that must not be good any more.
func (l *ledger) takeApart(t testing.TB, e *entry) {
	t.Helper()
	if e.revoked {
		return
	}
	if n := len(e.replaced); n > 1 {
		wantError(t, "a refresh token that was replaced before the last", l.g.refresh(t, l.clientID, e.replaced[n-2]), "invalid_grant")
	} else {
		wantError(t, "a code that was redeemed", l.g.postForm(t, "/token", e.redeem), "invalid_grant")
	}
	l.wantEnded(t, "taken apart", e)
}

func (l *ledger) wantEnded(t testing.TB, how string, e *entry) {
	t.Helper()
	wantStatus(t, "the access token of what was "+how, l.g.call(t, l.g.client, "/mcp", e.access), http.StatusUnauthorized)
	wantError(t, "the refresh token of what was "+how, l.g.refresh(t, l.clientID, e.refresh), "invalid_grant")
	wantError(t, "the code of what was "+how, l.g.postForm(t, "/token", e.redeem), "invalid_grant")
}
