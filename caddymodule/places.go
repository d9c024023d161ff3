package caddymodule

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// place is where a handler stands in the configuration of the web server.
type place struct {
	order    int      // among all places, as the configuration has them
	hosts    []string // of the host matchers on the way to it; empty for any host
	matchers []caddyhttp.MatcherSets

	listen   string // the address that the next two come from
	scheme   string
	port     int  // 0 for what has none
	loopback bool // every listener is on loopback

	trusts   bool     // the server has trusted proxies
	clearing clearing // what is done before to requests for the authorization endpoint
}

// findPlaces looks through the routes of the web server for handlers. The public
// origin of a site comes from there, so that it is configuration and never what
// a request says.
func findPlaces(app *caddyhttp.App) map[*Handler][]place {
	w := walker{places: map[*Handler][]place{}}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		w.server = app.Servers[name]
		w.routes(w.server.Routes, newPlace(w.server, app.HTTPPort))
	}
	return w.places
}

// walker finds the handlers below the routes of a server.
type walker struct {
	server  *caddyhttp.Server
	invoked []string // the named routes on the way, against endless recursion
	places  map[*Handler][]place
	order   int
}

func (w *walker) routes(routes caddyhttp.RouteList, at place) {
	for i := range routes {
		w.route(&routes[i], at)
		at.clearing = at.clearing.after(&routes[i])
	}
}

func (w *walker) route(r *caddyhttp.Route, at place) {
	if len(r.MatcherSets) > 0 {
		at.hosts = narrowHosts(at.hosts, matchedHosts(r.MatcherSets))
		at.matchers = append(slices.Clip(at.matchers), r.MatcherSets)
	}
	for _, m := range r.Handlers {
		switch m := m.(type) {
		case *Handler:
			at.order = w.order
			w.order++
			w.places[m] = append(w.places[m], at)
		case *caddyhttp.Subroute:
			w.routes(m.Routes, at)
		case *caddyhttp.Invoke:
			if named, ok := w.server.NamedRoutes[m.Name]; ok && !slices.Contains(w.invoked, m.Name) {
				w.invoked = append(w.invoked, m.Name)
				w.route(named, at)
				w.invoked = w.invoked[:len(w.invoked)-1]
			}
		}
		at.clearing = at.clearing.past(m)
	}
}

// matchedHosts are the hosts that the matchers of a route let through; none when
// one of the sets lets any host through.
func matchedHosts(sets caddyhttp.MatcherSets) []string {
	var out []string
	for _, set := range sets {
		var hosts []string
		for _, m := range set {
			switch m := m.(type) {
			case *caddyhttp.MatchHost:
				hosts = append(hosts, *m...)
			case caddyhttp.MatchHost:
				hosts = append(hosts, m...)
			}
		}
		if len(hosts) == 0 {
			return nil
		}
		out = append(out, hosts...)
	}
	for i, host := range out {
		// Placeholders of the environment are the same for each request.
		if known := caddy.NewReplacer().ReplaceKnown(host, ""); known != "" {
			out[i] = strings.ToLower(known)
		}
	}
	return out
}

// narrowHosts returns the hosts that get through two host matchers.
func narrowHosts(outer, inner []string) []string {
	switch {
	case len(outer) == 0:
		return inner
	case len(inner) == 0:
		return outer
	}
	var out []string
	for _, a := range outer {
		for _, b := range inner {
			if narrow := a; hostMatches(a, b) || hostMatches(b, a) {
				if hostMatches(a, b) {
					narrow = b
				}
				if !slices.Contains(out, narrow) {
					out = append(out, narrow)
				}
			}
		}
	}
	if len(out) == 0 {
		return inner // nothing gets there; the inner matcher is what was meant
	}
	return out
}

// standsForMany reports whether a host of a matcher has a wildcard or a
// placeholder of the request.
func standsForMany(host string) bool { return strings.ContainsAny(host, "*{}") }

// hostMatches reports whether a host gets through the pattern of a host matcher,
// where a star stands for one label.
func hostMatches(pattern, host string) bool {
	pattern, host = strings.Trim(pattern, "[]"), strings.Trim(host, "[]")
	labels, others := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(labels) != len(others) {
		return strings.Contains(pattern, "{")
	}
	for i := range labels {
		if labels[i] != "*" && !strings.Contains(labels[i], "{") && !strings.EqualFold(labels[i], others[i]) {
			return false
		}
	}
	return true
}

// serves reports whether requests for the host get to the place.
func (p place) serves(host string) bool {
	return len(p.hosts) == 0 || slices.ContainsFunc(p.hosts, func(pattern string) bool { return hostMatches(pattern, host) })
}

// lets reports whether requests for the path get to the place. Only matchers of
// paths have a say: what others do cannot be known before there is a request.
func (p place) lets(path string) bool {
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}}).WithContext(ctx)
	for _, sets := range p.matchers {
		if !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool { return letsPath(set, r) }) {
			return false
		}
	}
	return true
}

func letsPath(set caddyhttp.MatcherSet, r *http.Request) bool {
	return !slices.ContainsFunc(set, func(m any) bool {
		switch m := m.(type) {
		case *caddyhttp.MatchPath:
			return !m.Match(r)
		case *caddyhttp.MatchPathRE:
			return !m.Match(r)
		}
		return false
	})
}

// newPlace returns the place of what stands directly in a server, which serves
// TLS on every port but that of plain HTTP if it has policies for it. The first
// listener with TLS says where clients go, or else the first one.
func newPlace(srv *caddyhttp.Server, httpPort int) place {
	if httpPort == 0 {
		httpPort = caddyhttp.DefaultHTTPPort
	}
	p := place{scheme: "http", loopback: len(srv.Listen) > 0, trusts: trustsProxies(srv)}
	for _, listen := range srv.Listen {
		addr, err := caddy.ParseNetworkAddress(listen)
		if err != nil {
			p.loopback = false
			continue
		}
		if !addr.IsUnixNetwork() && !isLoopbackListener(addr.Host) {
			p.loopback = false
		}
		scheme := "http"
		if len(srv.TLSConnPolicies) > 0 && int(addr.StartPort) != httpPort {
			scheme = "https"
		}
		if p.listen == "" || p.scheme == "http" && scheme == "https" {
			p.listen, p.scheme, p.port = listen, scheme, int(addr.StartPort)
		}
	}
	return p
}

// isLoopbackListener reports whether a listener can be reached from this machine
// only. Other names than localhost are what the resolver makes of them.
func isLoopbackListener(host string) bool {
	return isLoopback(host) && !strings.HasSuffix(strings.ToLower(host), ".localhost")
}

// reaches reports whether requests for a path of the site's host get to it.
func (s *site) reaches(path string) bool {
	return slices.ContainsFunc(s.places, func(p place) bool { return p.serves(s.host) && p.lets(path) })
}
