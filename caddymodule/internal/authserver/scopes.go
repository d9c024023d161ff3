package authserver

import (
	"slices"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Scope is a scope with its sentence on the consent page.
type Scope struct {
	Name        string
	Description string
	Optional    bool

	// Implies are all narrower scopes that come with this one.
	Implies oauth.Scopes

	// Allow says who may have the scope; nil for everyone.
	Allow *policy.Allow
}

// admits reports whether a user may use the server at all.
func (s *Server) admits(user login.Identity) bool {
	return s.cfg.Allow.Admits(policy.Caller{Subject: user.Subject, Email: user.Email, Groups: user.Groups})
}

// caller is a user at a client in the words of rules. The zero Identity is a
// client that acts for itself.
func caller(user login.Identity, c *client.Client) policy.Caller {
	return policy.Caller{Subject: user.Subject, Email: user.Email, Groups: user.Groups, Client: c.ID}
}

// permitted narrows scopes to those that a user, or a client that acts for itself,
// may have.
func (s *Server) permitted(user login.Identity, c *client.Client, scopes oauth.Scopes) oauth.Scopes {
	who := caller(user, c)
	out := slices.Clone(c.Narrow(scopes))
	return slices.DeleteFunc(out, func(name string) bool {
		i := slices.IndexFunc(s.cfg.Scopes, func(sc Scope) bool { return sc.Name == name })
		return i >= 0 && !s.cfg.Scopes[i].Allow.Admits(who)
	})
}

// obtainable are those of some scopes of a resource that a user may have, or else
// what the resource gives when nothing is asked for.
func (s *Server) obtainable(user login.Identity, c *client.Client, scopes oauth.Scopes, target *oauth.Resource) oauth.Scopes {
	if out := s.permitted(user, c, scopes); len(out) > 0 {
		return out
	}
	return s.permitted(user, c, target.Baseline)
}

// asked are the scopes that a request asks a user for.
func (s *Server) asked(tx *transaction, c *client.Client, user login.Identity) oauth.Scopes {
	target, err := s.resource(tx.Resource)
	if err != nil {
		return nil
	}
	return s.obtainable(user, c, tx.Scopes, target)
}

// implied are the scopes that come with others, as far as the user may have them,
// without those that are among the others.
func (s *Server) implied(scopes oauth.Scopes, c *client.Client, user login.Identity) oauth.Scopes {
	var out oauth.Scopes
	for _, sc := range s.cfg.Scopes {
		if !scopes.Has(sc.Name) {
			continue
		}
		for _, name := range sc.Implies {
			if !scopes.Has(name) && !out.Has(name) {
				out = append(out, name)
			}
		}
	}
	return s.permitted(user, c, out)
}

// scopeViews lists what was asked for with what comes with it, and then the
// optional scopes that the user may add.
func (s *Server) scopeViews(tx *transaction, c *client.Client, user login.Identity, asked oauth.Scopes) []pages.Scope {
	given := append(slices.Clone(asked), s.implied(asked, c, user)...)
	choices := s.choices(tx, c, user, asked)
	var out, optional []pages.Scope
	for _, sc := range s.cfg.Scopes {
		switch view := (pages.Scope{Name: sc.Name, Sentence: sc.Description, Change: sc.Optional}); {
		case given.Has(sc.Name):
			out = append(out, view)
		case choices.Has(sc.Name):
			view.Optional = true
			optional = append(optional, view)
		}
	}
	return append(out, optional...)
}

// choices are the optional scopes of the resource that were not asked for, and do
// not come with what was.
func (s *Server) choices(tx *transaction, c *client.Client, user login.Identity, asked oauth.Scopes) oauth.Scopes {
	target, err := s.resource(tx.Resource)
	if err != nil {
		return nil
	}
	implied := s.implied(asked, c, user)
	var out oauth.Scopes
	for _, sc := range s.cfg.Scopes {
		if sc.Optional && target.Scopes.Has(sc.Name) && !asked.Has(sc.Name) && !implied.Has(sc.Name) {
			out = append(out, sc.Name)
		}
	}
	return s.permitted(user, c, out)
}

// maxGroupBytes bounds the groups of a user in total: they have to fit into
// access tokens.
const maxGroupBytes = 2 << 10

// keepGroups returns the groups that are remembered, those first that let the user
// in, or to a scope.
func (s *Server) keepGroups(groups []string) []string {
	counts := func(group string) bool {
		return s.cfg.Allow.AdmitsGroup(group) || slices.ContainsFunc(s.cfg.Scopes, func(sc Scope) bool { return sc.Allow.AdmitsGroup(group) })
	}
	ordered := slices.Clone(groups)
	slices.SortStableFunc(ordered, func(x, y string) int {
		switch inX, inY := counts(x), counts(y); {
		case inX == inY:
			return 0
		case inX:
			return -1
		}
		return 1
	})
	left := maxGroupBytes
	for i, group := range ordered {
		if left -= len(group) + 3; left < 0 { // the quotes and the comma
			return ordered[:i]
		}
	}
	return ordered
}
