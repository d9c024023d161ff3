// Package freeport finds ports of the loopback address for servers under test.
package freeport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Range is a range of ports. All of them are below those that systems give to
// connections and to listeners without a wish, which would take one before the
// server that it is meant for listens. Tests that run at the same time, in
// processes of their own, have ranges of their own.
type Range struct{ from, count int }

// The ranges.
var (
	Commands    = Range{4_000, 1_000}
	Caddy       = Range{5_000, 5_000}
	Redis       = Range{10_000, 10_000}
	Integration = Range{20_000, 12_000}
)

// given are the ports that have been returned, on which nothing may listen yet.
var given sync.Map

// Find returns a port on which nothing listens, for TCP and, because of HTTP/3, for
// UDP. No port is returned twice.
func (r Range) Find() (int, error) {
	for range 100 {
		port := r.from + rand.N(r.count) //nolint:gosec // a guess would gain nothing
		if !isFree(port) {
			continue
		}
		if _, taken := given.LoadOrStore(port, true); !taken {
			return port, nil
		}
	}
	return 0, errors.New("no port is free for both TCP and UDP")
}

// Free is Find for tests.
func (r Range) Free(t testing.TB) int {
	t.Helper()
	port, err := r.Find()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func isFree(port int) bool {
	var listen net.ListenConfig
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	tcp, err := listen.Listen(context.Background(), "tcp", at)
	if err != nil {
		return false
	}
	_ = tcp.Close()
	udp, err := listen.ListenPacket(context.Background(), "udp", at)
	if err != nil {
		return false
	}
	_ = udp.Close()
	return true
}
