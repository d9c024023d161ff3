package caddymodule

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() { caddy.RegisterModule(new(Transport)) }

// transportName is the protocol of the transport.
const transportName = "mcp_auth"

// Transport is Caddy's HTTP transport for reverse_proxy, with all of its settings,
// for requests that have passed mcp_auth. Caddy writes a line with the request to
// the upstream when an answer breaks off, be it that the client has left, and
// redacts in it only Authorization and cookies. With this transport the line has
// no assertion about the caller, no credential for the upstream and none of the
// secrets in addresses that are kept out of the access log. The shortcut form of
// the directive uses it.
type Transport struct{ reverseproxy.HTTPTransport }

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport." + transportName, New: func() caddy.Module { return new(Transport) }}
}

// RoundTrip sends a request as it is. What the proxy has of it afterwards is for its
// log; were the request sent again, the proxy would begin with one of its own.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := *r
	answer, err := t.HTTPTransport.RoundTrip(&sent)
	r.RequestURI, _ = withoutSecrets(r.RequestURI)
	r.Header, _ = withoutSecretsIn(r.Header, "Referer")
	if names := concealed(r.Context()); len(names) > 0 {
		r.Header = r.Header.Clone()
		for _, name := range names {
			if len(r.Header[name]) > 0 {
				r.Header[name] = []string{redacted}
			}
		}
	}
	return answer, err
}

type concealedKey struct{}

// conceal notes the headers of a request that no log may have.
func conceal(r *http.Request, names []string) *http.Request {
	if len(names) == 0 {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), concealedKey{}, names))
}

func concealed(ctx context.Context) []string {
	names, _ := ctx.Value(concealedKey{}).([]string)
	return names
}

// Interface guards
var (
	_ caddy.Provisioner         = (*Transport)(nil)
	_ caddy.CleanerUpper        = (*Transport)(nil)
	_ http.RoundTripper         = (*Transport)(nil)
	_ reverseproxy.TLSTransport = (*Transport)(nil)
)
