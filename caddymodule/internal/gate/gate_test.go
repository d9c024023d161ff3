package gate_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// The texts that every client tried was content with.
const (
	metadata  = `resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"`
	missing   = `Bearer ` + metadata + `, scope="mcp"`
	invalid   = `Bearer error="invalid_token", error_description="the token is malformed, expired, revoked or for another server", ` + metadata + `, scope="mcp"`
	forbidden = `Bearer error="insufficient_scope", error_description="the token has none of the scopes of this server", ` + metadata
)

func TestAGoodTokenOpensTheGate(t *testing.T) {
	d := newDoor(t)
	good := d.mint("/mcp", "mcp")
	for _, c := range []struct {
		rule string
		r    *http.Request
	}{
		{"a good token", request("POST", "/mcp", "Authorization", "Bearer "+good)},
		{"any case of the scheme", request("POST", "/mcp", "Authorization", "bEARER "+good)},
		{"below the resource", request("GET", "/mcp/x/y", "Authorization", "Bearer "+good)},
		{"at a sibling of the resource", request("POST", "/messages?sessionId=1", "Authorization", "Bearer "+good)},
		{"a static token", request("POST", "/mcp", "Authorization", "Bearer "+staticToken)},
	} {
		if claims, refused, _ := d.check(c.r); refused != nil || claims == nil {
			t.Errorf("%s: %v", c.rule, refused)
		}
	}
}

// refusal is a request that is refused, and how.
type refusal struct {
	rule      string
	r         *http.Request
	status    int
	challenge string
}

func TestARequestWithoutATokenIsToldWhereToGetOne(t *testing.T) {
	d := newDoor(t)
	good := d.mint("/mcp", "mcp")
	d.refuses([]refusal{
		{"no header", request("POST", "/mcp"), 401, missing},
		{"no header for any method: GET", request("GET", "/mcp"), 401, missing},
		{"no header for any method: HEAD", request("HEAD", "/mcp"), 401, missing},
		{"no header for any method: DELETE", request("DELETE", "/mcp"), 401, missing},
		{"no header for any method: BREW", request("BREW", "/mcp"), 401, missing},
		{"OPTIONS that is no preflight", request("OPTIONS", "/mcp", "Origin", "https://x"), 401, missing},
		{"another scheme", request("POST", "/mcp", "Authorization", "Basic "+good), 401, missing},
		{"a token in the query", request("POST", "/mcp?access_token="+good), 401, missing},
		{"a static token in the query", request("POST", "/mcp?token="+staticToken), 401, missing},
		{"a token in a cookie", request("POST", "/mcp", "Cookie", "access_token="+good), 401, missing},
		{"a session of the pages", request("POST", "/mcp", "Cookie", "__Host-mcp_session="+good), 401, missing},
		{"a token in another header", request("POST", "/mcp", "X-Forwarded-Access-Token", good, "Proxy-Authorization", "Bearer "+good), 401, missing},
		{"an MCP session", request("POST", "/mcp", "Mcp-Session-Id", "1"), 401, missing},
	})
}

func TestABadTokenIsRefused(t *testing.T) {
	d := newDoor(t)
	good := d.mint("/mcp", "mcp")
	foreign := newDoor(t).mint("/mcp", "mcp")
	revoked := d.mint("/mcp", "mcp", func(c *oauth.AccessTokenClaims) { c.GrantID = "revoked" })
	if err := d.revocations.Add(t.Context(), "revoked", time.Hour); err != nil {
		t.Fatal(err)
	}
	header, rest, _ := strings.Cut(good, ".")
	d.refuses([]refusal{
		{"an empty token", request("POST", "/mcp", "Authorization", "Bearer "), 401, invalid},
		{"no token after the scheme", request("POST", "/mcp", "Authorization", "Bearer"), 401, invalid},
		{"two headers", request("POST", "/mcp", "Authorization", "Bearer "+good, "Authorization", "Bearer "+good), 401, invalid},
		{"a list", request("POST", "/mcp", "Authorization", "Bearer "+good+", Bearer "+good), 401, invalid},
		{"a tab", request("POST", "/mcp", "Authorization", "Bearer \t"+good), 401, invalid},
		{"junk", request("POST", "/mcp", "Authorization", "Bearer junk"), 401, invalid},
		{"too long", request("POST", "/mcp", "Authorization", "Bearer "+strings.Repeat("a", 9000)), 401, invalid},
		{"thousands of dots", request("POST", "/mcp", "Authorization", "Bearer "+strings.Repeat(".", 8000)), 401, invalid},
		{"without its signature", request("POST", "/mcp", "Authorization", "Bearer "+good[:strings.LastIndex(good, ".")+1]), 401, invalid},
		{"with another header", request("POST", "/mcp", "Authorization", "Bearer eyJhbGciOiJub25lIn0."+rest), 401, invalid},
		{"with something behind it", request("POST", "/mcp", "Authorization", "Bearer "+good+"A"), 401, invalid},
		{"with its header twice", request("POST", "/mcp", "Authorization", "Bearer "+header+"."+good), 401, invalid},
		{"of another server", request("POST", "/mcp", "Authorization", "Bearer "+foreign), 401, invalid},
		{"that was revoked", request("POST", "/mcp", "Authorization", "Bearer "+revoked), 401, invalid},
		{"for another group", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp/admin", "mcp")), 401, invalid},
		{"for the origin", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("", "mcp")), 401, invalid},
		{"for the resource with a slash", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp/", "mcp")), 401, invalid},
		{"for something below the resource", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp/x", "mcp")), 401, invalid},
		{"of another issuer", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "mcp", func(c *oauth.AccessTokenClaims) { c.Issuer += "/" })), 401, invalid},
		{"a static token with something behind it", request("POST", "/mcp", "Authorization", "Bearer "+staticToken+"x"), 401, invalid},
		{"half of a static token", request("POST", "/mcp", "Authorization", "Bearer "+staticToken[:12]), 401, invalid},
	})
}

func TestATokenOfNoUseHereIsForbidden(t *testing.T) {
	d := newDoor(t)
	good := d.mint("/mcp", "mcp")
	d.refuses([]refusal{
		{"without a scope of the resource", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "other x")), 403, forbidden + `, scope="other x mcp"`},
		{"without any scope", request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "")), 403, forbidden + `, scope="mcp"`},
		{"a static token without a scope of the resource", request("POST", "/mcp", "Authorization", "Bearer "+narrowToken), 403, forbidden + `, scope="admin mcp"`},

		{"a path of nobody", request("POST", "/other", "Authorization", "Bearer "+good), 404, ""},
		{"a path that only begins like a resource", request("POST", "/mcpx"), 404, ""},
		{"a path in another case", request("POST", "/MCP"), 404, ""},
	})
}

// refuses checks that requests are refused as they should be.
func (d *door) refuses(refusals []refusal) {
	d.t.(*testing.T).Helper()
	for _, c := range refusals {
		d.t.(*testing.T).Run(c.rule, func(t *testing.T) {
			_, refused, resp := d.check(c.r)
			if refused == nil {
				t.Fatal("let through")
			}
			if refused.Status != c.status || resp.StatusCode != c.status {
				t.Errorf("status %d, noted as %d, want %d", resp.StatusCode, refused.Status, c.status)
			}
			if got := strings.Join(resp.Header.Values("WWW-Authenticate"), "\n"); got != c.challenge {
				t.Errorf("the challenge is\n%s, want\n%s", got, c.challenge)
			}
			if h := resp.Header; h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") ||
				h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("headers are %v", h)
			}
			if !json.Valid(body(t, resp)) {
				t.Error("the body is no JSON")
			}
		})
	}
}

func TestTheLongestResourceDecides(t *testing.T) {
	d := newDoor(t)
	admin, plain := d.mint("/mcp/admin", "admin"), d.mint("/mcp", "mcp")
	for _, c := range []struct {
		path, token string
		through     bool
	}{
		{"/mcp/admin", admin, true}, {"/mcp/admin/x", admin, true}, {"/mcp/admin", plain, false}, {"/mcp/admin/x", plain, false},
		{"/mcp/adminx", plain, true}, {"/mcp/adminx", admin, false}, {"/mcp", admin, false},
		// Others may take these for /mcp/admin.
		{"/mcp/Admin", plain, false}, {"/mcp/ADMIN/x", plain, false}, {"/mcp/Admin", admin, false}, {"/mcp/Adminx", plain, true},
	} {
		if _, refused, _ := d.check(request("POST", c.path, "Authorization", "Bearer "+c.token)); (refused == nil) != c.through {
			t.Errorf("%s: %v, want through %v", c.path, refused, c.through)
		}
	}
}

func TestAGuardOfEverythingGivesOtherPathsToTheFirstResource(t *testing.T) {
	d := newDoor(t, func(c *gate.Config) { c.ResourcesOnly = false })
	for _, path := range []string{"/", "/other", "/mcpx", "/MCP"} {
		if _, refused, resp := d.check(request("GET", path)); refused == nil || resp.Header.Get("WWW-Authenticate") != missing {
			t.Errorf("%s: %v", path, refused)
		}
		if _, refused, _ := d.check(request("GET", path, "Authorization", "Bearer "+d.mint("/mcp", "mcp"))); refused != nil {
			t.Errorf("%s with a token: %v", path, refused.Reason)
		}
	}
}

// Nobody may conclude anything about a token that cannot be checked.
func TestATokenThatCannotBeCheckedIsA503(t *testing.T) {
	d := newDoor(t)
	unknown := newDoor(t).mint("/mcp", "mcp") // signed by a key that this node may have missed
	d.store.FailMethods(storetest.Before)
	_, refused, resp := d.check(request("POST", "/mcp", "Authorization", "Bearer "+unknown))
	if refused == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%v with headers %v", refused, resp.Header)
	}
	if _, refused, _ := d.check(request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "mcp"))); refused != nil {
		t.Errorf("a good token while the store is down: %v", refused.Reason)
	}
}

func TestAStaticTokenInTheQueryIsForThoseWhoAllowIt(t *testing.T) {
	d := newDoor(t, func(c *gate.Config) { c.QueryToken = true })
	for _, c := range []struct {
		rule, target string
		header       []string
		status       int
	}{
		{"the token", "/mcp?token=" + staticToken, nil, 0},
		{"the token, encoded", "/mcp?t%6Fken=" + strings.ReplaceAll(staticToken, "-", "%2D"), nil, 0},
		{"a wrong token", "/mcp?token=wrong", nil, 401},
		{"the token twice", "/mcp?token=" + staticToken + "&token=" + staticToken, nil, 401},
		{"a token of an authorization server", "/mcp?token=" + d.mint("/mcp", "mcp"), nil, 401},
		{"under another name", "/mcp?access_token=" + staticToken, nil, 401},
		{"the header decides", "/mcp?token=" + staticToken, []string{"Authorization", "Bearer wrong"}, 401},
		{"without a scope of the resource", "/mcp?token=" + narrowToken, nil, 403},
	} {
		t.Run(c.rule, func(t *testing.T) {
			_, refused, resp := d.check(request("POST", c.target, c.header...))
			if got := refused; (got == nil) != (c.status == 0) || got != nil && resp.StatusCode != c.status {
				t.Errorf("got %v, want %d", got, c.status)
			}
		})
	}
}

func TestOmittedAuthenticationStillChecksPathAndOrigin(t *testing.T) {
	d := newDoor(t, func(c *gate.Config) { c.Omit = true })
	for _, c := range []struct {
		rule   string
		r      *http.Request
		status int
	}{
		{"no token", request("POST", "/mcp"), 0},
		{"a bad token", request("POST", "/mcp", "Authorization", "Bearer junk"), 0},
		{"another page's request", request("POST", "/mcp", "Origin", "https://evil.example"), 403},
		{"another path", request("POST", "/other"), 404},
	} {
		if claims, refused, resp := d.check(c.r); (refused == nil) != (c.status == 0) || refused != nil && resp.StatusCode != c.status || claims != nil {
			t.Errorf("%s: %v", c.rule, refused)
		}
	}
}

func TestTheOriginHasToBeKnown(t *testing.T) {
	d := newDoor(t)
	good := "Bearer " + d.mint("/mcp", "mcp")
	for _, c := range []struct {
		rule    string
		origins []string
		ok      bool
	}{
		{"none", nil, true},
		{"the site's own", []string{issuer}, true},
		{"the site's own in another case", []string{"HTTPS://mcp.example.COM"}, true},
		{"one of cors_origins", []string{"http://localhost:6274"}, true},
		{"one of allow_origins", []string{"null"}, true},
		{"another", []string{"https://evil.example"}, false},
		{"another port", []string{"http://localhost:6275"}, false},
		{"another scheme", []string{"http://mcp.example.com"}, false},
		{"a longer host", []string{issuer + ".evil.example"}, false},
		{"with a path", []string{issuer + "/x"}, false},
		{"empty", []string{""}, false},
		{"two", []string{issuer, issuer}, false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := request("POST", "/mcp", "Authorization", good)
			r.Header["Origin"] = c.origins
			if c.origins == nil {
				delete(r.Header, "Origin")
			}
			_, refused, resp := d.check(r)
			if (refused == nil) != c.ok || refused != nil && (resp.StatusCode != 403 || refused.Reason != gate.ErrOrigin) {
				t.Errorf("got %v, want ok %v", refused, c.ok)
			}
			// A bad token is the client's to mend, so it comes first.
			r.Header.Set("Authorization", "Bearer junk")
			if _, _, resp := d.check(r); resp.StatusCode != 401 {
				t.Errorf("with a bad token: %d", resp.StatusCode)
			}
		})
	}
}

func TestAPreflightNeedsNoToken(t *testing.T) {
	d := newDoor(t)
	r := request("OPTIONS", "/mcp", "Origin", "https://any.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "authorization, mcp-param-city, x-evil")
	_, refused, resp := d.check(r)
	if refused == nil || refused.Reason != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("got %v", refused)
	}
	h := resp.Header
	for _, name := range []string{"Authorization", "MCP-Protocol-Version", "Mcp-Session-Id", "Last-Event-ID", "Mcp-Method", "mcp-param-city"} {
		if !strings.Contains(h.Get("Access-Control-Allow-Headers"), name) {
			t.Errorf("%s is not allowed", name)
		}
	}
	if strings.Contains(h.Get("Access-Control-Allow-Headers"), "x-evil") || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers are %v", h)
	}
}

func TestARefusalOfABodyClosesTheConnection(t *testing.T) {
	d := newDoor(t)
	for _, c := range []struct {
		rule    string
		r       *http.Request
		version int
		close   bool
	}{
		{"a body on HTTP/1", request("POST", "/mcp"), 1, true},
		{"a body on HTTP/2", request("POST", "/mcp"), 2, false},
		{"a body for nothing", request("POST", "/other"), 1, true},
		{"a preflight with a body", request("OPTIONS", "/mcp", "Origin", "x", "Access-Control-Request-Method", "x"), 1, true},
	} {
		c.r.ContentLength, c.r.ProtoMajor = 1, c.version
		if _, _, resp := d.check(c.r); (resp.Header.Get("Connection") == "close") != c.close {
			t.Errorf("%s: Connection is %q", c.rule, resp.Header.Get("Connection"))
		}
	}
	if _, _, resp := d.check(request("POST", "/mcp")); resp.Header.Get("Connection") != "" {
		t.Error("a refusal without a body closes the connection")
	}
}
