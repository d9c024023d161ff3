package policy

import (
	"slices"
	"strings"
)

// Allow is a rule about callers: it admits everyone whom one of the patterns
// fits. A star in a pattern stands for any characters. Nil admits everyone, and
// an empty Allow nobody.
type Allow struct {
	Users   []string // subjects
	Emails  []string // the part before the @ byte by byte, the domain in any case
	Domains []string // of e-mail addresses
	Groups  []string
	Clients []string // identifiers
}

// Caller is who asks for something, as far as that is known.
type Caller struct {
	Subject string
	Email   string // that somebody vouches for
	Groups  []string
	Client  string // the client's identifier
}

// Admits reports whether one of the patterns fits. A client that acts for itself
// has its identifier as its subject, and is no user.
func (a *Allow) Admits(c Caller) bool {
	if a == nil {
		return true
	}
	return c.Subject != c.Client && fitsAny(a.Users, c.Subject) || a.admitsEmail(c.Email) ||
		slices.ContainsFunc(c.Groups, a.AdmitsGroup) || fitsAny(a.Clients, c.Client)
}

// AdmitsGroup reports whether membership of the group is enough.
func (a *Allow) AdmitsGroup(group string) bool { return a != nil && fitsAny(a.Groups, group) }

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
	if !ok || !strings.Contains(rest, "*") {
		return ok && strings.HasSuffix(s, rest)
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
