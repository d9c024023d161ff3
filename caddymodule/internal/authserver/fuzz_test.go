package authserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Whatever the header holds, it is read or refused; and whoever puts an id and a
// secret into it, form-encoded or not, is understood.
func FuzzParseBasic(f *testing.F) {
	f.Add("Basic bWNwXzEyMzo=", "mcp_123", "")
	f.Add("basic  d2ViOmErYiUyQg==", "web-app", "a+b%2B%zz")
	f.Add("Basic", "https://client.example/metadata", ":")
	f.Add("Bearer x", "a b", "\x00\xff")
	f.Fuzz(func(t *testing.T, header, id, secret string) {
		if gotID, secrets, ok := parseBasic(header); ok && (gotID == "" || len(secrets) > 2 || slices.Contains(secrets, "")) {
			t.Errorf("parseBasic(%q) = %q, %q", header, gotID, secrets)
		}
		if id == "" {
			return
		}
		gotID, secrets, ok := parseBasic(basicHeader(url.QueryEscape(id), url.QueryEscape(secret)))
		if !ok || gotID != id || secret != "" && !slices.Contains(secrets, secret) {
			t.Errorf("encoded (%q, %q) is read as (%q, %q, %v)", id, secret, gotID, secrets, ok)
		}
		if strings.Contains(id, ":") {
			return
		}
		if _, secrets, ok = parseBasic(basicHeader(id, secret)); !ok || secret != "" && !slices.Contains(secrets, secret) {
			t.Errorf("plain (%q, %q) is read as (%q, %v)", id, secret, secrets, ok)
		}
	})
}

func basicHeader(id, secret string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(id, secret)
	return r.Header.Get("Authorization")
}

// Nothing but what was sealed here, for this purpose and in this browser, opens.
func FuzzSealedTransaction(f *testing.F) {
	s := newSealer(bytes.Repeat([]byte{1}, 32))
	browser := bytes.Repeat([]byte{2}, 32)
	f.Add("", "", 0)
	f.Add("xyz", "AAAA", 3)
	f.Add("\xff{}\x00", "{}", 100)
	f.Fuzz(func(t *testing.T, state, foreign string, at int) {
		if _, err := s.open(foreign, forAuthorize, browser); err == nil {
			t.Fatalf("%q opens", foreign)
		}
		tx := newTransaction(forAuthorize, browser)
		tx.State, tx.ClientID, tx.Scopes = state, "mcp_1", oauth.Scopes{"mcp"}
		sealed, err := s.seal(tx)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > maxSealed {
			if len(state) <= maxState {
				t.Errorf("a state of %d bytes makes %d bytes", len(state), len(sealed))
			}
			return
		}
		got, err := s.open(sealed, forAuthorize, browser)
		if err != nil || got.State != state || got.ID != tx.ID || got.ClientID != tx.ClientID || !slices.Equal(got.Scopes, tx.Scopes) {
			t.Errorf("state %q comes back as %+v, %v", state, got, err)
		}
		for name, open := range map[string]func() (*transaction, error){
			"for another purpose":     func() (*transaction, error) { return s.open(sealed, forAccount, browser) },
			"in another browser":      func() (*transaction, error) { return s.open(sealed, forAuthorize, make([]byte, 32)) },
			"in a browser of no name": func() (*transaction, error) { return s.open(sealed, forAuthorize, nil) },
			"under another key": func() (*transaction, error) {
				return newSealer(make([]byte, 32)).open(sealed, forAuthorize, browser)
			},
		} {
			if _, err := open(); err == nil {
				t.Errorf("it opens %s", name)
			}
		}
		changed := []byte(sealed)
		i := int(uint(at) % uint(len(changed)))
		changed[i] = flipped(changed[i])
		if _, err := s.open(string(changed), forAuthorize, browser); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
	})
}

// asserter is a login whose provider has signed everything.
type asserter struct{ login.Asserter }

func (asserter) Issuer() string { return "https://id.example" }

// Claims of an assertion, whatever they are, are refused or name one client, and a
// resource and scopes of this server.
func FuzzIdentityAssertion(f *testing.F) {
	const issuer = "https://mcp.example"
	mcp := &oauth.Resource{Origin: issuer, Path: "/mcp", Scopes: oauth.Scopes{"mcp", "write"}, Baseline: oauth.Scopes{"mcp"}}
	admin := &oauth.Resource{Origin: issuer, Path: "/admin", Scopes: oauth.Scopes{"admin"}, Baseline: oauth.Scopes{"admin"}}
	s := &Server{cfg: Config{Issuer: issuer, Resources: []*oauth.Resource{mcp, admin}, Asserters: []login.Asserter{asserter{}}}}
	for _, claims := range []string{
		`"sub":"U1","client_id":"agent","jti":"1"`,
		`"sub":"U1","client_id":"agent","jti":"1","resource":["https://mcp.example/admin"],"scope":"admin"`,
		`"sub":"U1","client_id":"agent","jti":"1","scope":null,"resource":null`,
		`"sub":"U1","client_id":["agent"],"jti":1,"aud":["https://mcp.example"],"Client_ID":"agent"`,
	} {
		f.Add(claims, "", "")
		f.Add(claims, "mcp write", issuer+"/mcp")
	}
	f.Fuzz(func(t *testing.T, claims, scope, resource string) {
		encode := base64.RawURLEncoding.EncodeToString
		now := time.Now().Unix()
		payload := fmt.Sprintf(`{"iss":"https://id.example","aud":%q,"iat":%d,"exp":%d,%s}`, issuer, now, now+60, claims)
		raw := encode([]byte(`{"alg":"ES256","typ":"oauth-id-jag+jwt"}`)) + "." + encode([]byte(payload)) + ".AAAA"
		p := &params{values: url.Values{"assertion": {raw}, "scope": {scope}, "resource": {resource}}}
		a, err := s.readIdentityAssertion(p)
		if err != nil {
			return
		}
		req, err := s.sharedParameters(p, &client.Client{ID: a.clientID})
		if err != nil {
			return
		}
		target, err := s.assertedResource(a, req.resource)
		if err != nil {
			return
		}
		scopes, err := s.assertedScopes(a, req, login.Identity{Subject: "acme:U1"}, target)
		if err != nil {
			return
		}
		var sent map[string]any
		if json.Unmarshal([]byte(payload), &sent) != nil || sent["client_id"] != a.clientID || a.clientID == "" || a.Subject == "" || a.ID == "" {
			t.Errorf("%s is read as %+v", payload, a)
		}
		if target != mcp && target != admin || len(scopes) == 0 || !scopes.Within(target.Scopes) {
			t.Errorf("%s is good for %+v and %s", payload, target, scopes)
		}
		if a.Has("scope") && !scopes.Within(oauth.ParseScope(*a.scope)) || req.scope != "" && len(oauth.ParseScope(scope)) > 0 && !scopes.Within(oauth.ParseScope(scope)) {
			t.Errorf("%s with the scope %q is good for %s", payload, scope, scopes)
		}
	})
}

func flipped(c byte) byte {
	if c == 'A' {
		return 'B'
	}
	return 'A'
}
