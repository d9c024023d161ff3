package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// origin is the public origin of the place for a host.
func (p place) origin(host string) string {
	host = strings.Trim(host, "[]")
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	switch {
	case p.port != 0 && (p.scheme != "https" || p.port != 443) && (p.scheme != "http" || p.port != 80):
		host = net.JoinHostPort(host, strconv.Itoa(p.port))
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return p.scheme + "://" + host
}

// origins are the public origins that can be read from the places alone.
func origins(places []place) []string {
	var out []string
	for _, p := range places {
		for _, host := range p.hosts {
			if !standsForMany(host) {
				out = append(out, p.origin(host))
			}
		}
	}
	return out
}

// publicOrigin decides on the origin of a site: where its clients find it.
// elsewhere reports whether another site of the configuration is at an origin.
func publicOrigin(places []place, issuer string, elsewhere func(origin string) bool) (string, error) {
	if issuer != "" && isIssuersSite(places, issuer, elsewhere) {
		return issuer, nil
	}
	hosts, best := siteHosts(places)
	switch {
	case len(hosts) == 0:
		return "", fmt.Errorf("the address of this site (%s) has no host, so nobody knows where clients find it. %s",
			best.listen, addressHint(issuer, elsewhere, "Give the site the address that clients use, for example: mcp.example.com"))
	case len(hosts) > 1:
		return "", fmt.Errorf("this site has several addresses (%s). %s", strings.Join(hosts, ", "),
			addressHint(issuer, elsewhere, "Write one site for each of them"))
	case standsForMany(hosts[0]):
		return "", fmt.Errorf("the address '%s' of this site stands for many hosts. %s", hosts[0],
			addressHint(issuer, elsewhere, "Write a site with the public address of the MCP server, for example: mcp.example.com"))
	case best.scheme == "http" && !isLoopback(strings.Trim(hosts[0], "[]")):
		return "", plainHTTP(hosts[0], issuer, elsewhere)
	}
	return best.origin(hosts[0]), nil
}

// isIssuersSite reports whether a site is that of its issuer: it stands at this
// very origin, or it serves its host for a proxy in front, which may use another
// scheme and port.
func isIssuersSite(places []place, issuer string, elsewhere func(origin string) bool) bool {
	if slices.Contains(origins(places), issuer) {
		return true
	}
	u, err := url.Parse(issuer)
	if err != nil || elsewhere(issuer) {
		return false
	}
	return slices.ContainsFunc(places, func(p place) bool { return p.serves(u.Hostname()) })
}

// addressHint says how to tell the public address of a site: by an issuer line,
// unless there is one that is about another site.
func addressHint(issuer string, elsewhere func(origin string) bool, otherwise string) string {
	if issuer != "" && elsewhere(issuer) {
		return otherwise
	}
	return "Add a line with the one that clients use, for example: issuer https://mcp.example.com"
}

func plainHTTP(host, issuer string, elsewhere func(origin string) bool) error {
	const stolen = "this site is served over plain http, where tokens can be stolen. "
	switch {
	case elsewhere("https://" + host):
		return fmt.Errorf(stolen+"Take the address http://%s away: it is redirected to https without it", host)
	case issuer != "":
		return fmt.Errorf(stolen+"Serve it over https: %s; or, when another proxy in front of it does, "+
			"give it the host that clients use", host)
	}
	return fmt.Errorf(stolen+"Serve it over https, or, when another proxy in front of it does, add the line: issuer https://%s", host)
}

// siteHosts returns the distinct hosts of a site, and its best place: the one
// with TLS.
func siteHosts(places []place) (hosts []string, best place) {
	for _, p := range places {
		if best.scheme != "https" {
			best = p
		}
		for _, host := range p.hosts {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts, best
}

// errNoPlace says that the routes of the web server do not lead to a handler.
var errNoPlace = errors.New("mcp_auth stands in a route that cannot be found. " +
	"Use it directly in a site, or in handle, handle_path, route and invoke blocks")
