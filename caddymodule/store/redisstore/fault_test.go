package redisstore

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// long is a time in which something surely ends that should take two seconds.
const long = 10 * time.Second

func value(v string) store.Record { return store.Record{Value: []byte(v)} }

func put(t *testing.T, s *Store, key, v string) {
	t.Helper()
	if err := s.Put(t.Context(), key, value(v)); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func wantValue(t *testing.T, s *Store, key, want string) {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	if err != nil || string(r.Value) != want {
		t.Fatalf("Get(%q) = %q, %v; want %q", key, r.Value, err, want)
	}
}

func increment(ctx context.Context, s *Store, key string) error {
	return s.Update(ctx, key, func(r store.Record) (store.Record, error) {
		n, err := strconv.Atoi("0" + string(r.Value))
		return value(strconv.Itoa(n + 1)), err
	})
}

// wantFault checks that an error tells of the store's trouble, and of nothing
// about the record or the caller's context.
func wantFault(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Errorf("%s returned %v, want an error about the server", what, err)
	}
}

func wantClosedChannel(t *testing.T, keys <-chan string) {
	t.Helper()
	timeout := time.After(long)
	for {
		select {
		case _, ok := <-keys:
			if !ok {
				return
			}
		case <-timeout:
			t.Fatal("the watch did not end")
		}
	}
}

func TestARestartOfTheServerIsSurvived(t *testing.T) {
	server := redistest.StartServer(t)
	s := open(t, Config{URL: "redis://" + server.Addr})
	inParallel(20, func(int) { put(t, s, "k", "v") }) // so that there are many connections
	keys, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	_, err = s.Get(t.Context(), "k")
	wantFault(t, "Get", err)
	wantFault(t, "Put", s.Put(t.Context(), "k", value("w")))
	wantFault(t, "Update", increment(t.Context(), s, "n"))
	wantClosedChannel(t, keys)
	server.Restart()
	wantValue(t, s, "k", "v")

	// No call fails that comes after a restart nobody has noticed.
	for range 3 {
		inParallel(20, func(int) { put(t, s, "k", "v") })
		server.Stop()
		server.Restart()
		if err := increment(t.Context(), s, "n"); err != nil {
			t.Errorf("the first call after a restart: %v", err)
		}
	}
	wantValue(t, s, "n", "3")
}

func TestAFrozenServerHoldsNobodyUp(t *testing.T) {
	server := redistest.StartServer(t)
	s := open(t, Config{URL: "redis://" + server.Addr})
	put(t, s, "k", "v")
	keys, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	begin := time.Now()
	inParallel(100, func(i int) {
		switch i % 3 {
		case 0:
			_, err := s.Get(t.Context(), "k")
			wantFault(t, "Get", err)
		case 1:
			wantFault(t, "Put", s.Put(t.Context(), "new", value("v")))
		case 2:
			wantFault(t, "Update", increment(t.Context(), s, "n"))
		}
	})
	if took := time.Since(begin); took > long {
		t.Errorf("a hundred calls took %v", took)
	}
	wantClosedChannel(t, keys)
	server.Thaw()
	redistest.WaitUntil(t, "the store works again", func() bool {
		_, err := s.Get(t.Context(), "k")
		return err == nil
	})
	if keys, err = s.Watch(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "w")
	select {
	case <-keys:
	case <-time.After(long):
		t.Error("the new watch hears nothing")
	}
}

func TestTheContextOfTheCallerCutsAWaitShort(t *testing.T) {
	server := redistest.StartServer(t)
	s := open(t, Config{URL: "redis://" + server.Addr, Timeout: time.Minute})
	put(t, s, "k", "v")
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get returned %v, want DeadlineExceeded", err)
	}
	if took := time.Since(begin); took > long {
		t.Errorf("it took %v", took)
	}
	server.Thaw()
}

func TestAServerThatHasForgottenTheScriptLearnsIt(t *testing.T) {
	server := redistest.StartServer(t)
	s := open(t, Config{URL: "redis://" + server.Addr})
	other := open(t, Config{URL: "redis://" + server.Addr})
	for range 3 {
		if err := increment(t.Context(), s, "n"); err != nil {
			t.Fatal(err)
		}
		server.Command("script", "flush")
		if err := increment(t.Context(), other, "n"); err != nil {
			t.Fatal(err)
		}
	}
	wantValue(t, s, "n", "6")
}

func TestAScriptThatComesTwiceWritesOnce(t *testing.T) {
	server := redistest.StartServer(t)
	s := open(t, Config{URL: "redis://" + server.Addr})
	put(t, s, "k", "old")
	at := s.place("k")
	_, version, err := s.read(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	c := newChange(at, version, value("new"))
	for range 2 {
		if done, err := s.apply(t.Context(), c); !done || err != nil {
			t.Fatalf("got %v, %v; want that it is done", done, err)
		}
	}
	wantValue(t, s, "k", "new")

	put(t, s, "k", "newer")
	if done, err := s.apply(t.Context(), c); done || err != nil {
		t.Errorf("got %v, %v; want a conflict, as another write came after it", done, err)
	}
	wantValue(t, s, "k", "newer")

	if _, version, err = s.read(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	deletion := newChange(at, version, store.Record{})
	for i := range 2 {
		if done, err := s.apply(t.Context(), deletion); done != (i == 0) || err != nil {
			t.Errorf("deletion %d: got %v, %v; want that only the first one counts", i, done, err)
		}
	}
}

func TestWritesFailWithoutTheReplicasTheyWaitFor(t *testing.T) {
	server := redistest.StartServer(t)
	s, err := Open(t.Context(), Config{URL: "redis://" + server.Addr, WaitReplicas: 1, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantFault(t, "Put", s.Put(t.Context(), "k", value("v")))
	wantFault(t, "Update", increment(t.Context(), s, "n"))
	wantFault(t, "Delete", s.Delete(t.Context(), "k"))
	if len(s.Warnings()) != 1 {
		t.Errorf("got the warnings %q, want one about the missing replica", s.Warnings())
	}
}

func TestFoldersLeaveNothingBehind(t *testing.T) {
	server := redistest.StartServer(t)
	s := open(t, Config{URL: "redis://" + server.Addr})
	soon := time.Now().Add(2 * time.Second)
	for i := range 50 {
		err := s.Put(t.Context(), "f/"+strconv.Itoa(i), store.Record{Value: []byte("v"), Expires: soon})
		if err != nil {
			t.Fatal(err)
		}
	}
	redistest.WaitUntil(t, "the folder is gone", func() bool { return server.Command("dbsize") == "0" })

	put(t, s, "f/forever", "v")
	err := s.Put(t.Context(), "f/short", store.Record{Value: []byte("v"), Expires: time.Now().Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	put(t, s, "f/forever", "w")
	if n := server.Command("zcard", s.index("f/")); n != "1" {
		t.Errorf("the index has %s names, want that of the record which is left", n)
	}
}

// inParallel runs fn on n goroutines and waits for all of them.
func inParallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}
