package authserver

import (
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Allow says who of those who can sign in may use the server: everyone whom one
// of the patterns fits. A star in a pattern stands for any characters. Nil lets
// everyone in, and an empty Allow nobody.
type Allow struct {
	Users   []string // subjects
	Emails  []string // the part before the @ byte by byte, the domain in any case
	Domains []string // of e-mail addresses
	Groups  []string
}

// admits reports whether one of the patterns fits.
func (a *Allow) admits(id login.Identity) bool {
	if a == nil {
		return true
	}
	return fitsAny(a.Users, id.Subject) || a.admitsEmail(id.Email) || slices.ContainsFunc(id.Groups, a.admitsGroup)
}

func (a *Allow) admitsGroup(group string) bool { return fitsAny(a.Groups, group) }

// admitsEmail looks at both sides of the one @ by themselves, so that no star can
// reach over it.
func (a *Allow) admitsEmail(email string) bool {
	local, domain, ok := splitEmail(email)
	if !ok {
		return false
	}
	if fitsAny(a.Domains, domain) {
		return true
	}
	return slices.ContainsFunc(a.Emails, func(pattern string) bool {
		l, d, ok := splitEmail(pattern)
		return ok && fits(l, local) && fits(d, domain)
	})
}

// splitEmail takes an address apart, with the domain in lower case. An address
// that programs could read in several ways is none: one with several @, or with a
// domain that is not ASCII, where letters have look-alikes.
func splitEmail(email string) (local, domain string, ok bool) {
	local, domain, ok = strings.Cut(email, "@")
	if !ok || local == "" || domain == "" || strings.ContainsFunc(domain, func(r rune) bool { return r == '@' || r <= ' ' || r > '~' }) {
		return "", "", false
	}
	return local, strings.ToLower(domain), true
}

func fitsAny(patterns []string, s string) bool {
	return s != "" && slices.ContainsFunc(patterns, func(pattern string) bool { return fits(pattern, s) })
}

// fits reports whether s fits a pattern. It takes time in proportion to the
// lengths, whatever the pattern.
func fits(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		if _, s, ok = strings.Cut(s, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(s, last)
}

// maxGroupBytes bounds the groups of a user in total: they have to fit into
// access tokens.
const maxGroupBytes = 2 << 10

// keep returns the groups that are remembered, those first that let the user in.
func (a *Allow) keep(groups []string) []string {
	ordered := slices.Clone(groups)
	if a != nil {
		slices.SortStableFunc(ordered, func(x, y string) int {
			switch inX, inY := a.admitsGroup(x), a.admitsGroup(y); {
			case inX == inY:
				return 0
			case inX:
				return -1
			}
			return 1
		})
	}
	left := maxGroupBytes
	for i, group := range ordered {
		if left -= len(group) + 3; left < 0 { // the quotes and the comma
			return ordered[:i]
		}
	}
	return ordered
}
