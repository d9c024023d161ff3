package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// Assertion is a header that tells the upstream who is calling in a form that it
// can check: a JWT that is signed with the keys at /jwks of the issuer.
type Assertion struct {
	// The name of the header. Authorization has "Bearer " before the JWT.
	// Default: X-Mcp-Assertion.
	Header string `json:"header,omitempty"`

	// Whom the JWT is for, its "aud". May be a placeholder. Default: the address
	// of the resource, such as https://mcp.example.com/mcp; that of /mcp for
	// /sse and /messages as well.
	Audience string `json:"audience,omitempty"`
}

const defaultAssertionHeader = "X-Mcp-Assertion"

// Credential is what the gateway proves itself with at the upstream. The token of
// the client never gets there.
type Credential struct {
	// The name of the header. Default: Authorization, with "Bearer " before the
	// secret. A token of a login has that there in any case.
	Header string `json:"header,omitempty"`

	// The secret. May be a placeholder.
	Secret string `json:"secret,omitempty"`

	// The login whose provider gives a token for each user, in place of a
	// secret. Users of other logins are refused.
	Login string `json:"login,omitempty"`
}

// headerName is the header of a credential.
func (c *Credential) headerName() string {
	return http.CanonicalHeaderKey(cmp.Or(c.Header, "Authorization"))
}

// headerValue is what stands in the header for a secret.
func (c *Credential) headerValue(secret string) string {
	if c.Header == "" || c.Login != "" && c.headerName() == "Authorization" {
		return "Bearer " + secret
	}
	return secret
}

func (a *Assertion) headerName() string {
	return http.CanonicalHeaderKey(cmp.Or(a.Header, defaultAssertionHeader))
}

func (a *Assertion) headerValue(raw string) string {
	if a.headerName() == "Authorization" {
		return "Bearer " + raw
	}
	return raw
}

func (a *Assertion) clone() *Assertion {
	if a == nil {
		return nil
	}
	out := *a
	return &out
}

func (c *Credential) clone() *Credential {
	if c == nil {
		return nil
	}
	out := *c
	return &out
}

// cloneUpstreams lets placeholders be replaced without changing what was
// configured.
func (o *Options) cloneUpstreams() {
	o.ForwardAssertion, o.UpstreamCredential = o.ForwardAssertion.clone(), o.UpstreamCredential.clone()
	o.Resources = slices.Clone(o.Resources)
	for i := range o.Resources {
		r := &o.Resources[i]
		r.ForwardAssertion, r.UpstreamCredential = r.ForwardAssertion.clone(), r.UpstreamCredential.clone()
	}
}

// upstreams replaces the placeholders of what upstreams are told.
func (r resolver) upstreams(o *Options) error {
	if err := r.upstream(o.ForwardAssertion, o.UpstreamCredential); err != nil {
		return err
	}
	for i := range o.Resources {
		if err := r.upstream(o.Resources[i].ForwardAssertion, o.Resources[i].UpstreamCredential); err != nil {
			return fmt.Errorf("the resource %s: %w", o.Resources[i].Path, err)
		}
	}
	return nil
}

func (r resolver) upstream(a *Assertion, c *Credential) (err error) {
	if a != nil {
		if a.Audience, err = r.optional(a.Audience); err != nil {
			return fmt.Errorf("forward_assertion: audience: %w", err)
		}
	}
	if c != nil && c.Secret != "" {
		if c.Secret, err = r.required(c.Secret); err != nil {
			return fmt.Errorf("upstream_credential: %w", err)
		}
	}
	return nil
}

// validateUpstreams checks what upstreams are told, and that no two lines are about
// one header.
func (o *Options) validateUpstreams(f *faults) {
	forwarded := map[string]bool{}
	for _, fw := range o.Forward {
		forwarded[normalHeader(fw.Header)] = true
	}
	validateUpstream(f, "", o.ForwardAssertion, o.UpstreamCredential, forwarded)
	for i := range o.Resources {
		r := &o.Resources[i]
		validateUpstream(f, indexed("resources", i)+".", cmp.Or(r.ForwardAssertion, o.ForwardAssertion), cmp.Or(r.UpstreamCredential, o.UpstreamCredential), forwarded)
	}
}

func validateUpstream(f *faults, path string, a *Assertion, c *Credential, forwarded map[string]bool) {
	used := ""
	if a != nil {
		f.add(path+"forward_assertion", a.check())
		used = normalHeader(a.headerName())
		f.add(path+"forward_assertion", checkNotForwarded(used, forwarded))
	}
	if c == nil {
		return
	}
	f.add(path+"upstream_credential", c.check())
	name := normalHeader(c.headerName())
	f.add(path+"upstream_credential", checkNotForwarded(name, forwarded))
	if name == used {
		f.add(path+"upstream_credential", fmt.Errorf("forward_assertion and upstream_credential are both about the header '%s'. "+
			"Name another one, for example: forward_assertion X-Mcp-Assertion", c.headerName()))
	}
}

func checkNotForwarded(name string, forwarded map[string]bool) error {
	if forwarded[name] {
		return fmt.Errorf("the header '%s' has a line forward as well; keep one of them", http.CanonicalHeaderKey(name))
	}
	return nil
}

func (a *Assertion) check() error {
	if err := checkHeaderName(cmp.Or(a.Header, defaultAssertionHeader), "forward_assertion X-Mcp-Assertion"); err != nil {
		return err
	}
	if strings.ContainsFunc(a.Audience, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return errors.New("the audience of forward_assertion has spaces or control characters. Write, for example: audience https://bugs.internal")
	}
	return nil
}

const credentialExample = "upstream_credential {env.UPSTREAM_TOKEN}"

func (c *Credential) check() error {
	switch {
	case c.Login != "" && c.Secret != "":
		return errors.New("upstream_credential has a secret and a login; take one of them away")
	case c.Login != "":
		return checkHeaderName(c.headerName(), "upstream_credential login "+c.Login+" X-Access-Token")
	case c.Secret == "":
		return errors.New("upstream_credential has no secret. Write, for example: " + credentialExample)
	case strings.ContainsFunc(c.Secret, unicode.IsControl), strings.TrimSpace(c.Secret) != c.Secret:
		return errors.New("the secret of upstream_credential has line breaks, or spaces at its end, and cannot stand in a header. " +
			"Write it without them, or the placeholder of a file that has none")
	}
	return checkHeaderName(c.headerName(), "upstream_credential X-Api-Key {env.UPSTREAM_KEY}")
}
