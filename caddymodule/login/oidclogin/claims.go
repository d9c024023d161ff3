package oidclogin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Bounds of claims, in bytes and in number. What is beyond them is dropped.
const (
	maxSubject = 255 // OpenID Connect Core section 2
	maxText    = 256
	maxGroups  = 500
)

// identify turns claims into an identity. The ID token comes first; what it does
// not tell may be at the userinfo endpoint.
func (p *Provider) identify(ctx context.Context, m *metadata, tokens *oauth2.Token, idToken *oidc.IDToken) (login.Identity, error) {
	var own claims
	if err := idToken.Claims(&own); err != nil {
		return login.Identity{}, errors.New("the ID token is refused: its claims cannot be read")
	}
	sub := idToken.Subject
	id, err := p.identity(sub, own)
	if err != nil {
		return login.Identity{}, fmt.Errorf("the ID token is refused: %w", err)
	}
	complete := id.Name != "" && id.Email != "" && own.has("groups")
	if usable := p.checkEndpoint(m.provider.UserInfoEndpoint()) == nil; complete || !usable {
		return id, nil
	}
	more, err := p.userInfo(ctx, m, tokens, sub)
	if err != nil {
		return login.Identity{}, err
	}
	if id.Name == "" {
		id.Name = more.name()
	}
	if id.Email == "" && !own.has("email") && !own.has("email_verified") {
		id.Email = more.email()
	}
	if !own.has("groups") {
		id.Groups = more.groups()
	}
	return id, nil
}

// identity is who the claims are about.
func (p *Provider) identity(sub string, c claims) (login.Identity, error) {
	if !validSubject(sub) {
		return login.Identity{}, errors.New("its subject is empty, too long or not printable ASCII")
	}
	return login.Identity{
		Subject: p.cfg.ID + ":" + sub, Provider: p.cfg.ID, Stamp: p.stamp,
		Name: c.name(), Email: c.email(), Groups: c.groups(),
	}, nil
}

// userInfo asks the userinfo endpoint (OpenID Connect Core section 5.3). Some
// providers do not let us; then there is nothing more to know.
func (p *Provider) userInfo(ctx context.Context, m *metadata, tokens *oauth2.Token, sub string) (claims, error) {
	info, err := m.provider.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	switch {
	case isOutage(err):
		return nil, unreachable(errors.New("the userinfo endpoint does not answer"))
	case err != nil:
		return nil, nil //nolint:nilerr // a refusal, and not a fault
	case info.Subject != sub:
		return nil, errors.New("the userinfo endpoint tells about somebody else")
	}
	var c claims
	if err := info.Claims(&c); err != nil {
		return nil, nil //nolint:nilerr // it tells nothing that we could use
	}
	return c, nil
}

// claims are the claims about a person, each in JSON, so that a value of another
// type than it should have counts as absent and never as something like it.
type claims map[string]json.RawMessage

func (c claims) has(name string) bool { _, ok := c[name]; return ok }

// text returns a claim that is a string fit for pages and headers, or "".
func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil || !validText(s) {
		return ""
	}
	return s
}

func (c claims) name() string { return c.text("name") }

// email returns the address if the provider vouches for it: email_verified has to
// be true, and not something that could be read as true.
func (c claims) email() string {
	email := c.text("email")
	local, domain, _ := strings.Cut(email, "@")
	if string(c["email_verified"]) != "true" || local == "" || domain == "" || strings.ContainsAny(domain, "@ ") || strings.Contains(local, " ") {
		return ""
	}
	return email
}

// groups returns the groups, which are an array of strings or nothing.
func (c claims) groups() []string {
	var all []json.RawMessage
	if json.Unmarshal(c["groups"], &all) != nil {
		return nil
	}
	var out []string
	for _, raw := range all {
		var group string
		if json.Unmarshal(raw, &group) == nil && group != "" && validText(group) && len(out) < maxGroups {
			out = append(out, group)
		}
	}
	return out
}

// validSubject accepts printable ASCII that a header carries unchanged.
func validSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func validText(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
