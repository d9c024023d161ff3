package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// placeholder is a value of the caller's identity, boxed once for each token and
// not for each request.
type placeholder struct {
	key   string
	value any
}

// userPlaceholders are the keys that are set for every request that passes, so
// that none of them can be left over from another handler.
var userPlaceholders = [...]string{
	"http.auth.user.id", "http.auth.user.email", "http.auth.user.name",
	"http.auth.user.groups", "http.auth.user.scopes", "http.auth.user.client_id",
}

// preparePlaceholders makes the values for a newly verified token.
func preparePlaceholders(c *token.Claims) {
	values := [...]string{c.Subject, c.Email, c.Name, strings.Join(c.Groups, ","), c.Scope, c.ClientID}
	out := make([]placeholder, len(userPlaceholders))
	for i, key := range userPlaceholders {
		out[i] = placeholder{key, values[i]}
	}
	c.Placeholders = out
}

// setPlaceholders puts the caller's identity where Caddy's logs and other
// handlers find it; of nobody when authentication is omitted.
func setPlaceholders(repl *caddy.Replacer, c *token.Claims) {
	if c == nil {
		for _, key := range userPlaceholders {
			repl.Delete(key)
		}
		return
	}
	for _, p := range c.Placeholders.([]placeholder) {
		repl.Set(p.key, p.value)
	}
}

// headerValue makes a value fit for a header: without control characters, which
// would make the proxy refuse the request.
func headerValue(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, s)
}
