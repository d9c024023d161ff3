// This file implements finding the keys of an issuer: RFC 8414 (Authorization
// Server Metadata) section 3 and OpenID Connect Discovery 1.0 section 4.

package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
)

// discovered is what the metadata of an issuer said.
type discovered struct {
	jwksURI string
	stale   time.Time
}

// place is where the keys of an issuer are.
type place struct {
	issuer  string
	jwksURI string // of the configuration; "" to look into the metadata
	fetcher *outbound.Fetcher
	found   atomic.Pointer[discovered]
}

// fetch fetches the keys.
func (p *place) fetch(ctx context.Context) ([]jwks.Key, time.Duration, error) {
	address, err := p.address(ctx)
	if err != nil {
		return nil, 0, err
	}
	doc, err := p.fetcher.Get(ctx, outbound.Anywhere, address, func(body []byte) (any, error) { return jwks.Parse(body) })
	if err != nil {
		p.found.Store(nil) // the keys may have moved
		return nil, 0, fmt.Errorf("the keys at %s: %w", address, err)
	}
	return doc.Value.([]jwks.Key), doc.Fresh, nil
}

// address is the address of the keys.
func (p *place) address(ctx context.Context) (string, error) {
	if p.jwksURI != "" {
		return p.jwksURI, nil
	}
	last := p.found.Load()
	if last != nil && time.Now().Before(last.stale) {
		return last.jwksURI, nil
	}
	var reasons []error
	for _, address := range metadataAddresses(p.issuer) {
		doc, err := p.fetcher.Get(ctx, outbound.Anywhere, address, func(body []byte) (any, error) { return parseMetadata(body, p.issuer) })
		if err == nil {
			now := &discovered{jwksURI: doc.Value.(string), stale: time.Now().Add(doc.Fresh)}
			p.found.Store(now)
			return now.jwksURI, nil
		}
		reasons = append(reasons, fmt.Errorf("the metadata at %s: %w", address, err))
	}
	if last != nil {
		return last.jwksURI, nil
	}
	return "", errors.Join(reasons...)
}

// metadataAddresses are the places for the metadata of an issuer: RFC 8414
// section 3.1 puts the well-known path in front of the issuer's own, and OpenID
// Connect behind it. A slash at the end is left out in both.
func metadataAddresses(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	return []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + path + "/.well-known/openid-configuration",
	}
}

// parseMetadata returns the address of the keys. The issuer has to be the one
// that was asked for, byte by byte (RFC 8414 section 3.3): otherwise one issuer
// could hand out keys for another.
func parseMetadata(data []byte, issuer string) (any, error) {
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil {
		return nil, errors.New("it is no JSON object")
	}
	if said := text(m["issuer"]); said != issuer {
		return nil, fmt.Errorf("it is that of another issuer: %.200q", said)
	}
	address := text(m["jwks_uri"])
	if !secure(address, issuer) {
		return nil, errors.New("it has no jwks_uri that is an https address")
	}
	return address, nil
}

// secure accepts an https address, and an http one on loopback if the issuer is
// there as well.
func secure(address, issuer string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	of, err := url.Parse(issuer)
	return err == nil && u.Scheme == "http" && of.Scheme == "http" && loopback(u.Hostname())
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
