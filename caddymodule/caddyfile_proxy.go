package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// What the transport of the shortcut form sets. More idle connections than
// Caddy's 32 pay from some 100 concurrent requests on, and larger buffers save
// system calls on tool answers, which are often tens of kilobytes.
const (
	proxyDialTimeout   = 3 * time.Second
	proxyIdleConns     = 512
	proxyBufferSize    = 64 << 10
	proxyHost          = "{http.reverse_proxy.upstream.hostport}"
	proxyHostForSocket = "localhost"
)

// newProxy returns the reverse_proxy of the shortcut form. It reads the
// upstreams as the directive reverse_proxy does, so every address that works
// there works here.
//
// Nothing is set that could cut a long answer: Caddy has no timeout for the
// upstream's answer, flushes event streams at once by itself (flush_interval -1
// would only slow all other answers down), and retries nothing, so that no POST
// reaches an upstream twice.
func newProxy(h httpcaddyfile.Helper, directive caddyfile.Token, upstreams []caddyfile.Token) (*reverseproxy.Handler, error) {
	for _, upstream := range upstreams {
		if err := checkUpstream(upstream.Text); err != nil {
			return nil, lineOf(upstream).WrapErr(err)
		}
	}
	proxy := new(reverseproxy.Handler)
	d := caddyfile.NewDispenser(append([]caddyfile.Token{directive}, upstreams...))
	if err := proxy.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	transport, err := tunedTransport(proxy.TransportRaw)
	if err != nil {
		return nil, err
	}
	proxy.TransportRaw = transport
	proxy.Headers = &headers.Handler{Request: &headers.HeaderOps{
		Set: http.Header{"Host": []string{upstreamHost(proxy.Upstreams)}},
	}}
	if len(proxy.Upstreams) > 1 {
		proxy.LoadBalancing = &reverseproxy.LoadBalancing{SelectionPolicyRaw: affinity()}
	}
	return proxy, nil
}

// tunedTransport adds our settings to the transport that the scheme of the
// upstreams asked for, if any: TLS for https, HTTP/2 for h2c.
func tunedTransport(raw json.RawMessage) (json.RawMessage, error) {
	var t reverseproxy.HTTPTransport
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("reading the transport of the upstreams: %w", err)
		}
	}
	compression := false
	t.Compression = &compression
	t.KeepAlive = &reverseproxy.KeepAlive{MaxIdleConnsPerHost: proxyIdleConns}
	t.DialTimeout = caddy.Duration(proxyDialTimeout)
	t.ReadBufferSize = proxyBufferSize
	t.WriteBufferSize = proxyBufferSize
	return caddyconfig.JSONModuleObject(t, "protocol", transportName, nil), nil
}

// upstreamHost returns the Host header for the upstreams. MCP servers that
// guard against DNS rebinding accept only the address they listen on. The
// address of a Unix socket is a path, which no server accepts as a host.
func upstreamHost(upstreams reverseproxy.UpstreamPool) string {
	for _, u := range upstreams {
		if network, _, _, err := caddy.SplitNetworkAddress(u.Dial); err == nil && caddy.IsUnixNetwork(network) {
			return proxyHostForSocket
		}
	}
	return proxyHost
}

// affinity returns the policy that chooses among several upstreams. A session
// of the MCP versions before 2026-07-28 lives in the one server that made its
// id, so all requests of a client have to meet the same server. Hashing the
// header Mcp-Session-Id cannot do that, as the first request has no id yet and
// its hash would point elsewhere later, and most clients keep no cookies. The
// address of the client is the best that is left: it fails only for clients
// that change it within a session.
func affinity() json.RawMessage {
	return caddyconfig.JSONModuleObject(reverseproxy.ClientIPHashSelection{}, "policy", "client_ip_hash", nil)
}

// checkUpstream refuses what people write for an upstream that reverse_proxy
// would refuse with less help, or not at all.
func checkUpstream(address string) error {
	if address == "" {
		return errors.New("an upstream is empty. Write, for example: mcp_auth localhost:3000")
	}
	if port := strings.TrimPrefix(address, ":"); strings.Trim(port, "0123456789-") == "" {
		return fmt.Errorf("the upstream '%s' is a port without a host. Write: mcp_auth localhost:%s", address, port)
	}
	scheme, rest, hasScheme := strings.Cut(address, "://")
	if !hasScheme {
		scheme, rest = "", address
		if network, _, ok := strings.Cut(address, "/"); ok && isNetwork(network) {
			return nil // unix//run/mcp.sock, tcp/localhost:3000
		}
	} else {
		scheme += "://"
	}
	host, path, hasPath := strings.Cut(rest, "/")
	if !hasPath {
		return nil
	}
	hint := ""
	if path != "" && path != "mcp" {
		hint = ", and in its block: resource /" + strings.TrimSuffix(path, "/")
	}
	return fmt.Errorf("the upstream '%s' has a path, but an upstream is only an address. Write: mcp_auth %s%s%s",
		address, scheme, host, hint)
}

// isNetwork reports whether the part of an address before its first slash is
// the name of a network.
func isNetwork(s string) bool {
	return s == "tcp" || s == "tcp4" || s == "tcp6" || caddy.IsUnixNetwork(s) || caddy.IsFdNetwork(s)
}

// lineOf returns a dispenser that stands on the token, to make errors with.
func lineOf(token caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d
}
