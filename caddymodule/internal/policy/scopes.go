package policy

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// MaxScopes is how many scopes a site can have when one of them has rules. No
// token has more of them.
const MaxScopes = oauth.MaxScopes

// Scope is what one scope is good for.
type Scope struct {
	Name string

	// Tools and Methods are patterns of the names of tools and of JSON-RPC
	// methods that the scope is needed for. They are compared byte by byte, and
	// a star stands for any characters.
	Tools, Methods []string

	// Implies are narrower scopes that come with this one.
	Implies []string

	// Allow says who may have the scope; nil for everyone.
	Allow *Allow

	// Listed shows the tools of the scope also to those who do not have the
	// scope and could get it.
	Listed bool
}

// Scopes are the scopes of a site. They are made once and never change.
type Scopes struct {
	all        []Scope
	index      map[string]int
	implied    []Set // of each scope, itself included
	restricted Set   // those that not everyone may have
	listed     Set
}

// Set is a set of scopes of a site.
type Set uint64

func (s Set) has(i int) bool { return s&(1<<i) != 0 }

// NewScopes prepares the scopes. Its errors name what is wrong with the
// hierarchy.
func NewScopes(all []Scope) (*Scopes, error) {
	if len(all) > MaxScopes {
		return nil, fmt.Errorf("there are %d scopes, and no token can have more than %d", len(all), MaxScopes)
	}
	s := &Scopes{all: all, index: make(map[string]int, len(all)), implied: make([]Set, len(all))}
	for i, sc := range all {
		s.index[sc.Name] = i
		if sc.Allow != nil {
			s.restricted |= 1 << i
		}
		if sc.Listed {
			s.listed |= 1 << i
		}
	}
	for i := range all {
		if err := s.expand(i, nil); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// expand finds out what a scope implies. path are the scopes on the way to it.
func (s *Scopes) expand(i int, path []string) error {
	name := s.all[i].Name
	if slices.Contains(path, name) {
		path = path[slices.Index(path, name):]
		return fmt.Errorf("scopes imply each other: %s → %s", strings.Join(path, " → "), name)
	}
	if s.implied[i] != 0 {
		return nil
	}
	path = append(slices.Clip(path), name)
	set := Set(1) << i
	for _, other := range s.all[i].Implies {
		j, ok := s.index[other]
		if !ok {
			return fmt.Errorf("the scope '%s' implies '%s', which no line defines", name, other)
		}
		if err := s.expand(j, path); err != nil {
			return err
		}
		set |= s.implied[j]
	}
	s.implied[i] = set
	return nil
}

// Implied returns the scopes that come with one, without itself.
func (s *Scopes) Implied(name string) oauth.Scopes {
	i, ok := s.index[name]
	if !ok {
		return nil
	}
	return s.names(s.implied[i] &^ (1 << i))
}

// Held are the scopes that a caller has who was granted some: those that the
// caller may have, and what they imply as far as that is allowed to the caller
// as well.
func (s *Scopes) Held(granted oauth.Scopes, c Caller) Set {
	allowed := s.allowed(c)
	var held Set
	for _, name := range granted {
		if i, ok := s.index[name]; ok && allowed.has(i) {
			held |= s.implied[i]
		}
	}
	return held & allowed
}

// Gainable are the scopes that a caller can get. limit are the most that the
// client can have; nil for all.
func (s *Scopes) Gainable(c Caller, limit oauth.Scopes) Set {
	allowed := s.allowed(c)
	if limit == nil {
		return allowed
	}
	return allowed & s.Of(limit)
}

// allowed are the scopes whose rule admits the caller.
func (s *Scopes) allowed(c Caller) Set {
	out := ^Set(0)
	for rest := s.restricted; rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros64(uint64(rest)); !s.all[i].Allow.Admits(c) {
			out &^= 1 << i
		}
	}
	return out
}

// Of is the set of the scopes with the names.
func (s *Scopes) Of(names oauth.Scopes) Set {
	var out Set
	for _, name := range names {
		if i, ok := s.index[name]; ok {
			out |= 1 << i
		}
	}
	return out
}

// names returns the scopes of a set, in the order of the configuration.
func (s *Scopes) names(set Set) oauth.Scopes {
	var out oauth.Scopes
	for i := range s.all {
		if set.has(i) {
			out = append(out, s.all[i].Name)
		}
	}
	return out
}
