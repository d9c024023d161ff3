package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// kept is what a store holds, in bytes and records.
func kept(t *testing.T, s store.Store) (bytes, records int) {
	t.Helper()
	for e, err := range s.List(t.Context(), prefix+"client/") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Get(t.Context(), e.Key)
		if err != nil {
			t.Fatal(err)
		}
		bytes += len(r.Value)
		records++
	}
	return bytes, records
}

// large is a registration that comes close to what the endpoint takes.
func large(i int) string {
	return fmt.Sprintf(`{"client_name":"Flood %d","redirect_uris":["https://app.example/%s"]}`, i, strings.Repeat("a", 2000))
}

func TestAFloodOfRegistrationsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(0)
		d := client.NewDirectory(s, prefix, client.Config{ExpireAfter: expireAfter})
		refused, peak := 0, 0
		for i := range 30_000 {
			_, err := d.Register(t.Context(), metadata(t, large(i)))
			if refusal, ok := errors.AsType[*oauth.Error](err); ok && refusal.Status == http.StatusTooManyRequests {
				if refused++; refusal.RetryAfter < 1 || refusal.RetryAfter > 15*60 {
					t.Fatalf("Retry-After is %d", refusal.RetryAfter)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			if i%1000 == 0 {
				bytes, _ := kept(t, s)
				peak = max(peak, bytes)
			}
		}
		if refused == 0 || peak > 32<<20 || peak < 8<<20 {
			t.Errorf("%d refused, and %d bytes at the peak; want some, and between 8 and 32 MB", refused, peak)
		}
		// A few minutes later people can register again, with time to sign in.
		time.Sleep(5 * time.Minute)
		info := register(t, d, publicBody)
		time.Sleep(10 * time.Minute)
		if _, err := d.Get(t.Context(), info.ClientID); err != nil {
			t.Errorf("ten minutes after registering in a crowd: %v", err)
		}
		// A day later all is as if nothing had been.
		time.Sleep(25 * time.Hour)
		info = register(t, d, publicBody)
		time.Sleep(23 * time.Hour)
		if _, err := d.Get(t.Context(), info.ClientID); err != nil {
			t.Errorf("a day after the flood: %v", err)
		}
		if _, records := kept(t, s); records != 1 {
			t.Errorf("%d records are left", records)
		}
	})
}

func TestBoundsAreForStrangersAndOutliveReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(0)
		budget := client.NewBudget()
		full := func(trusted bool) *client.Directory {
			return client.NewDirectory(s, prefix, client.Config{ExpireAfter: expireAfter, Budget: budget, Trusted: trusted})
		}
		d := full(false)
		var err error
		for i := 0; err == nil && i < 20_000; i++ {
			_, err = d.Register(t.Context(), metadata(t, large(i)))
		}
		wantCode(t, err, "temporarily_unavailable")
		for err = nil; err == nil; {
			_, err = d.Register(t.Context(), metadata(t, publicBody)) // into what is left between two large ones
		}
		for _, body := range []string{publicBody, secretBody, machineBody} {
			if _, err := full(false).Register(t.Context(), metadata(t, body)); err == nil {
				t.Errorf("after a reload there is room for %s", body)
			}
		}
		if _, err := full(true).Register(t.Context(), metadata(t, machineBody)); err != nil {
			t.Errorf("a service account with an initial access token: %v", err)
		}
	})
}
