package caddymodule

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
)

// Allow says who of those who can sign in may use the server: everyone whom one
// of the patterns fits. A star stands for any characters.
type Allow struct {
	// Subjects: names of local users, and <login>:<sub> of others.
	Users []string `json:"users,omitempty"`

	// E-mail addresses that the login vouches for.
	Emails []string `json:"emails,omitempty"`

	// Domains of such addresses.
	Domains []string `json:"domains,omitempty"`

	// Groups that the login tells.
	Groups []string `json:"groups,omitempty"`

	// Clients by their identifier; for scopes only.
	Clients []string `json:"clients,omitempty"`
}

// lists are the fields by the words of the Caddyfile.
func (a *Allow) lists() map[string]*[]string {
	return map[string]*[]string{"user": &a.Users, "email": &a.Emails, "domain": &a.Domains, "group": &a.Groups, "client": &a.Clients}
}

func (a *Allow) clone() *Allow {
	if a == nil {
		return nil
	}
	out := *a
	return &out
}

// policy is the rule in the words of what follows it.
func (a *Allow) policy() *policy.Allow {
	if a == nil {
		return nil
	}
	out := &policy.Allow{Users: a.Users, Emails: a.Emails, Groups: a.Groups, Clients: a.Clients}
	for _, domain := range a.Domains {
		out.Domains = append(out.Domains, strings.ToLower(domain))
	}
	return out
}

// validate checks the rule of the field at path.
func (a *Allow) validate(f *faults, path string) {
	if a == nil {
		return
	}
	for word, list := range a.lists() {
		for i, pattern := range *list {
			f.add(indexed(path+"."+word+"s", i), checkAllowed(word, pattern))
		}
	}
	if len(a.Users)+len(a.Emails)+len(a.Domains)+len(a.Groups)+len(a.Clients) == 0 {
		f.add(path, errors.New("allow names nobody. Write, for example: allow domain example.com"))
	}
}

// validateSite checks the rule of a whole site.
func (a *Allow) validateSite(f *faults) {
	if a != nil && len(a.Clients) > 0 {
		f.add(indexed("allow.clients", 0), errors.New("which clients may connect is said by other lines, and 'allow client' belongs into a scope. "+
			"Write, for example: registration { dynamic claude.ai localhost }"))
	}
	a.validate(f, "allow")
}

var domainPattern = regexp.MustCompile(`^[a-zA-Z0-9*_-]+(\.[a-zA-Z0-9*_-]+)*$`)

func checkAllowed(word, pattern string) error {
	local, domain, isEmail := strings.Cut(pattern, "@")
	switch {
	case hasPlaceholder(pattern):
	case pattern == "" || checkText(pattern) != nil:
		return fmt.Errorf("allow %s has an empty value or one with control characters. Write, for example: allow domain example.com", word)
	case word == "email" && (!isEmail || local == "" || strings.ContainsAny(local, " ") || !domainPattern.MatchString(domain)):
		return fmt.Errorf("'%s' is no e-mail address. Write, for example: allow email alice@example.com; "+
			"or for all of a domain: allow domain example.com", pattern)
	case word == "domain" && isEmail && local == "" && domainPattern.MatchString(domain):
		return fmt.Errorf("a domain begins behind the @. Write: allow domain %s", domain)
	case word == "domain" && !domainPattern.MatchString(pattern):
		return fmt.Errorf("'%s' is no domain. Write, for example: allow domain example.com", pattern)
	}
	return nil
}

// resolve replaces placeholders. A pattern that comes out as nothing is an error:
// without it, whoever was meant would be missing, or nobody be left.
func (a *Allow) resolve() error {
	if a == nil {
		return nil
	}
	r := resolver{caddy.NewReplacer()}
	for word, list := range a.lists() {
		resolved := make([]string, len(*list))
		for i, pattern := range *list {
			var err error
			if resolved[i], err = r.required(pattern); err != nil {
				return fmt.Errorf("allow %s: %w", word, err)
			}
		}
		if len(resolved) > 0 {
			*list = resolved
		}
	}
	return nil
}

// allow reads a line of the rule at path.
func (p *parser) allow(path string, to **Allow) func() error {
	return func() error {
		if !p.NextArg() {
			return errArguments
		}
		if *to == nil {
			*to = new(Allow)
		}
		word := p.Val()
		list, ok := (*to).lists()[word]
		if !ok {
			return p.Errf("allow has no '%s'. Write, for example: allow domain example.com; or, of these: allow user|email|domain|group <patterns...>", word)
		}
		return p.list(path+"."+word+"s", list)()
	}
}

// publicProviders let in everyone who makes an account with them.
var publicProviders = map[string]string{
	"accounts.google.com": "Google", "appleid.apple.com": "Apple", "account.apple.com": "Apple", "gitlab.com": "GitLab",
	"www.facebook.com": "Facebook", "facebook.com": "Facebook", "limited.facebook.com": "Facebook", "github.com": "GitHub",
	"login.yahoo.com": "Yahoo", "api.login.yahoo.com": "Yahoo", "slack.com": "Slack", "www.linkedin.com": "LinkedIn",
	"id.twitch.tv": "Twitch", "discord.com": "Discord", "access.line.me": "LINE", "www.paypal.com": "PayPal",
	"login.live.com": "Microsoft", "kauth.kakao.com": "Kakao", "bitbucket.org": "Bitbucket",
}

// publicTenants are the tenants of Microsoft that stand for everyone, the last
// one being that of personal accounts.
var publicTenants = []string{"common", "organizations", "consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"}

// publicProvider returns whose accounts an issuer lets in without a choice, or "".
func publicProvider(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "login.microsoftonline.com" {
		tenant, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		for _, public := range publicTenants {
			if strings.EqualFold(tenant, public) {
				return "Microsoft"
			}
		}
	}
	return publicProviders[host]
}
