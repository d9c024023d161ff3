package policy

import (
	"strings"
	"testing"
)

func TestAllow(t *testing.T) {
	tests := []struct {
		name   string
		allow  *Allow
		caller Caller
		want   bool
	}{
		{"no rule lets everyone in", nil, Caller{}, true},
		{"an empty one nobody", &Allow{}, Caller{Subject: "a", Email: "a@b.c"}, false},
		{"a user", &Allow{Users: []string{"alice"}}, Caller{Subject: "alice"}, true},
		{"a user of a provider with that name", &Allow{Users: []string{"alice"}}, Caller{Subject: "acme:alice"}, false},
		{"another case", &Allow{Users: []string{"alice"}}, Caller{Subject: "Alice"}, false},
		{"all users of a provider", &Allow{Users: []string{"acme:*"}}, Caller{Subject: "acme:42"}, true},
		{"no subject", &Allow{Users: []string{"*"}}, Caller{}, false},
		{"a domain", &Allow{Domains: []string{"example.com"}}, Caller{Email: "a@Example.COM"}, true},
		{"a domain that ends alike", &Allow{Domains: []string{"example.com"}}, Caller{Email: "a@notexample.com"}, false},
		{"a domain below", &Allow{Domains: []string{"example.com"}}, Caller{Email: "a@sub.example.com"}, false},
		{"domains below", &Allow{Domains: []string{"*.example.com"}}, Caller{Email: "a@x.sub.example.com"}, true},
		{"not the domain itself", &Allow{Domains: []string{"*.example.com"}}, Caller{Email: "a@example.com"}, false},
		{"two @", &Allow{Domains: []string{"example.com"}}, Caller{Email: "a@evil.net@example.com"}, false},
		{"two @ with a star", &Allow{Emails: []string{"*@example.com"}}, Caller{Email: "a@evil.net@example.com"}, false},
		{"a star does not reach over the @", &Allow{Emails: []string{"a*@example.com"}}, Caller{Email: "a@evil.net"}, false},
		{"any address of a domain", &Allow{Emails: []string{"*@example.com"}}, Caller{Email: "a@example.com"}, true},
		{"the local part byte by byte", &Allow{Emails: []string{"Bob@example.com"}}, Caller{Email: "bob@example.com"}, false},
		{"the domain in any case", &Allow{Emails: []string{"bob@Example.com"}}, Caller{Email: "bob@eXample.com"}, true},
		{"no address", &Allow{Domains: []string{"*"}, Emails: []string{"*@*"}}, Caller{Subject: "a"}, false},
		{"a Kelvin sign is no k", &Allow{Domains: []string{"kk.com"}}, Caller{Email: "a@\u212ak.com"}, false},
		{"a group", &Allow{Groups: []string{"admins"}}, Caller{Groups: []string{"staff", "admins"}}, true},
		{"groups with a pattern", &Allow{Groups: []string{"mcp-*-rw"}}, Caller{Groups: []string{"mcp-cisco-rw"}}, true},
		{"the pattern needs all of it", &Allow{Groups: []string{"mcp-*-rw"}}, Caller{Groups: []string{"mcp-rw"}}, false},
		{"a client", &Allow{Clients: []string{"https://claude.ai/*"}}, Caller{Subject: "alice", Client: "https://claude.ai/client.json"}, true},
		{"another client", &Allow{Clients: []string{"nightly"}}, Caller{Subject: "alice", Client: "daily"}, false},
		{"no client", &Allow{Clients: []string{"*"}}, Caller{Subject: "alice"}, false},
		{"a user by a client's name", &Allow{Clients: []string{"alice"}}, Caller{Subject: "alice", Client: "app"}, false},
		{"a client that acts for itself is no user", &Allow{Users: []string{"*"}}, Caller{Subject: "nightly", Client: "nightly"}, false},
		{"a client that acts for itself", &Allow{Clients: []string{"nightly"}}, Caller{Subject: "nightly", Client: "nightly"}, true},
		{"one of several rules", &Allow{Users: []string{"bob"}, Groups: []string{"g"}}, Caller{Subject: "bob"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.allow.Admits(tt.caller); got != tt.want {
				t.Errorf("%+v admits %+v: %t", tt.allow, tt.caller, got)
			}
		})
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
		if a.Admits(Caller{Email: s}) && strings.Count(s, "@") != 1 {
			t.Errorf("%q admits %q", pattern, s)
		}
	})
}
