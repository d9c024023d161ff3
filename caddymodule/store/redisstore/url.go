package redisstore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// address is what a URL says.
type address struct {
	tls                bool
	username, password string
	addrs              []string // host:port
	db                 int
}

// parseURL reads a URL of the form that Config describes. It is strict, as
// whatever it guessed would surface as a connection to the wrong place. Its
// errors quote nothing: a mistyped URL can have its password anywhere.
func parseURL(raw, defaultPort string) (address, error) {
	var a address
	rest, found := strings.CutPrefix(raw, "redis://")
	if !found {
		if rest, found = strings.CutPrefix(raw, "rediss://"); !found {
			return address{}, errors.New("a Redis URL begins with redis:// or, for TLS, with rediss://")
		}
		a.tls = true
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if err := a.setUser(rest[:at]); err != nil {
			return address{}, err
		}
		rest = rest[at+1:]
	}
	hosts, db, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(rest, "?#") {
		return address{}, errors.New("a Redis URL has no ? and no #: what is more than address and database has an option of its own")
	}
	for i, host := range strings.Split(hosts, ",") {
		addr, err := hostPort(host, defaultPort)
		if err != nil {
			return address{}, fmt.Errorf("host %d in the Redis URL %w", i+1, err)
		}
		a.addrs = append(a.addrs, addr)
	}
	if db != "" {
		n, err := number(db, 1<<16)
		if err != nil {
			return address{}, errors.New("a Redis URL ends with the number of the database, as in redis://host:6379/0")
		}
		a.db = n
	}
	return a, nil
}

// setUser takes what stands before the @.
func (a *address) setUser(info string) error {
	if strings.ContainsAny(info, "/?#@[]") {
		return errors.New("special characters in the password of a Redis URL have to be percent-encoded, as %2F for a slash; or set the password apart from the URL")
	}
	user, password, found := strings.Cut(info, ":")
	if !found || password == "" {
		return errors.New("a Redis URL with a user has a password, too: write user:password@ or, without a user, :password@")
	}
	var errUser, errPassword error
	a.username, errUser = url.PathUnescape(user)
	a.password, errPassword = url.PathUnescape(password)
	if errUser != nil || errPassword != nil {
		return errors.New("user or password of the Redis URL has a percent sign that is not followed by two hexadecimal digits: write %25 for the sign itself")
	}
	return nil
}

// hostPort checks one host and adds the default port where there is none.
func hostPort(s, defaultPort string) (string, error) {
	host, port := s, defaultPort
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, ']') {
		host, port = s[:colon], s[colon+1:]
	}
	if n, err := number(port, 1<<16); err != nil || n == 0 {
		return "", errors.New("has a port that is not a number from 1 to 65535")
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if !ok || err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", errors.New("is not an IPv6 address in brackets, as in [2001:db8::1]:6379")
		}
		return net.JoinHostPort(ip.String(), port), nil
	}
	if host == "" {
		return "", errors.New("is empty: write redis://host:port")
	}
	for _, c := range []byte(host) {
		if !isAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return "", errors.New("is neither a host name nor an IP address; IPv6 addresses are written in brackets")
		}
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// number reads decimal digits, and nothing else, below the limit.
func number(s string, limit uint64) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n >= limit || (len(s) > 1 && s[0] == '0') {
		return 0, errors.New("not such a number")
	}
	return int(n), nil
}
