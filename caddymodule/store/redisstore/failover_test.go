package redisstore

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// load increments counters until it is stopped, and knows what each one must be
// at least and can be at most.
type load struct {
	s            *Store
	acknowledged [8]atomic.Int64
	failed       [8]atomic.Int64
}

func (l *load) key(i int) string { return "n" + strconv.Itoa(i) + "/n" } // each in a slot of its own

// run counts until the channel is closed.
func (l *load) run(t *testing.T, stop <-chan struct{}) {
	inParallel(2*len(l.acknowledged), func(g int) {
		i := g % len(l.acknowledged)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := increment(t.Context(), l.s, l.key(i)); err != nil {
				wantFault(t, "Update", err)
				l.failed[i].Add(1)
				time.Sleep(time.Millisecond)
				continue
			}
			l.acknowledged[i].Add(1)
			if _, err := l.s.Get(t.Context(), l.key(i)); errors.Is(err, store.ErrNotFound) {
				t.Errorf("Get says that a record is absent which was written")
			}
		}
	})
}

// wait returns when each counter has got n increments more.
func (l *load) wait(t *testing.T, n int64) {
	t.Helper()
	for i := range l.acknowledged {
		before := l.acknowledged[i].Load()
		redistest.WaitUntil(t, "the counters go on", func() bool { return l.acknowledged[i].Load() >= before+n })
	}
}

func (l *load) check(t *testing.T, s *Store) {
	t.Helper()
	for i := range l.acknowledged {
		r, err := s.Get(t.Context(), l.key(i))
		if err != nil {
			t.Errorf("Get: %v", err)
			continue
		}
		n, err := strconv.ParseInt(string(r.Value), 10, 64)
		least, most := l.acknowledged[i].Load(), l.acknowledged[i].Load()+l.failed[i].Load()
		if err != nil || n < least || n > most {
			t.Errorf("a counter is at %q, want %d (acknowledged) to %d (and failed)", r.Value, least, most)
		}
	}
	t.Logf("acknowledged %d of one counter, failed %d", l.acknowledged[0].Load(), l.failed[0].Load())
}

// underLoad runs the load while fn does its harm, and checks the counters.
func underLoad(t *testing.T, s *Store, fn func(l *load)) {
	t.Helper()
	l := &load{s: s}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(t, stop)
	}()
	func() {
		defer func() {
			close(stop)
			<-done
		}()
		l.wait(t, 5)
		fn(l)
	}()
	l.check(t, s)
}

func TestSentinelFailoversLoseNothingThatReplicasHave(t *testing.T) {
	group := redistest.StartSentinel(t, 2)
	s := open(t, Config{URL: "redis://" + group.Addrs(), SentinelMaster: redistest.MasterName, WaitReplicas: 1})
	keys, err := s.Watch(t.Context(), "watched/")
	if err != nil {
		t.Fatal(err)
	}
	underLoad(t, s, func(l *load) {
		old := group.Master()
		old.Kill()
		begin := time.Now()
		redistest.WaitUntil(t, "another master is chosen", func() bool { return group.Master() != old })
		chosen := time.Since(begin)
		l.wait(t, 1)
		t.Logf("a new master was chosen after %v, writes went on after %v", chosen, time.Since(begin))
		wantClosedChannel(t, keys)
		old.Restart() // now a replica
		l.wait(t, 5)
	})
	underLoadOfFailover(t, s, group)
}

// underLoadOfFailover changes masters while the old one lives on.
func underLoadOfFailover(t *testing.T, s *Store, group *redistest.Sentinel) {
	t.Helper()
	keys, err := s.Watch(t.Context(), "watched/")
	if err != nil {
		t.Fatal(err)
	}
	group.Failover()
	wantClosedChannel(t, keys)
	redistest.WaitUntil(t, "writes go to the new master", func() bool {
		return s.Put(t.Context(), "k", value("v")) == nil
	})
	if keys, err = s.Watch(t.Context(), "watched/"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "watched/k", "v")
	if key := <-keys; key != "watched/k" {
		t.Errorf("the new watch reports %q", key)
	}
}

func TestAWatchEndsWhenItsMasterIsCutOff(t *testing.T) {
	group := redistest.StartSentinel(t, 1)
	s := open(t, Config{URL: "redis://" + group.Addrs(), SentinelMaster: redistest.MasterName})
	keys, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	old := group.Master()
	old.Freeze()
	wantClosedChannel(t, keys)
	redistest.WaitUntil(t, "another master is chosen", func() bool { return group.Master() != old })
	redistest.WaitUntil(t, "the store works again", func() bool { return s.Put(t.Context(), "k", value("v")) == nil })
	old.Thaw()
	wantValue(t, s, "k", "v")
}

func TestAClusterLosesAMaster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, true)
	s := open(t, Config{URL: "redis://" + cluster.Addrs(), Cluster: true, WaitReplicas: 1})
	underLoad(t, s, func(l *load) {
		// The writes to its slots fail until the replica has taken over, and then
		// until that has a replica of its own.
		cluster.Masters[0].Kill()
		redistest.WaitUntil(t, "the replica has taken over", func() bool {
			return len(cluster.Replicas[0].Command("cluster", "info")) > 0 &&
				cluster.Replicas[0].Command("role")[:6] == "master"
		})
		cluster.Masters[0].Restart() // now a replica of its replica
		l.wait(t, 5)
	})
	keys, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		put(t, s, "again"+strconv.Itoa(i)+"/k", "v")
	}
	for range 8 {
		select {
		case <-keys:
		case <-time.After(long):
			t.Fatal("the watch does not hear all nodes")
		}
	}
}
