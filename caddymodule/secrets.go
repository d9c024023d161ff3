package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
)

// provision replaces the placeholders of secrets and checks the options again
// with what they stand for. It happens when the configuration is loaded and not
// when it is adapted, so that secrets do not show in adapted configuration.
func (o *Options) provision() error {
	repl := caddy.NewReplacer()
	var err error
	for i := range o.Users {
		u := &o.Users[i]
		if u.Hash, err = secret(repl, u.Hash); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
		u.Email = repl.ReplaceAll(u.Email, "")
	}
	for i := range o.Clients {
		c := &o.Clients[i]
		if c.Secret == "" {
			continue
		}
		if c.Secret, err = secret(repl, c.Secret); err != nil {
			return fmt.Errorf("client %s: %w", c.ID, err)
		}
	}
	var tokens []BearerToken
	for _, t := range o.BearerTokens {
		// A token whose variable is not set is switched off: requests with
		// it are refused, and an environment without it still starts.
		if t.Token = repl.ReplaceAll(t.Token, ""); t.Token != "" {
			tokens = append(tokens, t)
		}
	}
	o.BearerTokens = tokens
	o.Issuer = repl.ReplaceAll(o.Issuer, "")
	o.Name = repl.ReplaceAll(o.Name, "")
	return o.validate()
}

// secret replaces the placeholders of a value that must come out as something.
func secret(repl *caddy.Replacer, value string) (string, error) {
	return repl.ReplaceOrErr(value, true, true)
}
