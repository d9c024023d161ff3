package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// everyResource stands for all resources of the issuer.
const everyResource = "*"

// introspect reads the resources whose tokens a client may ask about; none means
// all of them.
func (p *parser) introspect(path string, c *Client) error {
	if p.CountRemainingArgs() == 0 {
		c.Introspect = append(c.Introspect, everyResource)
		return nil
	}
	return p.list(path, &c.Introspect)()
}

// validateIntrospect checks the resources as far as that can be done without
// knowing those of the issuer.
func (c Client) validateIntrospect(f *faults, path string) {
	if len(c.Introspect) > 0 && !c.confidential() {
		// RFC 7662 section 4: or everyone could try out tokens.
		f.add(path, fmt.Errorf("the client '%s' may ask about tokens, but has nothing to prove who it is. "+
			"Add a line, for example: secret {env.CLIENT_SECRET}", c.ID))
	}
	for i, r := range c.Introspect {
		f.add(indexed(path, i), checkIntrospected(r, len(c.Introspect) == 1))
	}
}

func checkIntrospected(resource string, alone bool) error {
	if resource == everyResource {
		if !alone {
			return errors.New("'*' stands beside resources, of which it is all. Write it alone: introspect")
		}
		return nil
	}
	if _, isURL := oauth.CanonicalResource(resource); !isURL && !strings.HasPrefix(resource, "/") {
		return fmt.Errorf("'%s' is neither the path nor the address of a resource. Write, for example: introspect /mcp", resource)
	}
	return nil
}

// named returns the resources of an issuer that a word of introspect means, with
// those that the same tokens are good for.
func named(word, issuer string, resources []*oauth.Resource) []*oauth.Resource {
	if word == everyResource {
		return resources
	}
	if strings.HasPrefix(word, "/") {
		word = issuer + word
	}
	canonical, _ := oauth.CanonicalResource(word)
	i := slices.IndexFunc(resources, func(r *oauth.Resource) bool { return r.URL() == canonical })
	if i < 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(resources), func(r *oauth.Resource) bool { return r.Group != resources[i].Group })
}

// introspects are the audiences of the tokens that a client may ask about.
func (c Client) introspects(issuer string, resources []*oauth.Resource) []string {
	var out []string
	for _, word := range c.Introspect {
		for _, r := range named(word, issuer, resources) {
			out = append(out, r.URL())
		}
	}
	return out
}

// checkIntrospection refuses clients that may ask about tokens of resources which
// the issuer does not have.
func (b *builder) checkIntrospection(s *site) error {
	if s.home != s {
		return nil
	}
	resources, _ := b.sharedResources(s)
	for _, c := range s.options.Clients {
		for _, word := range c.Introspect {
			if len(named(word, s.issuerURL(), resources)) > 0 {
				continue
			}
			var known []string
			for _, r := range resources {
				known = append(known, r.URL())
			}
			return fmt.Errorf("the client %s has the line 'introspect %s', which is no resource of this issuer. "+
				"Write, of these: introspect %s", c.ID, word, strings.Join(known, " "))
		}
	}
	return nil
}
