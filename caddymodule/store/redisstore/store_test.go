package redisstore

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9/logging"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestMain(m *testing.M) {
	logging.Disable() // lost connections are what these tests are about
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	server := redistest.StartServer(t)
	storetest.Run(t, func(t *testing.T) store.Store { return openEmpty(t, Config{URL: "redis://" + server.Addr}) })
}

func TestStoreIsDurable(t *testing.T) {
	server := redistest.StartServer(t)
	prefixes := map[string]string{}
	storetest.RunDurable(t, func(t *testing.T, path string) store.Store {
		if prefixes[path] == "" {
			prefixes[path] = freshPrefix()
		}
		return open(t, Config{URL: "redis://" + server.Addr, KeyPrefix: prefixes[path]})
	})
}

func TestStoreInACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, false)
	storetest.Run(t, func(t *testing.T) store.Store {
		return openEmpty(t, Config{URL: "redis://" + cluster.Addrs(), Cluster: true})
	})
}

func TestStoreThatWaitsForReplicas(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, true)
	storetest.Run(t, func(t *testing.T) store.Store {
		return openEmpty(t, Config{URL: "redis://" + cluster.Addrs(), Cluster: true, WaitReplicas: 1})
	})
}

func TestStoreBehindInjectedFaults(t *testing.T) {
	server := redistest.StartServer(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		// The embedding hides that a Faulty has a method Sweep, unlike this store.
		return struct{ store.Store }{storetest.NewFaulty(openEmpty(t, Config{URL: "redis://" + server.Addr}))}
	})
}

var prefixCount atomic.Int64

// freshPrefix returns a key prefix under which nothing is, so that one server
// does for many tests.
func freshPrefix() string { return fmt.Sprintf("test_%d", prefixCount.Add(1)) }

func openEmpty(t testing.TB, cfg Config) *Store {
	t.Helper()
	cfg.KeyPrefix = freshPrefix()
	return open(t, cfg)
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for _, w := range s.Warnings() {
		if !strings.Contains(w, "replicas") {
			t.Errorf("warning: %s", w)
		}
	}
	return s
}
