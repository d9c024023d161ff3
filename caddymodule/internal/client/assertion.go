// This file implements RFC 7523 (JWT Profile for Client Authentication): the
// method private_key_jwt.

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// assertionVersion is the schema version of the marks of used assertions.
const assertionVersion = 1

// usedMark is what is stored for a used assertion.
var usedMark = fmt.Appendf(nil, `{"v":%d}`, assertionVersion)

// badAssertion puts a refusal into the words of the protocol. Other errors stay
// what they are.
func badAssertion(err error) error {
	if refusal, ok := errors.AsType[assertion.Refusal](err); ok {
		return oauth.InvalidClient("the client assertion " + refusal.Error())
	}
	return err
}

// ParseAssertion reads a client assertion. Nothing in it is known to be true
// before Authenticate has checked it. Errors are *oauth.Error.
func ParseAssertion(raw string) (*assertion.Assertion, error) {
	a, err := assertion.Parse(raw, "", "jwt", "client-authentication+jwt")
	return a, badAssertion(err)
}

// Authenticate checks that the client has made the assertion for one of the
// audiences, and that it has not been used before. It uses the assertion up.
// Errors that are no *oauth.Error mean that the store, or the place of the keys,
// could not be reached.
func (d *Directory) Authenticate(ctx context.Context, c *Client, a *assertion.Assertion, audiences []string) error {
	if a.Issuer != c.ID || a.Subject != c.ID {
		return badAssertion(assertion.Refusal("has an iss or a sub that is not the client_id"))
	}
	if err := a.Check(audiences, time.Now()); err != nil {
		return badAssertion(err)
	}
	if err := d.checkSignature(ctx, c, a); err != nil {
		return badAssertion(err)
	}
	return badAssertion(d.UseUp(ctx, a, c.ID))
}

// checkSignature looks for the key among those of the client. Headers that bring
// a key along, or say where one is (jwk, jku, x5c, x5u), are never followed.
func (d *Directory) checkSignature(ctx context.Context, c *Client, a *assertion.Assertion) error {
	header := a.Signed.Signatures[0].Protected
	for _, renew := range []bool{false, true} {
		keys, err := d.keysOf(ctx, c, renew)
		if err != nil {
			return err
		}
		fitting := keys.fit(header)
		for _, key := range fitting {
			if _, err := a.Signed.Verify(key.Key); err == nil {
				return nil
			}
		}
		// A key that is not known may be new; a signature that is wrong stays so.
		if c.JWKSURI == "" || header.KeyID != "" && len(fitting) > 0 {
			break
		}
	}
	return assertion.Refusal("has no valid signature by a key of this client")
}

// UseUp marks an assertion as used, which only one of all nodes can do (RFC 7523
// section 3: each jti once). from are the names that a jti is unique with. The
// error is an assertion.Refusal when somebody was faster. The mark lives until
// the assertion is too old for every node.
func (d *Directory) UseUp(ctx context.Context, a *assertion.Assertion, from ...string) error {
	used := false
	err := d.store.Update(ctx, d.assertions+keyText(append(from, a.ID)...), func(r store.Record) (store.Record, error) {
		if used = r.Exists(); used {
			return r, errUsed
		}
		return store.Record{Value: usedMark, Expires: a.Ends()}, nil
	})
	if used || errors.Is(err, errUsed) {
		return assertion.Refusal("has been used before; make a new one for each request")
	}
	return err
}

// errUsed ends an update without a change.
var errUsed = errors.New("used before")

// AssertionVersion is the schema version of the marks of used assertions.
const AssertionVersion = assertionVersion

// CheckAssertion returns an error for a mark of a used assertion that this package
// could not have written at a key, of which name is what follows "assertion/".
func CheckAssertion(name string, value []byte) error {
	if len(name) != keyTextLength || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return errors.New("the key is not that of an assertion")
	}
	if !bytes.Equal(value, usedMark) {
		return errors.New("stored assertion cannot be read")
	}
	return nil
}
