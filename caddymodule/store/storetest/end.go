package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

var endRules = []rule{
	{"a closed store is ErrClosed for every method", func(t *testing.T, s store.Store) {
		put(t, s, "k", value("v"))
		closeStore(t, s)
		for _, m := range methods {
			if err := m.call(t.Context(), s, "k"); !errors.Is(err, store.ErrClosed) {
				t.Errorf("%s returned %v, want ErrClosed", m.name, err)
			}
		}
	}},
	{"closing twice is no error", func(t *testing.T, s store.Store) {
		race(4, func(int) {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		closeStore(t, s)
	}},
	{"calls under way at the end finish or are ErrClosed", func(t *testing.T, s store.Store) {
		for i := range 10 {
			put(t, s, fmt.Sprintf("k/%d", i), value("v"))
		}
		var wg sync.WaitGroup
		started := make(chan struct{}, 1000)
		for _, m := range methods {
			for g := range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						err := m.call(t.Context(), s, fmt.Sprintf("k/%d", (g+i)%10))
						select {
						case started <- struct{}{}:
						default:
						}
						if errors.Is(err, store.ErrClosed) {
							return
						}
						if err != nil && !errors.Is(err, store.ErrNotFound) {
							t.Errorf("%s: %v", m.name, err)
							return
						}
					}
				})
			}
		}
		for range 100 {
			<-started
		}
		closeStore(t, s)
		wg.Wait()
	}},
}
