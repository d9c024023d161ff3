package caddymodule

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// authorizePath is where the headers of a proxy count.
const authorizePath = "/authorize"

// clearing is what the handlers on the way to a place do for sure to each request
// for the authorization endpoint. It tells headers that something in front of
// mcp_auth has set from those that a client has sent.
type clearing struct {
	headers   []string // that are removed, in canonical form
	rewritten bool     // the path may be another one than the client asked for
}

// after is the clearing behind a route. Only a route that no request for the
// endpoint gets around counts: with no matchers, or with matchers of paths that
// fit. In a group, another route may have come first.
func (c clearing) after(r *caddyhttp.Route) clearing {
	certain := r.Group == "" && c.certain(r.MatcherSets)
	for _, m := range r.Handlers {
		next := c.past(m)
		if certain {
			c.headers = next.headers
		}
		c.rewritten = c.rewritten || next.rewritten
	}
	return c
}

func (c clearing) through(routes caddyhttp.RouteList) clearing {
	for i := range routes {
		c = c.after(&routes[i])
	}
	return c
}

// past is the clearing behind one handler that runs.
func (c clearing) past(m caddyhttp.MiddlewareHandler) clearing {
	switch m := m.(type) {
	case *headers.Handler:
		if m.Request != nil {
			c.headers = slices.Clip(c.headers)
			for _, name := range m.Request.Delete {
				c.headers = append(c.headers, http.CanonicalHeaderKey(name))
			}
		}
	case *rewrite.Rewrite:
		c.rewritten = true
	case *caddyhttp.Subroute:
		return c.through(m.Routes)
	case *reverseproxy.Handler:
		return c.pastProxy(m)
	}
	return c
}

// pastProxy is the clearing behind a proxy, which only lets a request go on when
// the routes for a response do, as those of forward_auth.
func (c clearing) pastProxy(m *reverseproxy.Handler) clearing {
	for i, response := range m.HandleResponse {
		next := c.through(response.Routes)
		c.rewritten = c.rewritten || next.rewritten
		if i == 0 {
			c.headers = next.headers
			continue
		}
		c.headers = slices.DeleteFunc(slices.Clone(c.headers), func(name string) bool { return !slices.Contains(next.headers, name) })
	}
	return c
}

func (c clearing) certain(sets caddyhttp.MatcherSets) bool {
	if len(sets) == 0 {
		return true
	}
	if c.rewritten {
		return false
	}
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: authorizePath}}).WithContext(ctx)
	return slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(m any) bool {
			path, ok := m.(*caddyhttp.MatchPath)
			return !ok || !path.Match(r)
		})
	})
}

// trustsProxies reports whether a server has trusted proxies. Its field is not
// exported; should it be gone one day, nothing is refused for its lack, and
// requests still have to come from a trusted proxy.
func trustsProxies(srv *caddyhttp.Server) bool {
	field := reflect.ValueOf(srv).Elem().FieldByName("trustedProxies")
	return !field.IsValid() || field.Kind() != reflect.Interface || !field.IsNil() || srv.TrustedProxiesUnix
}
