package redisstore

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// proxy passes connections on to a server and cuts them when it is told to:
// some before a request has reached the server, some after that and before the
// answer.
type proxy struct {
	net.Listener
	target string

	mu    sync.Mutex
	calm  bool
	conns map[net.Conn]struct{}
	cuts  int
}

func startProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target, calm: true, conns: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.conns {
			_ = c.Close()
		}
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.conns[client], p.conns[server] = struct{}{}, struct{}{}
			p.mu.Unlock()
			go p.pass(client, server)
			go p.pass(server, client)
		}
	}()
	return p
}

// pass copies one direction of a connection until it is cut.
func (p *proxy) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.cut() {
			return // what has been read is lost
		}
		if _, errWrite := to.Write(buf[:n]); err != nil || errWrite != nil {
			return
		}
	}
}

// cut decides by chance whether this is the end of a connection.
func (p *proxy) cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calm || rand.IntN(100) > 0 {
		return false
	}
	p.cuts++
	return true
}

// rage cuts connections for two seconds.
func (p *proxy) rage(t *testing.T) {
	set := func(calm bool) int {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calm = calm
		return p.cuts
	}
	set(false)
	time.Sleep(2 * time.Second)
	if cuts := set(true); cuts < 10 {
		t.Errorf("only %d connections were cut", cuts)
	}
}

func TestNoIncrementIsLostOrDoubledWhenConnectionsBreak(t *testing.T) {
	server := redistest.StartServer(t)
	p := startProxy(t, server.Addr)
	s := open(t, Config{URL: "redis://" + p.Addr().String()})
	underLoad(t, s, func(*load) { p.rage(t) })
}

func TestNoIncrementIsLostOrDoubledWhenConnectionsToAClusterBreak(t *testing.T) {
	cluster := redistest.StartCluster(t, 1, false)
	p := startProxy(t, cluster.Masters[0].Addr)
	_, port, _ := net.SplitHostPort(p.Addr().String())
	cluster.Masters[0].Command("config", "set", "cluster-announce-port", port)
	s := open(t, Config{URL: "redis://" + p.Addr().String(), Cluster: true})
	underLoad(t, s, func(*load) { p.rage(t) })
}
