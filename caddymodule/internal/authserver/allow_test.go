package authserver

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func TestAllow(t *testing.T) {
	tests := []struct {
		name  string
		allow *Allow
		user  login.Identity
		want  bool
	}{
		{"no rule lets everyone in", nil, login.Identity{}, true},
		{"an empty one nobody", &Allow{}, login.Identity{Subject: "a", Email: "a@b.c"}, false},
		{"a user", &Allow{Users: []string{"alice"}}, login.Identity{Subject: "alice"}, true},
		{"a user of a provider with that name", &Allow{Users: []string{"alice"}}, login.Identity{Subject: "acme:alice"}, false},
		{"another case", &Allow{Users: []string{"alice"}}, login.Identity{Subject: "Alice"}, false},
		{"all users of a provider", &Allow{Users: []string{"acme:*"}}, login.Identity{Subject: "acme:42"}, true},
		{"no subject", &Allow{Users: []string{"*"}}, login.Identity{}, false},
		{"a domain", &Allow{Domains: []string{"example.com"}}, login.Identity{Email: "a@Example.COM"}, true},
		{"a domain that ends alike", &Allow{Domains: []string{"example.com"}}, login.Identity{Email: "a@notexample.com"}, false},
		{"a domain below", &Allow{Domains: []string{"example.com"}}, login.Identity{Email: "a@sub.example.com"}, false},
		{"domains below", &Allow{Domains: []string{"*.example.com"}}, login.Identity{Email: "a@x.sub.example.com"}, true},
		{"not the domain itself", &Allow{Domains: []string{"*.example.com"}}, login.Identity{Email: "a@example.com"}, false},
		{"two @", &Allow{Domains: []string{"example.com"}}, login.Identity{Email: "a@evil.net@example.com"}, false},
		{"two @ with a star", &Allow{Emails: []string{"*@example.com"}}, login.Identity{Email: "a@evil.net@example.com"}, false},
		{"a star does not reach over the @", &Allow{Emails: []string{"a*@example.com"}}, login.Identity{Email: "a@evil.net"}, false},
		{"any address of a domain", &Allow{Emails: []string{"*@example.com"}}, login.Identity{Email: "a@example.com"}, true},
		{"the local part byte by byte", &Allow{Emails: []string{"Bob@example.com"}}, login.Identity{Email: "bob@example.com"}, false},
		{"the domain in any case", &Allow{Emails: []string{"bob@Example.com"}}, login.Identity{Email: "bob@eXample.com"}, true},
		{"no address", &Allow{Domains: []string{"*"}, Emails: []string{"*@*"}}, login.Identity{Subject: "a"}, false},
		{"a Kelvin sign is no k", &Allow{Domains: []string{"kk.com"}}, login.Identity{Email: "a@\u212ak.com"}, false},
		{"a group", &Allow{Groups: []string{"admins"}}, login.Identity{Groups: []string{"staff", "admins"}}, true},
		{"groups with a pattern", &Allow{Groups: []string{"mcp-*-rw"}}, login.Identity{Groups: []string{"mcp-cisco-rw"}}, true},
		{"the pattern needs all of it", &Allow{Groups: []string{"mcp-*-rw"}}, login.Identity{Groups: []string{"mcp-rw"}}, false},
		{"one of several rules", &Allow{Users: []string{"bob"}, Groups: []string{"g"}}, login.Identity{Subject: "bob"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.allow.admits(tt.user); got != tt.want {
				t.Errorf("%+v admits %+v: %t", tt.allow, tt.user, got)
			}
		})
	}
}

func TestGroupsThatLetSomebodyInAreKept(t *testing.T) {
	var groups []string
	for range 300 {
		groups = append(groups, strings.Repeat("g", 20))
	}
	groups = append(groups, "admins")
	a := &Allow{Groups: []string{"admins"}}
	kept := a.keep(groups)
	if !slices.Contains(kept, "admins") || len(kept) > 120 || !a.admits(login.Identity{Groups: kept}) {
		t.Errorf("kept %d groups: %.60q", len(kept), kept)
	}
	if got := (*Allow)(nil).keep([]string{"b", "a"}); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("few groups become %q", got)
	}
}

func FuzzAllow(f *testing.F) {
	f.Add("*@example.com", "a@evil@example.com")
	f.Add("a*b*c", "abc")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if fits(pattern, s) && !strings.Contains(pattern, "*") && pattern != s {
			t.Errorf("%q fits %q", pattern, s)
		}
		if !fits("*", s) || !fits(s, s) {
			t.Errorf("%q does not fit itself", s)
		}
		a := &Allow{Emails: []string{pattern}, Domains: []string{pattern}}
		if a.admits(login.Identity{Email: s}) && strings.Count(s, "@") != 1 {
			t.Errorf("%q admits %q", pattern, s)
		}
	})
}
