package authserver

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// clientCredentials are what a request says about its client.
type clientCredentials struct {
	id      string
	secrets []string // the spellings that the presented secret may have had; none for no secret
	basic   bool     // the client tried HTTP Basic

	signed *assertion.Assertion // nil for none

	// vouched reports whether the request shows that the client with an id exists,
	// although nobody has allowed it anything yet, so that its metadata document
	// may be fetched; nil for never.
	vouched func(ctx context.Context, id string) (bool, error)
}

// readCredentials finds the client of a request (RFC 6749 section 2.3). A client
// uses one method at a time; Basic with an empty password is how some public
// clients spell "none".
func readCredentials(r *http.Request, p *params) (clientCredentials, error) {
	c := clientCredentials{id: p.get("client_id")}
	secret := p.get("client_secret")
	if err := p.err(); err != nil {
		return c, err
	}
	if secret != "" {
		c.secrets = []string{secret}
	}
	header := r.Header["Authorization"]
	if signed, err := readAssertion(p); signed != nil || err != nil {
		return c.with(signed, err, len(header) > 0)
	}
	if len(header) == 0 {
		return c, nil
	}
	if len(header) > 1 {
		return c, oauth.InvalidRequest("the request has more than one Authorization header")
	}
	c.basic = true
	id, secrets, ok := parseBasic(header[0])
	switch {
	case !ok:
		return c, oauth.InvalidClient("the Authorization header is not HTTP Basic")
	case c.id != "" && c.id != id:
		return c, oauth.InvalidRequest("client_id differs from the one in the Authorization header")
	case len(c.secrets) > 0:
		return c, oauth.InvalidRequest("the client authenticates in two ways at once")
	}
	c.id, c.secrets = id, secrets
	return c, nil
}

// assertionType is the client_assertion_type of RFC 7523 section 2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// readAssertion returns the client assertion of a request (RFC 7521 section 4.2),
// or nil.
func readAssertion(p *params) (*assertion.Assertion, error) {
	kind, raw := p.get("client_assertion_type"), p.get("client_assertion")
	switch {
	case p.err() != nil:
		return nil, p.err()
	case kind == "" && raw == "":
		return nil, nil
	case raw == "":
		return nil, oauth.InvalidClient("client_assertion is missing")
	case kind != assertionType:
		return nil, oauth.InvalidClient("client_assertion_type must be " + assertionType)
	}
	return client.ParseAssertion(raw)
}

// with adds an assertion to what the body says. Its subject names the client of a
// request that does not (RFC 7521 section 4.2).
func (c clientCredentials) with(a *assertion.Assertion, err error, header bool) (clientCredentials, error) {
	switch {
	case header || len(c.secrets) > 0:
		return c, oauth.InvalidRequest("the client authenticates in two ways at once")
	case err != nil:
		return c, err
	case c.id != "" && c.id != a.Subject:
		return c, oauth.InvalidClient("client_id differs from the sub of the client assertion")
	case a.Subject == "":
		return c, oauth.InvalidClient("the client assertion has no sub")
	}
	c.id, c.signed = a.Subject, a
	return c, nil
}

// parseBasic reads HTTP Basic credentials. RFC 6749 section 2.3.1 has both parts
// form-encoded, but clients in the field send them plain, so a secret that the
// two readings disagree about comes back in both.
func parseBasic(header string) (id string, secrets []string, ok bool) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", nil, false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", nil, false
	}
	rawID, rawSecret, found := strings.Cut(string(raw), ":")
	if !found || rawID == "" {
		return "", nil, false
	}
	if id, err = url.QueryUnescape(rawID); err != nil {
		id = rawID
	}
	if rawSecret == "" {
		return id, nil, true
	}
	secrets = []string{rawSecret}
	if decoded, err := url.QueryUnescape(rawSecret); err == nil && decoded != rawSecret {
		secrets = append(secrets, decoded)
	}
	return id, secrets, true
}

// authenticateClient returns the client of a request, or invalid_client. bound names
// the client of requests that do not: a public client may present its refresh
// token and nothing else.
func (s *Server) authenticateClient(r *http.Request, creds clientCredentials, bound func() (string, error)) (*client.Client, error) {
	c, err := s.provenClient(r, creds, bound)
	if err != nil {
		return nil, s.limitStranger(r, err)
	}
	return c, nil
}

func (s *Server) provenClient(r *http.Request, creds clientCredentials, bound func() (string, error)) (*client.Client, error) {
	anonymous := creds.id == ""
	if anonymous {
		if len(creds.secrets) > 0 {
			return nil, oauth.InvalidClient("client_id is missing")
		}
		var err error
		if creds.id, err = bound(); err != nil {
			return nil, err
		}
	}
	if len(creds.id) > oauth.MaxClientIDLength {
		return nil, oauth.InvalidClient("client_id is too long")
	}
	knowClient(r.Context(), tellable(creds.id), "")
	c, err := s.find(r, creds)
	if errors.Is(err, client.ErrDocument) {
		return nil, oauth.InvalidClient(unusableDocument).Because(err)
	}
	if errors.Is(err, client.ErrUnknown) {
		return nil, errUnknownClient
	}
	if err != nil {
		return nil, err
	}
	knowClient(r.Context(), c.ID, "")
	return c, s.checkCredentials(r, c, creds)
}

// find returns the client that credentials name.
func (s *Server) find(r *http.Request, creds clientCredentials) (*client.Client, error) {
	c, err := s.clients.Get(r.Context(), creds.id)
	if !errors.Is(err, client.ErrDocument) || creds.vouched == nil {
		return c, err
	}
	switch ok, fault := creds.vouched(r.Context(), creds.id); {
	case fault != nil:
		return nil, fault
	case !ok:
		return nil, err
	}
	return s.clients.Discover(r.Context(), creds.id, func() bool { return s.mayDiscover(r) })
}

// errUnknownClient makes a client register again.
var errUnknownClient = oauth.InvalidClient("this client is not known here; register again")

// unusableDocument is all that anybody learns about why a metadata document
// cannot be used: more would tell what this server can reach.
const unusableDocument = "the metadata document of this client_id cannot be used"

// An address may make this server fetch the documents of so many strangers, so
// that it cannot use up what there is for all.
const (
	discoverMax    = 20
	discoverWindow = time.Minute
)

// mayDiscover counts a document that a request makes this server fetch.
func (s *Server) mayDiscover(r *http.Request) bool {
	wait, _ := s.documents.Take(r.Context(), limit.Peer(s.cfg.ClientIP(r)))
	if wait > 0 {
		s.cfg.Metrics.RateLimited("document")
	}
	return wait == 0
}

// checkCredentials demands the one method that the client has: none, a secret or
// an assertion.
func (s *Server) checkCredentials(r *http.Request, c *client.Client, creds clientCredentials) error {
	switch {
	case c.Signs() && creds.signed == nil:
		return oauth.InvalidClient("this client authenticates with private_key_jwt; send a client_assertion")
	case c.Signs():
		return s.checkAssertion(r, c, creds.signed)
	case creds.signed != nil:
		return oauth.InvalidClient("this client has no key here; send no client_assertion")
	case c.Public() && len(creds.secrets) > 0:
		return oauth.InvalidClient("this client has no secret; send none")
	case c.Public():
		return nil
	case len(creds.secrets) == 0:
		return oauth.InvalidClient("the client secret is missing")
	}
	return s.checkSecret(r, c, creds.secrets)
}

// Clients that nobody has allowed anything yet may present so many assertions, at
// one address and in all: each that is good leaves a mark in the store until it
// ends, and whoever can publish a metadata document can sign any number of them.
const (
	assertionMax    = 60
	assertionMaxAll = 600
	assertionWindow = time.Minute
)

// checkAssertion checks the assertion of a client with a key, and uses it up.
func (s *Server) checkAssertion(r *http.Request, c *client.Client, a *assertion.Assertion) error {
	if c.Stranger() {
		err := limited(r, s.assertions, limit.Peer(s.cfg.ClientIP(r)))
		if err == nil {
			err = limited(r, s.allAssertions, "")
		}
		if err != nil {
			return s.countHeld("client_assertion", err)
		}
	}
	// Clients in the field write the issuer, the token endpoint, or the address
	// that the request goes to.
	return s.clients.Authenticate(r.Context(), c, a, []string{s.cfg.Issuer, s.cfg.Issuer + pathToken, s.cfg.Issuer + r.URL.Path})
}

// A client and address may be wrong that often about a secret. The count is not
// the client's alone, or strangers could lock it out.
const (
	secretMax    = 20
	secretWindow = time.Minute
)

// checkSecret compares the presented secret, in the spellings it may have, with
// the client's.
func (s *Server) checkSecret(r *http.Request, c *client.Client, secrets []string) error {
	peer := s.cfg.ClientIP(r)
	account := c.ID + " " + limit.Peer(peer)
	// Only wrong secrets count, and only afterwards: a busy client asks for many
	// tokens at once.
	if wait := s.secrets.Wait(account, peer); wait > 0 {
		s.cfg.Metrics.RateLimited("client_secret")
		return oauth.TooManyRequests("too many wrong client secrets", limit.Seconds(wait))
	}
	for _, secret := range secrets {
		ok, err := c.Secret.Check(r.Context(), secret)
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
	}
	s.secrets.Begin(r.Context(), account, peer)
	return oauth.InvalidClient("the client secret is wrong")
}
