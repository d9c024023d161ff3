package redistest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/internal/freeport"
)

// Cluster is a Redis Cluster whose slots are spread evenly over its masters.
type Cluster struct {
	Masters  []*Server
	Replicas []*Server // Replicas[i] follows Masters[i]; empty for none
}

// StartCluster starts a cluster and waits until all of its nodes agree. A master
// that is gone for a second is replaced by its replica.
func StartCluster(t testing.TB, masters int, withReplicas bool) *Cluster {
	t.Helper()
	c := &Cluster{}
	for range masters {
		c.Masters = append(c.Masters, startNode(t))
	}
	const slots = 16384
	for i, m := range c.Masters {
		from, to := i*slots/masters, (i+1)*slots/masters-1
		m.Command("cluster", "addslotsrange", strconv.Itoa(from), strconv.Itoa(to))
		m.Command("cluster", "set-config-epoch", strconv.Itoa(i+1))
	}
	if withReplicas {
		for range masters {
			c.Replicas = append(c.Replicas, startNode(t))
		}
	}
	c.meet()
	for i, r := range c.Replicas {
		r.Command("cluster", "replicate", c.Masters[i].Command("cluster", "myid"))
		r.waitUntil("the replica follows", func() bool {
			return strings.Contains(r.Command("info", "replication"), "master_link_status:up")
		})
	}
	// The masters have to know of the replicas, or these are not elected.
	for _, s := range c.nodes() {
		s.waitUntil("the replicas are known", func() bool {
			return strings.Count(s.Command("cluster", "nodes"), "slave ") == len(c.Replicas)
		})
	}
	return c
}

func startNode(t testing.TB) *Server {
	t.Helper()
	bus := strconv.Itoa(freeport.Redis.Free(t))
	return start(t, nil, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "1000",
		"--cluster-replica-validity-factor", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", "",
		"--repl-diskless-sync-delay", "0")
}

func (c *Cluster) nodes() []*Server { return append(append([]*Server{}, c.Masters...), c.Replicas...) }

// meet makes all nodes know each other.
func (c *Cluster) meet() {
	first, all := c.Masters[0], c.nodes()
	for _, s := range all[1:] {
		bus := s.Command("config", "get", "cluster-port")
		s.waitUntil("it is met", func() bool {
			first.Command("cluster", "meet", "127.0.0.1", s.Port(), bus[strings.LastIndexByte(bus, '\n')+1:])
			return strings.Contains(first.Command("cluster", "nodes"), ":"+s.Port()+"@")
		})
	}
	for _, s := range all {
		s.waitUntil("the cluster is complete", func() bool {
			info := s.Command("cluster", "info")
			return strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(all)))
		})
	}
}

// Addrs returns the addresses of all nodes, as a URL has them.
func (c *Cluster) Addrs() string { return addrs(c.nodes()) }

func addrs(servers []*Server) string {
	var all []string
	for _, s := range servers {
		all = append(all, s.Addr)
	}
	return strings.Join(all, ",")
}
