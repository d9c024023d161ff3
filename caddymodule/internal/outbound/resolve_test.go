package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver returns a resolver that knows one name, as any server of a stranger
// could answer for it.
func resolver(t *testing.T, address netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var query dnsmessage.Message
			if query.Unpack(buffer[:n]) == nil {
				_, _ = conn.WriteTo(answerOf(query, address), peer)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func answerOf(query dnsmessage.Message, address netip.Addr) []byte {
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	q := query.Questions[0]
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	switch {
	case q.Type == dnsmessage.TypeA && address.Is4():
		answer.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: address.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && address.Is6():
		answer.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}}}
	}
	packed, err := answer.Pack()
	if err != nil {
		panic(err)
	}
	return packed
}

func TestNamesThatResolveToSpecialAddressesAreRefused(t *testing.T) {
	for block, addresses := range refusedAddresses {
		for _, text := range addresses {
			address := netip.MustParseAddr(text)
			if address.Zone() != "" {
				continue // nothing that a server of names could answer
			}
			t.Run(block+" "+text, func(t *testing.T) {
				t.Parallel()
				f := NewWith(Options{Resolver: resolver(t, address)})
				_, err := f.Get(t.Context(), Public, "https://client.example/metadata.json", accept)
				if err == nil || !strings.Contains(err.Error(), "special use") && !strings.Contains(err.Error(), "public Internet") {
					t.Errorf("got %v, want a refusal of the address", err)
				}
			})
		}
	}
}

// A refused connection is none at all: nothing arrives at the port.
func TestNothingIsSentToARefusedAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	came := make(chan struct{}, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			conn.Close()
			came <- struct{}{}
		}
	}()
	port := listener.Addr().(*net.TCPAddr).Port
	f := NewWith(Options{Resolver: resolver(t, netip.MustParseAddr("127.0.0.1"))})
	if _, err := f.Get(t.Context(), Public, fmt.Sprintf("https://client.example:%d/metadata.json", port), accept); err == nil {
		t.Error("fetched from loopback")
	}
	listener.Close()
	select {
	case <-came:
		t.Error("a connection was made")
	default:
	}
}

func accept([]byte) (any, error) { return nil, nil }
