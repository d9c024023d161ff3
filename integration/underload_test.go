package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	reloads        = 10
	busyAtOnce     = 8
	roundsAtReload = 20 // that end between two reloads
)

// TestReloadUnderLoad changes the configuration of a gateway while people sign in and clients redeem, renew and call. No
// request is answered with an error, nothing is forgotten, and an open stream goes on. Connections may be cut at the
// moment of a reload, as by Caddy alone; who asks again gets the answer.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	site := func(name string) gatewayConfig {
		return gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\nname \"" + name + "\"\n}"}
	}
	g := startGateway(t, site("Before"))
	first := g.newGrant(t, nil)
	stream := openStream(t, g.client, g.origin+"/sse", first.access)
	stream.want(endpointEvent)

	var done, cut atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for i := range busyAtOnce {
		transport := g.http2()
		if i%2 == 0 {
			transport = g.http1()
		}
		b := &busy{g: g, clientID: first.clientID, client: g.newClient(transport), cut: &cut}
		all.Go(func() {
			for ctx.Err() == nil && b.round(t) {
				done.Add(1)
				b.client.CloseIdleConnections() // the next one begins with a new connection
			}
		})
	}
	for n := range reloads {
		before := done.Load()
		eventually(t, "the load goes on", func() bool { return done.Load() >= before+roundsAtReload || t.Failed() })
		if err := g.reload(site(fmt.Sprintf("After %d", n))); err != nil {
			t.Fatal(err)
		}
		rec.proceed <- struct{}{}
		stream.want(fmt.Sprintf("event: message\ndata: {\"n\":%d}\n", n+2))
	}
	stop()
	all.Wait()
	first.renew(t)
	wantStatus(t, "the grant from before", g.call(t, g.client, "/mcp", first.access), http.StatusOK)
	t.Logf("%d reloads, %d rounds, %d connections cut", reloads, done.Load(), cut.Load())
}

// busy is a person with a client.
type busy struct {
	g        *gateway
	clientID string
	client   *http.Client
	cut      *atomic.Int64
}

// round signs in, agrees, redeems, calls, renews and revokes. It reports whether all of that worked.
func (b *busy) round(t testing.TB) bool {
	v := b.g.newVisitor(t)
	v.client.Transport = b.client.Transport
	if !b.again(t, func(t testing.TB) { v.during(t).get(b.g.origin + "/account").signIn() }) {
		return false
	}
	v.password = "that of a session which is forgotten"
	var code url.Values
	var access, refresh string
	take := func(t testing.TB, form url.Values) {
		a := b.post(t, "/token", form)
		wantStatus(t, "asking for tokens", a, http.StatusOK)
		access, refresh = a.field(t, "access_token"), a.field(t, "refresh_token")
	}
	call := func(t testing.TB) { wantStatus(t, "a call", b.g.call(t, b.client, "/mcp", access), http.StatusOK) }
	for _, step := range []func(testing.TB){
		func(t testing.TB) { code = b.g.codeFor(t, v.during(t), b.clientID, nil) },
		func(t testing.TB) { take(t, code) },
		call,
		func(t testing.TB) {
			take(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {b.clientID}})
		},
		call,
		func(t testing.TB) {
			wantStatus(t, "revoking", b.post(t, "/revoke", url.Values{"token": {refresh}, "client_id": {b.clientID}}), http.StatusOK)
		},
		func(t testing.TB) {
			wantStatus(t, "what was revoked", b.g.call(t, b.client, "/mcp", access), http.StatusUnauthorized)
		},
	} {
		if !b.again(t, step) {
			return false
		}
	}
	return true
}

func (b *busy) post(t testing.TB, path string, form url.Values) *answer {
	t.Helper()
	return send(t, b.client, http.MethodPost, b.g.origin+path, form.Encode(), "Content-Type", formType)
}

// again takes a step, and takes it again when its connection was cut.
func (b *busy) again(t testing.TB, step func(testing.TB)) bool {
	for range 10 {
		err := attempt(t, step)
		switch {
		case err == nil || errors.Is(err, errReported):
			return err == nil
		case errors.Is(err, errUnavailable):
			t.Error(err)
			return false
		}
		b.cut.Add(1)
	}
	t.Error("a connection was cut again and again")
	return false
}

// TestStopWithRequestsInFlight ends a gateway while the upstream works on calls and a client listens to a stream. The
// calls get their answers, the stream ends, and so does the process.
func TestStopWithRequestsInFlight(t *testing.T) {
	t.Parallel()
	const calls = 8
	arrived, proceed := make(chan struct{}, calls), make(chan struct{})
	release := sync.OnceFunc(func() { close(proceed) })
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-proceed
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(release)
	g := startGateway(t, gatewayConfig{
		site: "mcp_auth {\n" + userLine + "\n}\nreverse_proxy /mcp " + slow.Listener.Addr().String() +
			"\nreverse_proxy /sse " + startRecorder(t).address,
		patient: true,
	})
	gr := g.newGrant(t, nil)
	stream := openStream(t, g.newClient(g.http2()), g.origin+"/sse", gr.access)
	stream.want(endpointEvent)

	var all sync.WaitGroup
	clients := []*http.Client{g.newClient(g.http1()), g.newClient(g.http2())}
	for i := range calls {
		all.Go(func() {
			err := attempt(t, func(t testing.TB) {
				wantStatus(t, "a call in flight", g.call(t, clients[i%2], "/mcp", gr.access), http.StatusOK)
			})
			if err != nil && !errors.Is(err, errReported) {
				t.Errorf("a call in flight: %v", err)
			}
		})
	}
	eventually(t, "all calls have reached the upstream", func() bool { return len(arrived) == calls || t.Failed() })
	stopped := make(chan time.Duration)
	go func() { stopped <- g.proc.stop() }()
	eventually(t, "no new connections are taken", func() bool {
		conn, err := net.Dial("tcp", g.address())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	release()
	all.Wait()
	stream.wantEnd()
	t.Logf("Caddy ended after %v", <-stopped)
	if g.proc.err != nil {
		t.Errorf("Caddy ended with %v", g.proc.err)
	}
}
