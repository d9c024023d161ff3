// This file implements which addresses are the public Internet: RFC 6890
// (Special-Purpose IP Address Registries) and its later entries.

package outbound

import (
	"fmt"
	"net/netip"
)

// special are the blocks of the IANA registries that are not globally reachable,
// or that lead somewhere else than they say. Of IPv6 only 2000::/3 has been given
// out, so what lies outside of it is refused as a whole.
var special = prefixes(
	"0.0.0.0/8",         // this network
	"10.0.0.0/8",        // private
	"100.64.0.0/10",     // shared by carriers (CGNAT)
	"127.0.0.0/8",       // loopback
	"169.254.0.0/16",    // link-local, where clouds keep their metadata
	"172.16.0.0/12",     // private
	"192.0.0.0/24",      // protocol assignments
	"192.0.2.0/24",      // documentation
	"192.31.196.0/24",   // AS112
	"192.52.193.0/24",   // AMT
	"192.88.99.0/24",    // 6to4 relays
	"192.168.0.0/16",    // private
	"192.175.48.0/24",   // AS112
	"198.18.0.0/15",     // benchmarks
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"224.0.0.0/4",       // multicast
	"240.0.0.0/4",       // reserved, and broadcast
	"2001::/23",         // protocol assignments: Teredo, benchmarks, ORCHID and others
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4, which carries an IPv4 address
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
	"3ffe::/16",         // the former 6bone
)

// unicast is what of IPv6 has been given out. NAT64 (64:ff9b::/96 and
// 64:ff9b:1::/48), discard-only, unique-local, link-local and site-local
// addresses, multicast, and all forms that embed IPv4 lie outside of it.
var unicast = netip.MustParsePrefix("2000::/3")

func prefixes(blocks ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(blocks))
	for i, block := range blocks {
		out[i] = netip.MustParsePrefix(block)
	}
	return out
}

// checkPublic refuses an address of special use. An IPv4 address in the clothes
// of an IPv6 one is judged as what it is.
func checkPublic(addr netip.Addr) error {
	if addr.Zone() != "" {
		return fmt.Errorf("%s is an address of one link", addr)
	}
	addr = addr.Unmap()
	if addr.Is6() && !unicast.Contains(addr) {
		return fmt.Errorf("%s is not an address of the public Internet", addr)
	}
	for _, block := range special {
		if block.Contains(addr) {
			return fmt.Errorf("%s is of special use (%s)", addr, block)
		}
	}
	return nil
}

// checkLoopback refuses everything but this machine.
func checkLoopback(addr netip.Addr) error {
	if !addr.Unmap().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", addr)
	}
	return nil
}

// network is the part of an address that one customer has: with IPv6 it is a
// network of 64 bits.
func network(addr netip.Addr) string {
	addr = addr.Unmap()
	if p, err := addr.Prefix(64); err == nil && addr.Is6() {
		return p.String()
	}
	return addr.String()
}
