package integration

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay passes connections on to a server until it is cut.
type relay struct {
	address string // host:port

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

// startRelay runs a relay for the time of a test.
func startRelay(t testing.TB, target string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: ln.Addr().String()}
	t.Cleanup(r.cut)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go r.pass(conn, target)
		}
	}()
	return r
}

func (r *relay) pass(from net.Conn, target string) {
	to, err := net.Dial("tcp", target)
	if err != nil {
		from.Close()
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, from, to)
	isCut := r.isCut
	r.mu.Unlock()
	if isCut {
		from.Close()
		to.Close()
		return
	}
	go func() {
		_, _ = io.Copy(to, from)
		to.Close()
	}()
	_, _ = io.Copy(from, to)
	from.Close()
}

// cut ends all connections, and new ones as soon as they are made.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = true
	for _, conn := range r.conns {
		conn.Close()
	}
	r.conns = nil
}

// mend lets connections through again.
func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = false
}
