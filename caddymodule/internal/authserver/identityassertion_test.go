package authserver_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestAnAssertionOfAProviderYieldsATokenOfItsUser(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust)
	a := s.issued(bearing(p.assertion(map[string]any{
		"email": "carol@example.com", "email_verified": true, "name": "Carol", "groups": []string{"staff"},
	}), "code", "", "resource", "", "scope", ""))
	if a.text("scope") != "mcp bugs:write" || a.fields["refresh_token"] != nil {
		t.Errorf("the answer is %v", a.fields)
	}
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != "acme:U1" || claims.Email != "carol@example.com" || claims.Name != "Carol" || !slices.Equal(claims.Groups, []string{"staff"}) ||
		claims.ClientID != agentID || claims.Audience != resource || claims.Issuer != issuer {
		t.Errorf("the claims are %+v", claims.AccessTokenClaims)
	}
	// It ends like every other token.
	s.revoke(agentID, a.text("access_token"), "client_secret", agentPass)
	if s.good(a.text("access_token")) {
		t.Error("the token cannot be revoked")
	}
}

// Each of the rules of the draft, and of the profile of MCP, has a row here or
// below.
func TestForgedAssertions(t *testing.T) {
	p, stranger := newIDP(t), newIDP(t)
	s := newSite(t, p.trust)
	good := p.assertion(nil)
	parts := strings.Split(good, ".")
	none := func(string) []byte { return nil }
	public, err := json.Marshal(p.public[0])
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := stranger.key
	elsewhere.KeyID = "elsewhere"
	for rule, raw := range map[string]string{
		"junk":                          "junk",
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"changed claims":                parts[0] + "." + strings.Split(p.assertion(map[string]any{"sub": "U2"}), ".")[1] + "." + parts[2],
		"a stranger's key":              stranger.assertion(nil),
		"alg none":                      byHand(`{"alg":"none","typ":"oauth-id-jag+jwt"}`, p.claims(nil), none),
		"alg None":                      byHand(`{"alg":"None","typ":"oauth-id-jag+jwt"}`, p.claims(nil), none),
		"no alg":                        byHand(`{"typ":"oauth-id-jag+jwt"}`, p.claims(nil), none),
		"HMAC with the public key":      byHand(`{"alg":"HS256","typ":"oauth-id-jag+jwt","kid":"1"}`, p.claims(nil), hmacBy(public)),
		"a key of its own":              stranger.signed(oauth.IdentityAssertionType, map[string]any{"jwk": stranger.public[0]}, p.claims(nil)),
		"a place of its own keys":       signedBy(t, elsewhere, oauth.IdentityAssertionType, map[string]any{"jku": "https://evil.example/keys"}, p.claims(nil)),
		"extensions":                    p.signed(oauth.IdentityAssertionType, map[string]any{"crit": []string{"exp"}}, p.claims(nil)),
		"encrypted":                     "eyJhbGciOiJkaXIifQ....x",
		"no typ":                        p.signed("", nil, p.claims(nil)),
		"the typ of an ID token":        p.signed("JWT", nil, p.claims(nil)),
		"the typ of an access token":    p.signed("at+jwt", nil, p.claims(nil)),
		"the typ of a client assertion": p.signed("client-authentication+jwt", nil, p.claims(nil)),
		"no object":                     p.signed(oauth.IdentityAssertionType, nil, []string{"a"}),
		"longer than any assertion":     p.assertion(map[string]any{"x": strings.Repeat("x", 10000)}),
	} {
		t.Run(rule, func(t *testing.T) { s.token(bearing(raw)).refused(t, 400, "invalid_grant") })
	}
	s.token(bearing("")).refused(t, 400, "invalid_request")
	s.token(repeated(bearing(good), "assertion")).refused(t, 400, "invalid_request")
	// Nothing of that has used the good one up.
	s.issued(bearing(good))
}

func TestMisusedAssertions(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for rule, claims := range map[string]map[string]any{
		"no iss":                         {"iss": nil},
		"another iss":                    {"iss": "https://evil.example"},
		"the iss with a slash":           {"iss": idpIssuer + "/"},
		"the iss is this server":         {"iss": issuer},
		"the iss by another name":        {"iss": nil, "ISS": idpIssuer},
		"an iss that is no text":         {"iss": []string{idpIssuer}},
		"no aud":                         {"aud": nil},
		"another aud":                    {"aud": "https://other.example"},
		"the aud with a slash":           {"aud": issuer + "/"},
		"the token endpoint as aud":      {"aud": issuer + "/token"},
		"a resource as aud":              {"aud": resource},
		"two audiences":                  {"aud": []string{issuer, "https://other.example"}},
		"an empty list as aud":           {"aud": []string{}},
		"no exp":                         {"exp": nil},
		"an exp that is text":            {"exp": "4102444800"},
		"expired":                        {"iat": in(-10 * time.Minute), "exp": in(-2 * time.Minute)},
		"good for too long":              {"exp": in(2 * time.Hour)},
		"good for ever":                  {"exp": 1e300},
		"good for too long, and old":     {"iat": in(-24 * time.Hour)},
		"no iat":                         {"iat": nil},
		"made in the future":             {"iat": in(5 * time.Minute)},
		"not good yet":                   {"nbf": in(5 * time.Minute)},
		"no jti":                         {"jti": nil},
		"an empty jti":                   {"jti": ""},
		"a jti that is no text":          {"jti": 7},
		"a jti that is far too long":     {"jti": strings.Repeat("x", 1000)},
		"no sub":                         {"sub": nil},
		"an empty sub":                   {"sub": ""},
		"a sub with a line break":        {"sub": "U1\nX-Admin: 1"},
		"no client_id":                   {"client_id": nil},
		"another client":                 {"client_id": robotID},
		"another client in other words":  {"client_id": robotID, "Client_ID": agentID},
		"an unknown resource":            {"resource": "https://other.example/mcp"},
		"an empty resource":              {"resource": ""},
		"a resource that is no text":     {"resource": 7},
		"resources, one of them unknown": {"resource": []string{resource, "https://other.example/mcp"}},
		"no resource in the list":        {"resource": []string{}},
		"no scope in it":                 {"scope": ""},
		"scopes of another server":       {"scope": "chat.read"},
		"a scope of another resource":    {"scope": "admin"},
		"a scope that is no text":        {"scope": []string{"mcp"}},
		"a scope that is null":           {"scope": json.RawMessage("null")},
	} {
		t.Run(rule, func(t *testing.T) { s.token(bearing(p.assertion(claims))).refused(t, 400, "invalid_grant") })
	}
	s.issued(bearing(p.assertion(nil))) // which has none of these faults
}

func TestWhatAnAssertionMayLeaveOut(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	const admin = issuer + "/admin"
	for rule, c := range map[string]struct {
		claims          map[string]any
		pairs           []string
		audience, scope string
	}{
		"nothing":                              {nil, nil, resource, "mcp bugs:write"},
		"an aud in a list":                     {map[string]any{"aud": []string{issuer}}, nil, resource, "mcp bugs:write"},
		"no resource":                          {map[string]any{"resource": nil}, nil, resource, "mcp bugs:write"},
		"no resource, and one in the request":  {map[string]any{"resource": nil, "scope": "admin"}, []string{"resource", admin}, admin, "admin"},
		"a resource of another kind":           {map[string]any{"resource": admin, "scope": "admin mcp"}, nil, admin, "admin"},
		"the resource with a slash":            {map[string]any{"resource": resource + "/"}, nil, resource, "mcp bugs:write"},
		"the origin as resource":               {map[string]any{"resource": issuer}, nil, resource, "mcp bugs:write"},
		"a list of one resource":               {map[string]any{"resource": []string{resource}}, nil, resource, "mcp bugs:write"},
		"a list, of which the first counts":    {map[string]any{"resource": []string{resource, admin}}, nil, resource, "mcp bugs:write"},
		"a list, of which the request picks":   {map[string]any{"resource": []string{resource, admin}, "scope": "admin"}, []string{"resource", admin}, admin, "admin"},
		"the same resource in the request":     {nil, []string{"resource", resource + "/"}, resource, "mcp bugs:write"},
		"no scope":                             {map[string]any{"scope": nil}, nil, resource, "mcp"},
		"no scope, and one in the request":     {map[string]any{"scope": nil}, []string{"scope", "mcp x"}, resource, "mcp"},
		"scopes of others beside ours":         {map[string]any{"scope": "chat.read mcp"}, nil, resource, "mcp"},
		"fewer scopes in the request":          {nil, []string{"scope", "bugs:write chat.read"}, resource, "bugs:write"},
		"a clock that is a little fast":        {map[string]any{"iat": in(30 * time.Second), "nbf": in(30 * time.Second)}, nil, resource, "mcp bugs:write"},
		"a clock that is a little slow":        {map[string]any{"iat": in(-5 * time.Minute), "exp": in(-30 * time.Second)}, nil, resource, "mcp bugs:write"},
		"an hour":                              {map[string]any{"exp": in(time.Hour)}, nil, resource, "mcp bugs:write"},
		"an address that nobody has looked at": {map[string]any{"email": "ceo@example.com"}, nil, resource, "mcp bugs:write"},
		"an address that may be wrong":         {map[string]any{"email": "ceo@example.com", "email_verified": "true"}, nil, resource, "mcp bugs:write"},
	} {
		t.Run(rule, func(t *testing.T) {
			a := s.issued(bearing(p.assertion(c.claims), c.pairs...))
			claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
			if err != nil {
				t.Fatal(err)
			}
			if claims.Audience != c.audience || a.text("scope") != c.scope || claims.Scope != c.scope || claims.Email != "" || claims.Subject != "acme:U1" {
				t.Errorf("got %s for %s and %s: %+v", a.text("scope"), claims.Audience, claims.Subject, claims.AccessTokenClaims)
			}
		})
	}
}

func TestARequestMayOnlyNarrowAnAssertion(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust)
	good := p.assertion(map[string]any{"scope": "mcp"})
	s.token(bearing(good, "scope", "bugs:write")).refused(t, 400, "invalid_scope")
	s.token(bearing(good, "scope", "openid profile")).refused(t, 400, "invalid_scope")
	s.token(bearing(good, "resource", issuer+"/admin")).refused(t, 400, "invalid_grant")
	s.token(bearing(good, "resource", issuer+"/sse")).refused(t, 400, "invalid_grant")
	s.token(bearing(good, "resource", "https://other.example/mcp")).refused(t, 400, "invalid_target")
	s.issued(bearing(good, "scope", "mcp bugs:write", "resource", resource))
}

func TestAnIdentityAssertionIsUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP(t)
		s := newSite(t, p.trust)
		other := &site{t: t, store: s.store, users: s.users, counts: limit.NewCounts()}
		other.reopen(p.trust)
		raw := p.assertion(map[string]any{"jti": "a"})
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 20 {
			node := []*site{s, other}[i%2]
			all.Go(func() {
				if node.token(bearing(raw)).StatusCode == http.StatusOK {
					won.Add(1)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of 20 got a token on two nodes", won.Load())
		}
		s.token(bearing(p.assertion(map[string]any{"jti": "a", "sub": "U2"}))).refused(t, 400, "invalid_grant")
		s.issued(bearing(p.assertion(map[string]any{"jti": "b"})))
		// The mark outlives the assertion for every clock that may be slow.
		for range 35 {
			time.Sleep(10 * time.Second)
			for _, node := range []*site{s, other} {
				node.token(bearing(raw)).refused(t, 400, "invalid_grant")
			}
		}
	})
}

func TestAllowHoldsForAssertionsAsWell(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust, func(c *authserver.Config) {
		c.Allow = &policy.Allow{Domains: []string{"example.com"}, Groups: []string{"staff"}}
	})
	verified := func(email string, more ...any) map[string]any {
		return map[string]any{"email": email, "email_verified": true, "groups": more}
	}
	s.token(bearing(p.assertion(nil))).refused(t, 400, "invalid_grant")
	s.token(bearing(p.assertion(verified("eve@evil.example", "guests")))).refused(t, 400, "invalid_grant")
	s.token(bearing(p.assertion(map[string]any{"email": "carol@example.com"}))).refused(t, 400, "invalid_grant")
	s.issued(bearing(p.assertion(verified("carol@example.com"))))
	s.issued(bearing(p.assertion(verified("dave@partner.example", "guests", "staff"))))
	// What was refused has not been used up.
	refused := p.assertion(nil)
	s.token(bearing(refused)).refused(t, 400, "invalid_grant")
	s.reopen(p.trust)
	s.issued(bearing(refused))
}

func TestRulesOfScopesHoldForAssertionsAsWell(t *testing.T) {
	p := newIDP(t)
	s := newSite(t, p.trust, func(c *authserver.Config) {
		c.Scopes = slices.Clone(c.Scopes)
		c.Scopes[1].Allow = &policy.Allow{Groups: []string{"staff"}}
		c.Scopes[1].Implies = oauth.Scopes{"mcp", "admin"}
	})
	staff := map[string]any{"scope": "bugs:write", "groups": []string{"staff"}}
	s.token(bearing(p.assertion(map[string]any{"scope": "bugs:write"}))).refused(t, 400, "invalid_grant")
	if got := s.issued(bearing(p.assertion(map[string]any{"scope": "mcp bugs:write"}))).text("scope"); got != "mcp" {
		t.Errorf("a guest has %s", got)
	}
	if got := s.issued(bearing(p.assertion(staff))).text("scope"); got != "bugs:write" {
		t.Errorf("staff has %s", got)
	}
	// What comes with a scope can be asked for, as far as the resource has it.
	if got := s.issued(bearing(p.assertion(staff), "scope", "mcp admin")).text("scope"); got != "mcp" {
		t.Errorf("staff that asks for less has %s", got)
	}
}

func TestNewKeysOfTheProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP(t)
		s := newSite(t, p.trust)
		s.issued(bearing(p.assertion(nil)))
		old := p.key
		time.Sleep(time.Millisecond) // no two things happen at the same moment
		p.rotate("2")
		s.issued(bearing(p.assertion(nil)))
		s.token(bearing(signedBy(t, old, oauth.IdentityAssertionType, nil, p.claims(nil)))).refused(t, 400, "invalid_grant")
		// Keys that nobody has make the provider be asked, but not often.
		before := p.fetches
		var all sync.WaitGroup
		for range 50 {
			old.KeyID = rand.Text()
			raw := signedBy(t, old, oauth.IdentityAssertionType, nil, p.claims(nil))
			all.Go(func() { s.token(bearing(raw)).refused(t, 400, "invalid_grant") })
		}
		all.Wait()
		if n := p.fetches - before; n > 2 {
			t.Errorf("50 made up keys made the keys be fetched %d times", n)
		}
		p.set(func() { p.down = true })
		time.Sleep(time.Hour)
		s.issued(bearing(p.assertion(nil)))
	})
}

func TestWhileTheProviderIsDownNothingIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP(t)
		s := newSite(t, p.trust)
		p.set(func() { p.down = true })
		a := s.token(bearing(p.assertion(nil)))
		a.refused(t, 503, "temporarily_unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
		p.set(func() { p.down = false })
		time.Sleep(20 * time.Second)
		s.issued(bearing(p.assertion(nil)))
	})
}

func TestAStoreFaultUsesNoAssertionUp(t *testing.T) {
	p := newIDP(t)
	for _, when := range []storetest.Moment{storetest.Before, storetest.During} {
		s := newSite(t, p.trust)
		raw := p.assertion(nil)
		s.store.FailMethods(when)
		a := s.token(bearing(raw))
		a.refused(t, 503, "temporarily_unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
		s.store.Heal()
		s.issued(bearing(raw))
	}
}

func TestIdentityAssertionsAreThereWhereAProviderIsBelieved(t *testing.T) {
	p := newIDP(t)
	for _, on := range []bool{false, true} {
		s := newSite(t, func(c *authserver.Config) {
			if on {
				p.trust(c)
			}
		})
		var m oauth.AuthorizationServerMetadata
		if err := json.NewDecoder(s.serve(request(http.MethodGet, oauth.WellKnownServer, nil)).Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(m.GrantTypesSupported, oauth.GrantJWTBearer) != on ||
			slices.Equal(m.AuthorizationGrantProfilesSupported, []string{"urn:ietf:params:oauth:grant-profile:id-jag"}) != on {
			t.Errorf("on is %v, and the metadata says %q and %q", on, m.GrantTypesSupported, m.AuthorizationGrantProfilesSupported)
		}
		if !on {
			s.token(bearing(p.assertion(nil))).refused(t, 400, "unsupported_grant_type")
		}
	}
}

// The user is the one who signs in at the provider with a browser.
func TestAssertionsAndSignInsAreOfTheSameUser(t *testing.T) {
	p := newIDP(t)
	var l login.Redirect
	s := newSite(t, p.trust, func(c *authserver.Config) { l = c.Redirects[0].Login })
	a := s.issued(bearing(p.assertion(nil)))
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := l.(login.Asserter).Assert(t.Context(), p.assertion(nil))
	if err != nil || id.Subject != claims.Subject || !l.Recognizes(id) {
		t.Errorf("%+v, %v, and the token is of %s", id, err, claims.Subject)
	}
}
