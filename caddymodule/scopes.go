package caddymodule

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
)

func validateScopes(f *faults, scopes []Scope) {
	names := map[string]bool{}
	for i, s := range scopes {
		path := indexed("scopes", i)
		f.add(path, checkScopeName(s.Name))
		if names[s.Name] {
			f.add(path, fmt.Errorf("there are two scopes '%s'; keep one of the lines", s.Name))
		}
		names[s.Name] = true
		f.add(path, checkText(s.Description))
		if strings.TrimSpace(s.Description) == "" {
			f.add(path, fmt.Errorf("the scope '%s' does not say what it allows. Add a sentence for the consent page, "+
				`for example: scope %s "Search and read bugs"`, s.Name, s.Name))
		}
		validatePatterns(f, path+".tools", s.Tools, func(r rune) bool { return !unicode.IsControl(r) }, "tools search_* get_*")
		validatePatterns(f, path+".methods", s.Methods, func(r rune) bool { return r > ' ' && r <= '~' }, "methods resources/*")
		addScopes(f, path+".implies", s.Implies)
		for j, other := range s.Implies {
			if !slices.ContainsFunc(scopes, func(sc Scope) bool { return sc.Name == other }) {
				f.add(indexed(path+".implies", j), fmt.Errorf("the scope '%s' implies '%s', which no line defines. "+
					`Add a line with what it allows, for example: scope %s "Search and read"`, s.Name, other, other))
			}
		}
		s.Allow.validate(f, path+".allow")
	}
	if _, err := newPolicy(scopes); err != nil {
		path := "scopes"
		for i, s := range scopes {
			if len(s.Implies) > 0 {
				path = indexed("scopes", i) + ".implies"
			}
		}
		f.add(path, fmt.Errorf("%w. Take a line away", err))
	}
}

func validatePatterns(f *faults, path string, patterns []string, allowed func(rune) bool, example string) {
	for i, pattern := range patterns {
		if pattern == "" || strings.ContainsFunc(pattern, func(r rune) bool { return !allowed(r) }) {
			f.add(indexed(path, i), fmt.Errorf("%q can be no name. Write, for example: %s", pattern, example))
		}
		if slices.Contains(patterns[:i], pattern) {
			f.add(indexed(path, i), fmt.Errorf("'%s' is there twice; take one away", pattern))
		}
	}
}

// newPolicy prepares what scopes say about tools, methods and callers; nil when
// they say nothing.
func newPolicy(scopes []Scope) (*policy.Scopes, error) {
	all, says := make([]policy.Scope, len(scopes)), false
	for i, s := range scopes {
		all[i] = policy.Scope{
			Name: s.Name, Tools: s.Tools, Methods: s.Methods, Implies: s.Implies, Allow: s.Allow.policy(), Listed: s.Listed,
		}
		says = says || s.hasRules() || len(s.Implies) > 0 || s.Allow != nil
	}
	if !says {
		return nil, nil
	}
	return policy.NewScopes(all)
}

// hasRules reports whether the scope is asked for by what a request does.
func (s *Scope) hasRules() bool { return len(s.Tools)+len(s.Methods) > 0 }

// addScopes prepares the scopes of a site.
func (s *site) addScopes() error {
	var err error
	if s.policy, err = newPolicy(s.options.Scopes); err != nil {
		return err
	}
	for _, sc := range s.options.Scopes {
		scope := authserver.Scope{Name: sc.Name, Description: sc.Description, Optional: sc.Optional, Allow: sc.Allow.policy()}
		if s.policy != nil {
			scope.Implies = s.policy.Implied(sc.Name)
		}
		s.scopes = append(s.scopes, scope)
	}
	if len(s.scopes) == 0 && !s.external() {
		s.scopes = []authserver.Scope{{Name: "mcp"}}
	}
	return nil
}

// checkRules refuses scopes that would close a resource to everyone.
func checkRules(s *site) error {
	for _, r := range s.resources {
		var rules, tools bool
		for _, sc := range s.options.Scopes {
			if r.Scopes.Has(sc.Name) {
				rules, tools = rules || sc.hasRules(), tools || len(sc.Tools) > 0
			}
		}
		if rules && !tools {
			return fmt.Errorf("scopes of %s name methods and no tools, so no tool can be called there. "+
				`Name them in a scope, for example: scope mcp "Use all tools" { tools * }`, r.Path)
		}
	}
	return nil
}

// checkStaticScopes refuses static tokens with a scope that they may not have.
func checkStaticScopes(s *site) error {
	static := policy.Caller{Subject: bearerSubject, Client: bearerSubject}
	for _, t := range s.options.BearerTokens {
		for _, sc := range s.options.Scopes {
			if slices.Contains(t.Scopes, sc.Name) && !sc.Allow.policy().Admits(static) {
				return fmt.Errorf("a bearer_token has the scope '%s', which its 'allow' lines keep for others. "+
					"Add to the scope: allow client %s", sc.Name, bearerSubject)
			}
		}
	}
	return nil
}

// errScopesDiffer is for sites whose tokens come from one issuer.
var errScopesDiffer = errors.New("two sites of one issuer define it with different lines 'implies' or 'allow'")

// checkSharedScopes refuses scopes of one name that are not the same for the
// issuer of the sites that define them.
func (b *builder) checkSharedScopes(s *site) error {
	for _, other := range b.sites {
		if other.home == nil || other.home != s.home {
			continue
		}
		for i := range s.options.Scopes {
			mine := &s.options.Scopes[i]
			j := slices.IndexFunc(other.options.Scopes, func(sc Scope) bool { return sc.Name == mine.Name })
			if j >= 0 && !mine.alike(&other.options.Scopes[j]) {
				return fmt.Errorf("the scope '%s': %w. Move it into the global options: mcp_auth { scope %s … }", mine.Name, errScopesDiffer, mine.Name)
			}
		}
	}
	return nil
}

// alike reports whether two scopes of one name can be had by the same callers
// and imply the same.
func (s *Scope) alike(other *Scope) bool {
	return slices.Equal(s.Implies, other.Implies) && reflect.DeepEqual(s.Allow, other.Allow)
}
