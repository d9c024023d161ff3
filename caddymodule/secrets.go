package caddymodule

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// resolved returns the options with the placeholders replaced. The options
// themselves stay as they were configured: Caddy writes them to its log when it
// traces requests.
func (o Options) resolved() (Options, error) {
	o.Users, o.Clients = slices.Clone(o.Users), slices.Clone(o.Clients)
	o.Allow, o.Scopes = o.Allow.clone(), slices.Clone(o.Scopes)
	for i := range o.Scopes {
		o.Scopes[i].Allow = o.Scopes[i].Allow.clone()
	}
	o.cloneUpstreams()
	err := o.provision()
	return o, err
}

// provision replaces the placeholders of secrets and addresses and checks the
// options again with what they stand for. It happens when the configuration is
// loaded and not when it is adapted, so that secrets do not show in adapted
// configuration.
func (o *Options) provision() error {
	r := resolver{caddy.NewReplacer()}
	var err error
	for i := range o.Users {
		u := &o.Users[i]
		if u.Hash, err = r.required(u.Hash); err != nil {
			return fmt.Errorf("the hash of the user %s: %w", u.Name, err)
		}
		if u.Email, err = r.optional(u.Email); err != nil {
			return fmt.Errorf("the e-mail address of the user %s: %w", u.Name, err)
		}
	}
	for i := range o.Clients {
		if err := r.client(&o.Clients[i]); err != nil {
			return fmt.Errorf("the client %s: %w", o.Clients[i].ID, err)
		}
	}
	if err := o.Allow.resolve(); err != nil {
		return err
	}
	for _, s := range o.Scopes {
		if err := s.Allow.resolve(); err != nil {
			return fmt.Errorf("the scope %s: %w", s.Name, err)
		}
	}
	if o.AuthorizationServers, err = r.authorizationServers(o.AuthorizationServers); err != nil {
		return fmt.Errorf("authorization_server: %w", err)
	}
	if err := r.bearerTokens(o); err != nil {
		return fmt.Errorf("bearer_token: %w", err)
	}
	if err := r.upstreams(o); err != nil {
		return err
	}
	if o.Issuer, err = r.optional(o.Issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if o.Name, err = r.optional(o.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if o.CORSOrigins, err = r.list(o.CORSOrigins); err != nil {
		return fmt.Errorf("cors_origins: %w", err)
	}
	if o.AllowOrigins, err = r.list(o.AllowOrigins); err != nil {
		return fmt.Errorf("allow_origins: %w", err)
	}
	return o.validate()
}

// resolver replaces placeholders.
type resolver struct{ *caddy.Replacer }

func (r resolver) client(c *Client) (err error) {
	if c.Secret != "" {
		if c.Secret, err = r.required(c.Secret); err != nil {
			return fmt.Errorf("secret: %w", err)
		}
	}
	if c.JWKSURI, err = r.optional(c.JWKSURI); err != nil {
		return fmt.Errorf("jwks_uri: %w", err)
	}
	if c.RedirectURIs, err = r.list(c.RedirectURIs); err != nil {
		return fmt.Errorf("redirect_uris: %w", err)
	}
	return nil
}

// bearerTokens switches off a token whose variable is not set: requests with it
// are refused, and an environment without it still starts.
func (r resolver) bearerTokens(o *Options) error {
	var tokens []BearerToken
	for _, t := range o.BearerTokens {
		var err error
		if t.Token, err = r.optional(t.Token); err != nil {
			return err
		}
		if t.Token != "" {
			tokens = append(tokens, t)
		}
	}
	o.BearerTokens = tokens
	return nil
}

// list leaves out what comes out as nothing.
func (r resolver) list(values []string) ([]string, error) {
	var out []string
	for _, value := range values {
		value, err := r.optional(value)
		if err != nil {
			return nil, err
		}
		if value != "" {
			out = append(out, value)
		}
	}
	return out, nil
}

// required replaces the placeholders of a value that must come out as something.
func (r resolver) required(value string) (string, error) {
	out, err := r.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%w. Set the variable, or write the file, before Caddy starts", err)
	}
	return out, checkResolved(out)
}

// optional replaces placeholders, which may stand for nothing but must be known:
// a misspelled one is no value that is left out.
func (r resolver) optional(value string) (string, error) {
	out, err := r.ReplaceOrErr(value, false, true)
	if err != nil {
		return "", fmt.Errorf("%w. Write, for example: {env.NAME}", err)
	}
	return out, checkResolved(out)
}

// checkResolved refuses what an unfilled template leaves behind. The checks of
// values let placeholders pass, so such a value would get around them.
func checkResolved(out string) error {
	if hasPlaceholder(out) {
		return errors.New("what the placeholder stands for has a placeholder itself, which is not replaced. Write the value there")
	}
	return nil
}
