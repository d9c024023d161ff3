package metrics_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestCensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(memstore.New(0))
		for _, key := range []string{
			"one/client/a", "one/client/b", "one/grant/u/1", "two/grant/u/2", "two/session/u/3", "two/keys", "two/revoked/x",
			"foreign/client/c",
		} {
			must(t, s.Put(t.Context(), key, store.Record{Value: []byte("v")}))
		}
		must(t, s.Put(t.Context(), "one/session/u/4", store.Record{Value: []byte("v"), Expires: time.Now().Add(time.Second)}))
		time.Sleep(time.Second)
		before := len(s.Calls())
		calls := func() int { synctest.Wait(); return len(s.Calls()) - before }

		c := metrics.NewCensus(s, func() []string { return []string{"one/", "two/"} })
		go c.Follow(t.Context())
		time.Sleep(time.Hour)
		if n := calls(); n != 0 {
			t.Errorf("%d calls to the store, and nobody has asked", n)
		}
		if r := c.Latest(); r != nil {
			t.Errorf("%+v before anything was counted", r)
		}
		const each = 6 // calls: three kinds for two issuers
		if n := calls(); n != each {
			t.Errorf("%d calls to the store after the first question, want %d", n, each)
		}
		want := &metrics.Records{Clients: 2, Grants: 2, Sessions: 1}
		for range 59 {
			if diff := cmp.Diff(want, c.Latest()); diff != "" {
				t.Fatalf("unexpected count (-want +got):\n%s", diff)
			}
			time.Sleep(time.Second)
		}
		if n := calls(); n != each {
			t.Errorf("%d calls to the store for 60 questions within a minute, want %d", n, each)
		}
		must(t, s.Delete(t.Context(), "one/client/a"))
		before++
		time.Sleep(time.Second)
		if n := calls(); n != 2*each {
			t.Errorf("%d calls to the store after a minute, want %d", n, 2*each)
		}
		if got := c.Latest(); got == nil || got.Clients != 1 {
			t.Errorf("the second count is %+v", got)
		}

		s.FailMethods(storetest.Before)
		time.Sleep(2 * time.Minute)
		c.Latest()
		synctest.Wait()
		if r := c.Latest(); r != nil {
			t.Errorf("%+v while the store cannot be counted", r)
		}
	})
}
