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

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// place is where a handler stands in the configuration of the web server.
type place struct {
	hosts    []string // of the host matchers on the way to it; empty for any host
	scheme   string
	port     int
	loopback bool // every listener is on loopback
}

// findPlaces looks through the routes of the web server for the handler. The
// public origin of a site comes from there, so that it is configuration and
// never what a request says.
func findPlaces(app *caddyhttp.App, h *Handler) []place {
	var out []place
	for _, srv := range app.Servers {
		w := walker{server: srv, handler: h}
		w.routes(srv.Routes, nil)
		for _, hosts := range w.found {
			out = append(out, newPlace(srv, hosts))
		}
	}
	return out
}

// walker finds a handler below the routes of a server.
type walker struct {
	server  *caddyhttp.Server
	handler *Handler
	invoked []string // the named routes on the way, against endless recursion
	found   [][]string
}

func (w *walker) routes(routes caddyhttp.RouteList, hosts []string) {
	for i := range routes {
		w.route(&routes[i], hosts)
	}
}

func (w *walker) route(r *caddyhttp.Route, hosts []string) {
	if own := matchedHosts(r.MatcherSets); len(own) > 0 {
		hosts = own
	}
	for _, m := range r.Handlers {
		switch m := m.(type) {
		case *Handler:
			if m == w.handler {
				w.found = append(w.found, hosts)
			}
		case *caddyhttp.Subroute:
			w.routes(m.Routes, hosts)
		case *caddyhttp.Invoke:
			if named, ok := w.server.NamedRoutes[m.Name]; ok && !slices.Contains(w.invoked, m.Name) {
				w.invoked = append(w.invoked, m.Name)
				w.route(named, hosts)
				w.invoked = w.invoked[:len(w.invoked)-1]
			}
		}
	}
}

// matchedHosts are the hosts that the matchers of a route name.
func matchedHosts(sets caddyhttp.MatcherSets) []string {
	var out []string
	for _, set := range sets {
		for _, m := range set {
			switch m := m.(type) {
			case *caddyhttp.MatchHost:
				out = append(out, *m...)
			case caddyhttp.MatchHost:
				out = append(out, m...)
			}
		}
	}
	return out
}

func newPlace(srv *caddyhttp.Server, hosts []string) place {
	p := place{hosts: hosts, scheme: "http", loopback: len(srv.Listen) > 0}
	if len(srv.TLSConnPolicies) > 0 {
		p.scheme = "https"
	}
	for _, listen := range srv.Listen {
		addr, err := caddy.ParseNetworkAddress(listen)
		if err != nil {
			p.loopback = false
			continue
		}
		if p.port == 0 {
			p.port = int(addr.StartPort)
		}
		if !addr.IsUnixNetwork() && !isLoopback(addr.Host) {
			p.loopback = false
		}
	}
	return p
}

// origin is the public origin of the place for a host.
func (p place) origin(host string) string {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && addr.Is6() {
		host = "[" + addr.String() + "]"
	}
	if p.port == 0 || p.scheme == "https" && p.port == 443 || p.scheme == "http" && p.port == 80 {
		return p.scheme + "://" + host
	}
	return p.scheme + "://" + net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(p.port))
}

// publicOrigin decides on the origin of a site: where its clients find it.
func publicOrigin(places []place, issuer string) (string, error) {
	hosts, best := siteHosts(places)
	if issuer != "" {
		u, err := url.Parse(issuer)
		if err != nil {
			return "", err
		}
		// The site of the issuer itself, whatever proxies stand before it.
		if len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(strings.Trim(h, "[]"), u.Hostname()) }) {
			return issuer, nil
		}
	}
	switch len(hosts) {
	case 0:
		return "", errors.New("the address of this site has no host, so nobody knows where clients find it. " +
			"Add a line with its public address, for example: issuer https://mcp.example.com")
	case 1:
	default:
		return "", fmt.Errorf("this site has several addresses (%s). Say which one clients use, for example: issuer https://%s",
			strings.Join(hosts, ", "), hosts[0])
	}
	host := hosts[0]
	if strings.ContainsAny(host, "*{}") {
		return "", fmt.Errorf("the address '%s' of this site stands for many hosts. "+
			"Add a line with the public address of the MCP server, for example: issuer https://mcp.example.com", host)
	}
	if best.scheme == "http" && !isLoopback(strings.Trim(host, "[]")) {
		return "", fmt.Errorf("this site is served over plain http, where tokens can be stolen. Serve it over https, "+
			"or, when another proxy in front of it does, add the line: issuer https://%s", host)
	}
	return best.origin(host), nil
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
