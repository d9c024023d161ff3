package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
)

// checkJWKSURI accepts an https address. Unlike those of strangers it may be in a
// private network, as the operator has written it down.
func (c Client) checkJWKSURI() error {
	if c.JWKSURI == "" {
		return nil
	}
	if c.Secret != "" {
		return fmt.Errorf("the client '%s' has a secret and a jwks_uri, but a client authenticates in one way. "+
			"Take one of the two lines away", c.ID)
	}
	if hasPlaceholder(c.JWKSURI) {
		return nil
	}
	if err := client.CheckJWKSURI(c.JWKSURI); err != nil {
		return fmt.Errorf("'%s' %w. Write, for example: jwks_uri https://app.example.com/jwks.json", c.JWKSURI, err)
	}
	return nil
}

// grants are the grant types that the client may use.
func (c Client) grants() []string {
	switch {
	case len(c.GrantTypes) > 0:
		return c.GrantTypes
	case len(c.RedirectURIs) == 0 && len(c.Introspect) > 0:
		return nil
	}
	return client.DefaultGrantTypes(c.RedirectURIs)
}

// checkDocumentHost accepts a host, and on and off when they are alone.
func checkDocumentHost(host string, alone bool) error {
	switch {
	case host == "on" || host == "off":
		if !alone {
			return fmt.Errorf("'%s' stands beside hosts. Write it alone, or the hosts: metadata_documents claude.ai", host)
		}
		return nil
	case host == "localhost":
		return errors.New("metadata documents come from the public Internet, never from localhost. " +
			"Write, for tests on this machine: metadata_documents_on_loopback")
	case host == "true" || host == "false" || !hostName.MatchString(host):
		return fmt.Errorf("'%s' is no host: no scheme, port, path or wildcard, in lower case. "+
			"Write, for example: metadata_documents claude.ai", host)
	}
	return nil
}
