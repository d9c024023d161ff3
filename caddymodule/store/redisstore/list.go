package redisstore

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// pageSize is about how many keys or names one exchange brings.
const pageSize = 1000

// Keys implements store.Store. It goes through all keys of the server, or of
// each master of a cluster, those of other stores included. In a cluster that is
// just moving slots it may miss the keys in them.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	// Only what is sure to be the folder goes into the pattern: in the key of
	// Redis, a brace stands between folder and name.
	pattern := s.prefix + ":r:{/" + escape(store.Folder(prefix)) + "*"
	return func(yield func(string, error) bool) {
		masters, err := s.masters(ctx)
		if err != nil {
			yield("", err)
			return
		}
		for _, node := range masters {
			pages := s.pages(ctx, func(ctx context.Context, cursor uint64) ([]string, uint64, error) {
				return node.Scan(ctx, cursor, pattern, pageSize).Result()
			})
			for page, err := range pages {
				if err != nil {
					yield("", err)
					return
				}
				for _, record := range page {
					key, ok := s.keyOf(record)
					if ok && strings.HasPrefix(key, prefix) && !yield(key, nil) {
						return
					}
				}
			}
		}
	}
}

// List implements store.Store. It reads the index of the folder. Where Redis has
// evicted a record, against all advice, its name still comes up.
func (s *Store) List(ctx context.Context, folder string) iter.Seq2[store.Entry, error] {
	return store.InFolder(folder, func(yield func(store.Entry, error) bool) {
		pages := s.pages(ctx, func(ctx context.Context, cursor uint64) ([]string, uint64, error) {
			return s.client.ZScan(ctx, s.index(folder), cursor, "", pageSize).Result()
		})
		for page, err := range pages {
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			for i := 0; i+1 < len(page); i += 2 {
				e, err := entry(folder, page[i], page[i+1])
				expired := store.Record{Expires: e.Expires}.ExpiredAt(time.Now())
				if !expired && !yield(e, err) || err != nil {
					return
				}
			}
		}
	})
}

// entry makes an entry out of a name and its score.
func entry(folder, name, score string) (store.Entry, error) {
	ms, err := strconv.ParseFloat(score, 64)
	if err != nil {
		return store.Entry{}, fmt.Errorf("redis: the index of a folder has a score that is no number: %w", err)
	}
	e := store.Entry{Key: folder + name}
	if !math.IsInf(ms, 1) {
		e.Expires = time.UnixMilli(int64(ms))
	}
	return e, nil
}

// pages yields what a command of the SCAN kind brings, with a timeout for each
// page. An error ends the sequence.
func (s *Store) pages(
	ctx context.Context, fetch func(ctx context.Context, cursor uint64) ([]string, uint64, error),
) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			if err := s.usable(ctx); err != nil {
				yield(nil, err)
				return
			}
			opCtx, cancel := context.WithTimeout(ctx, s.timeout)
			page, next, err := fetch(opCtx, cursor)
			cancel()
			if err != nil {
				yield(nil, s.failure(ctx, err))
				return
			}
			if !yield(page, nil) {
				return
			}
			cursor = next
		}
	}
}

// masters returns the clients of all servers that have records of their own.
func (s *Store) masters(ctx context.Context) ([]*redis.Client, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if s.cluster == nil {
		return []*redis.Client{s.single}, nil
	}
	opCtx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var mu sync.Mutex
	var masters []*redis.Client
	err := s.cluster.ForEachMaster(opCtx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, node)
		return nil
	})
	return masters, s.failure(ctx, err)
}
