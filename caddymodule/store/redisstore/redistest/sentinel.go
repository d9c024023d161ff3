package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// MasterName is how the sentinels call their master.
const MasterName = "mymaster"

// Sentinel is a master with replicas that three sentinels watch over.
type Sentinel struct {
	Servers   []*Server // the first one is the master at the beginning
	Sentinels []*Server
}

// StartSentinel starts a master, its replicas and three sentinels, two of which
// have to agree, and waits until these know of everybody. A master that is gone
// for half a second is replaced.
func StartSentinel(t testing.TB, replicas int) *Sentinel {
	t.Helper()
	master := StartServer(t, "--repl-diskless-sync-delay", "0")
	s := &Sentinel{Servers: []*Server{master}}
	for range replicas {
		r := StartServer(t, "--replicaof", "127.0.0.1 "+master.Port(), "--repl-diskless-sync-delay", "0")
		r.waitUntil("the replica follows", func() bool {
			return strings.Contains(r.Command("info", "replication"), "master_link_status:up")
		})
		s.Servers = append(s.Servers, r)
	}
	for range 3 {
		s.Sentinels = append(s.Sentinels, startSentinel(t, master))
	}
	for _, sentinel := range s.Sentinels {
		sentinel.waitUntil("the sentinel knows the others", func() bool {
			info := sentinel.Command("info", "sentinel")
			return strings.Contains(info, fmt.Sprintf("slaves=%d,sentinels=3", replicas))
		})
	}
	return s
}

func startSentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	s := prepare(t, nil)
	config := filepath.Join(s.dir, "sentinel.conf")
	lines := []string{
		"port " + s.Port(),
		"sentinel monitor " + MasterName + " 127.0.0.1 " + master.Port() + " 2",
		"sentinel down-after-milliseconds " + MasterName + " 500",
		"sentinel failover-timeout " + MasterName + " 3000",
		"",
	}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = append([]string{config, "--sentinel"}, s.args...)
	s.run()
	s.waitUntilUp()
	return s
}

// Addrs returns the addresses of the sentinels, as a URL has them.
func (s *Sentinel) Addrs() string { return addrs(s.Sentinels) }

// Master returns the server that the first sentinel takes for the master.
func (s *Sentinel) Master() *Server {
	answer := s.Sentinels[0].Command("sentinel", "get-master-addr-by-name", MasterName)
	port := answer[strings.LastIndexByte(answer, '\n')+1:]
	for _, server := range s.Servers {
		if server.Port() == port {
			return server
		}
	}
	return nil
}

// Failover makes a replica the master, as an operator does who wants to restart
// the old one, and waits until the sentinels say so.
func (s *Sentinel) Failover() {
	old := s.Master()
	old.t.Helper()
	old.waitUntil("a failover can begin", func() bool {
		return s.Sentinels[0].Command("sentinel", "failover", MasterName) == "OK"
	})
	old.waitUntil("another master is chosen", func() bool { return s.Master() != old })
}
