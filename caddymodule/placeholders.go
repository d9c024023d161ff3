package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/identity"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// userPlaceholders are the keys that are known for every request that passes, so
// that none of them can be left over from another handler.
var userPlaceholders = [...]string{
	"http.auth.user.id", "http.auth.user.email", "http.auth.user.name",
	"http.auth.user.groups", "http.auth.user.scopes", "http.auth.user.client_id", "http.auth.user.issuer",
}

// bearer is what the edge knows of the bearer of a token beside its claims. It is
// made once for each newly verified token.
type bearer struct {
	// placeholders knows the values, which are looked up only when something
	// asks for them.
	placeholders caddy.ReplacerFunc

	// assertions about the bearer that were made for upstreams.
	assertions identity.Kept
}

// prepareBearer makes what requests with a token need besides its claims.
func prepareBearer(c *token.Claims) { c.Prepared = &bearer{placeholders: placeholdersOf(c)} }

func bearerOf(c *token.Claims) *bearer { return c.Prepared.(*bearer) }

func placeholdersOf(c *token.Claims) caddy.ReplacerFunc {
	values := [...]any{c.Subject, c.Email, c.Name, strings.Join(c.Groups, ","), c.Scope, c.ClientID, c.Issuer}
	return func(key string) (any, bool) {
		if !strings.HasPrefix(key, "http.auth.user.") {
			return nil, false
		}
		for i, name := range userPlaceholders {
			if key == name {
				return values[i], true
			}
		}
		return nil, false
	}
}

// nobody is the caller when authentication is omitted. Its values are empty and
// not unknown, because Caddy writes unknown placeholders as they are.
var nobody = placeholdersOf(&token.Claims{})

// setPlaceholders puts the caller's identity where Caddy's logs and other
// handlers find it; c is nil for nobody. What an earlier handler has set would be
// found first, so it is deleted.
func setPlaceholders(repl *caddy.Replacer, c *token.Claims) {
	for _, key := range userPlaceholders {
		repl.Delete(key)
	}
	if c == nil {
		repl.Map(nobody)
		return
	}
	repl.Map(bearerOf(c).placeholders)
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
