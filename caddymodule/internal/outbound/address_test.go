package outbound

import (
	"net/netip"
	"testing"
)

// refusedAddresses are one or more of each block that is not the public Internet.
var refusedAddresses = map[string][]string{
	"loopback":             {"127.0.0.1", "127.255.255.254", "::1"},
	"unspecified":          {"0.0.0.0", "0.1.2.3", "::"},
	"private":              {"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"},
	"CGNAT":                {"100.64.0.1", "100.127.255.255"},
	"link-local":           {"169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1"},
	"unique-local":         {"fc00::1", "fd12:3456::1", "fd00:ec2::254"},
	"site-local":           {"fec0::1"},
	"multicast":            {"224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"},
	"broadcast":            {"255.255.255.255"},
	"reserved":             {"240.0.0.1", "254.255.255.255", "4000::1", "e000::1", "100::1", "100:0:0:1::1", "5f00::1"},
	"documentation":        {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"},
	"benchmark":            {"198.18.0.1", "198.19.255.255", "2001:2::1"},
	"protocol assignments": {"192.0.0.1", "192.0.0.170", "2001:1::1", "2001:10::1", "2001:20::1", "2001:30::1"},
	"AS112 and AMT":        {"192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1", "2001:4:112::1"},
	"NAT64":                {"64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "64:ff9b:1:ffff::a00:1"},
	"6to4":                 {"2002:7f00:1::", "2002:808:808::1", "192.88.99.1"},
	"Teredo":               {"2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"},
	"the former 6bone":     {"3ffe::1"},
	"mapped from IPv4":     {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1"},
	"IPv4-compatible":      {"::127.0.0.1", "::8.8.8.8", "::ffff:0:8.8.8.8"},
	"SRv6 and a zone":      {"5f00::2", "2606:4700::1111%eth0"},
}

func TestAddressesOfSpecialUseAreRefused(t *testing.T) {
	for block, addresses := range refusedAddresses {
		for _, address := range addresses {
			if checkPublic(netip.MustParseAddr(address)) == nil {
				t.Errorf("%s (%s) is let through", address, block)
			}
		}
	}
}

func TestTheInternetIsReached(t *testing.T) {
	for _, address := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1",
		"169.253.255.255", "172.15.255.255", "172.32.0.1", "192.0.1.1", "192.167.255.255", "198.17.255.255", "198.20.0.1",
		"223.255.255.255", "2606:4700::1111", "2001:200::1", "2001:4860:4860::8888", "2a00:1450::1", "2003::1", "::ffff:8.8.8.8",
	} {
		if err := checkPublic(netip.MustParseAddr(address)); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestLoopbackReachesThisMachineOnly(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"} {
		if err := check(Loopback, netip.MustParseAddr(address)); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"0.0.0.0", "::", "10.0.0.1", "169.254.169.254", "192.168.1.1", "8.8.8.8", "fe80::1", "fd00::1", "64:ff9b::7f00:1"} {
		if check(Loopback, netip.MustParseAddr(address)) == nil {
			t.Errorf("%s is let through", address)
		}
	}
}

// Whatever the address, none of this machine or of a private network is public.
func FuzzCheckPublic(f *testing.F) {
	for _, addresses := range refusedAddresses {
		for _, address := range addresses {
			f.Add(netip.MustParseAddr(address).AsSlice())
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok || checkPublic(addr) != nil {
			return
		}
		if a := addr.Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			t.Errorf("%s is let through", addr)
		}
	})
}
