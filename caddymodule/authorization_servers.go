package caddymodule

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
)

// AuthorizationServer is a server of somebody else that issues the tokens, or
// several that are alike.
type AuthorizationServer struct {
	// The issuer identifiers, byte by byte as they stand in the claim iss of
	// tokens: https addresses, or http ones on loopback. May be placeholders.
	Issuers []string `json:"issuers"`

	// Values of which the claim aud of a token has to hold one. May be
	// placeholders. Default: the address of the resource that the request is
	// for.
	Audience []string `json:"audience,omitempty"`

	// Where the keys of the issuer are. It may be in a private network. May be a
	// placeholder. Default: what the metadata of the issuer says (RFC 8414,
	// OpenID Connect Discovery).
	JWKSURI string `json:"jwks_uri,omitempty"`

	// Where to ask about tokens that are no JWTs (RFC 7662). Default: nowhere;
	// such tokens are refused.
	Introspection *Introspection `json:"introspection,omitempty"`
}

// Introspection is where an authorization server tells about its tokens.
type Introspection struct {
	// The address of the endpoint. May be a placeholder.
	Endpoint string `json:"endpoint"`

	// Who we are there. May be a placeholder.
	ClientID string `json:"client_id"`

	// The secret that proves it. May be a placeholder.
	ClientSecret string `json:"client_secret"`
}

func (p *parser) authorizationServer() error {
	path := indexed("authorization_servers", len(p.options.AuthorizationServers))
	p.mark(path)
	var s AuthorizationServer
	if err := p.list(path+".issuers", &s.Issuers)(); err != nil {
		return err
	}
	err := p.readBlock("authorization_server", path+".", map[string]subdirective{
		"audience": {
			usage: "audience <values...>", example: "audience https://mcp.example.com/mcp",
			repeats: true, read: p.list(path+".audience", &s.Audience),
		},
		"jwks_uri": {
			usage: "jwks_uri <url>", example: "jwks_uri https://id.example.com/jwks.json", read: p.text(&s.JWKSURI),
		},
		"introspection": {usage: "introspection { … }", read: func() error { return p.introspection(path, &s) }},
	})
	p.options.AuthorizationServers = append(p.options.AuthorizationServers, s)
	return err
}

func (p *parser) introspection(path string, s *AuthorizationServer) error {
	s.Introspection = new(Introspection)
	return p.readBlock("introspection", path+".introspection.", map[string]subdirective{
		"endpoint": {
			usage: "endpoint <url>", example: "endpoint https://id.example.com/introspect", read: p.text(&s.Introspection.Endpoint),
		},
		"client_id": {
			usage: "client_id <id>", example: "client_id {env.INTROSPECTION_ID}", read: p.text(&s.Introspection.ClientID),
		},
		"client_secret": {
			usage: "client_secret <secret>", example: "client_secret {env.INTROSPECTION_SECRET}", read: p.text(&s.Introspection.ClientSecret),
		},
	})
}

func validateAuthorizationServers(f *faults, servers []AuthorizationServer) {
	var issuers []string
	asked := false
	for i, s := range servers {
		path := indexed("authorization_servers", i)
		if len(s.Issuers) == 0 {
			f.add(path, fmt.Errorf("an authorization_server has no issuer. Write, for example: authorization_server https://id.example.com"))
		}
		for n, issuer := range s.Issuers {
			at := indexed(path+".issuers", n)
			f.add(at, checkOtherIssuer(issuer))
			if slices.Contains(issuers, issuer) {
				f.add(at, fmt.Errorf("the issuer '%s' is there twice; put all lines into one block: authorization_server %s { … }", issuer, issuer))
			}
			issuers = append(issuers, issuer)
		}
		if s.JWKSURI != "" {
			f.add(path+".jwks_uri", s.checkAlone("jwks_uri"))
			f.add(path+".jwks_uri", checkOtherAddress("jwks_uri", s.JWKSURI))
		}
		if s.Introspection == nil {
			continue
		}
		f.add(path+".introspection", s.checkAlone("introspection"))
		s.Introspection.validate(f, path+".introspection")
		if asked {
			f.add(path+".introspection", fmt.Errorf("two authorization servers have 'introspection', and each would see the tokens of the other. "+
				"Keep it for one: authorization_server %s { introspection { … } }", servers[0].Issuers[0]))
		}
		asked = true
	}
}

// checkAlone refuses a line that is about one issuer where there are several.
func (s *AuthorizationServer) checkAlone(line string) error {
	if len(s.Issuers) < 2 {
		return nil
	}
	return fmt.Errorf("'%s' is of one issuer, and the line names several. Write a block for each: authorization_server %s { %s … }",
		line, s.Issuers[0], line)
}

func (i *Introspection) validate(f *faults, path string) {
	for _, field := range []struct{ name, value string }{
		{"endpoint", i.Endpoint}, {"client_id", i.ClientID}, {"client_secret", i.ClientSecret},
	} {
		if field.value == "" {
			f.add(path, fmt.Errorf("introspection has no %s. Write: introspection { endpoint https://id.example.com/introspect; "+
				"client_id {env.INTROSPECTION_ID}; client_secret {env.INTROSPECTION_SECRET} }, each on its line", field.name))
		}
	}
	f.add(path+".endpoint", checkOtherAddress("endpoint", i.Endpoint))
}

// checkOtherIssuer accepts an https address as issuers have it (RFC 8414 section
// 2), with a path and a slash at the end if they stand in tokens, and an http one
// on loopback.
func checkOtherIssuer(issuer string) error {
	if hasPlaceholder(issuer) {
		return nil
	}
	u, err := url.Parse(issuer)
	base, _, isMetadata := strings.Cut(issuer, "/.well-known/")
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return fmt.Errorf("the issuer '%s' is no plain https address. Write it as it stands in the claim iss of tokens, for example: "+
			"authorization_server https://id.example.com", issuer)
	case isMetadata:
		return fmt.Errorf("the issuer '%s' is the address of its metadata. Write: authorization_server %s", issuer, base)
	case u.Scheme == "http" && isLoopback(u.Hostname()), u.Scheme == "https":
		return nil
	}
	return fmt.Errorf("the issuer '%s' is not https, so tokens could be forged on the way. Write, for example: "+
		"authorization_server https://id.example.com", issuer)
}

// checkOtherAddress accepts an address at an authorization server. It may be in a
// private network, as the operator has written it down.
func checkOtherAddress(line, address string) error {
	if address == "" || hasPlaceholder(address) {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return fmt.Errorf("'%s' is no https address. Write, for example: %s https://id.example.com/path", address, line)
	}
	return nil
}

// authorizationServers replaces placeholders. None may come out as nothing: an
// audience that is left out would be another rule, and not none.
func (r resolver) authorizationServers(servers []AuthorizationServer) ([]AuthorizationServer, error) {
	var out []AuthorizationServer
	for _, s := range servers {
		s.Issuers, s.Audience = slices.Clone(s.Issuers), slices.Clone(s.Audience)
		var fields []*string
		for i := range s.Issuers {
			fields = append(fields, &s.Issuers[i])
		}
		for i := range s.Audience {
			fields = append(fields, &s.Audience[i])
		}
		if s.JWKSURI != "" {
			fields = append(fields, &s.JWKSURI)
		}
		if s.Introspection != nil {
			i := *s.Introspection
			s.Introspection = &i
			fields = append(fields, &i.Endpoint, &i.ClientID, &i.ClientSecret)
		}
		for _, field := range fields {
			var err error
			if *field, err = r.required(*field); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// otherServers are the authorization servers in the words of what checks tokens.
func (o *Options) otherServers() (servers []external.Server, issuers []string) {
	for _, s := range o.AuthorizationServers {
		for _, issuer := range s.Issuers {
			server := external.Server{Issuer: issuer, Audience: s.Audience, JWKSURI: s.JWKSURI}
			if i := s.Introspection; i != nil {
				server.Introspection = &external.Introspection{Endpoint: i.Endpoint, ClientID: i.ClientID, ClientSecret: i.ClientSecret}
			}
			servers, issuers = append(servers, server), append(issuers, issuer)
		}
	}
	return servers, issuers
}
