package authserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// connected is a browser in which alice has allowed a client what v asks for, and
// the client has its tokens.
func (s *site) connected(v url.Values, boxes ...string) (*browser, answer) {
	s.t.Helper()
	b := s.browser()
	code := b.consent(v).submit(append(boxes, "decision", "allow")...).handedOff().Get("code")
	form := redemption(v.Get("client_id"), code, "redirect_uri", v.Get("redirect_uri"), "resource", "-")
	if v.Get("client_id") == webID {
		form.Set("client_secret", webPass)
	}
	return b, s.issued(form)
}

// asked reports whether a request shows the consent page. Otherwise the answer
// has gone to the client, and is returned.
func (b *browser) asked(v url.Values) (url.Values, bool) {
	b.site.t.Helper()
	p := b.get("/authorize?" + v.Encode())
	if p.status == http.StatusOK && p.has("/authorize") {
		return nil, true
	}
	to, err := url.Parse(p.header.Get("Location"))
	if p.status != http.StatusSeeOther || err != nil || !strings.HasPrefix(to.String(), v.Get("redirect_uri")+"?") {
		b.site.t.Fatalf("neither a page nor an answer: %d to %s", p.status, to)
	}
	return to.Query(), false
}

func TestWhatAKnownWebsiteWasAllowedIsRemembered(t *testing.T) {
	for name, id := range map[string]string{"of the configuration": webID, "with a document": documentID} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := newDocumentSite(t, nil)
			request := authorization(id, "redirect_uri", webURI)
			b, _ := s.connected(request)
			q, asked := b.asked(with(request, "state", "again"))
			if asked {
				t.Fatal("the user is asked again")
			}
			if q.Get("state") != "again" || q.Get("iss") != issuer || q.Get("code") == "" || q.Get("error") != "" {
				t.Errorf("the answer is %v", q)
			}
			form := redemption(id, q.Get("code"), "redirect_uri", webURI)
			if id == webID {
				form.Set("client_secret", webPass)
			}
			if a := s.issued(form); a.text("scope") != "mcp" {
				t.Errorf("the scope is %q", a.text("scope"))
			}
			if q, asked := b.asked(with(request, "prompt", "none")); asked || q.Get("code") == "" {
				t.Errorf("prompt=none yields %v", q)
			}
		})
	}
}

func TestTickedScopesAreRememberedToo(t *testing.T) {
	s := newSite(t)
	request := authorization(webID, "redirect_uri", webURI)
	b, _ := s.connected(request, "scope", "bugs:write")
	q, asked := b.asked(request)
	if asked {
		t.Fatal("the user is asked again")
	}
	form := redemption(webID, q.Get("code"), "redirect_uri", webURI, "client_secret", webPass)
	if a := s.issued(form); a.text("scope") != "mcp bugs:write" {
		t.Errorf("the scope is %q", a.text("scope"))
	}
}

func TestTheUserIsAskedAboutEverythingElse(t *testing.T) {
	known := authorization(documentID, "redirect_uri", webURI)
	for _, c := range []struct {
		rule      string
		first     url.Values
		second    func(first url.Values) url.Values
		configure func(*authserver.Config)
	}{
		{"another scope", known, func(v url.Values) url.Values { return with(v, "scope", "mcp bugs:write") }, nil},
		{"another resource", known, func(v url.Values) url.Values { return with(v, "resource", issuer+"/sse") }, nil},
		{"another client", known, func(v url.Values) url.Values { return with(v, "client_id", webID) }, nil},
		{"another host", authorization("suite", "redirect_uri", webURI), func(v url.Values) url.Values { return with(v, "redirect_uri", "https://other.example.net/cb") }, func(c *authserver.Config) {
			c.Clients = append(c.Clients, &client.Client{
				ID: "suite", Kind: client.Configured, RedirectURIs: []string{webURI, "https://other.example.net/cb"},
				GrantTypes: []string{oauth.GrantAuthorizationCode},
			})
		}},
		{"a client that wants it", known, func(v url.Values) url.Values { return with(v, "prompt", "consent") }, nil},
		{"a program on this computer", authorization(documentID), func(v url.Values) url.Values { return v }, nil},
		{"an app with a scheme of its own", authorization(documentID, "redirect_uri", "cursor://app/cb"), func(v url.Values) url.Values { return v }, nil},
		{"a program of the configuration", authorization("tool"), func(v url.Values) url.Values { return v }, func(c *authserver.Config) {
			c.Clients = append(c.Clients, &client.Client{
				ID: "tool", Kind: client.Configured, RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantAuthorizationCode},
			})
		}},
		{"an operator who wants it", known, func(v url.Values) url.Values { return v }, func(c *authserver.Config) { c.AlwaysAsk = true }},
	} {
		t.Run(c.rule, func(t *testing.T) {
			uris := []string{callback, webURI, "cursor://app/cb"}
			if c.configure == nil {
				c.configure = func(*authserver.Config) {}
			}
			s, _, _ := newDocumentSite(t, map[string]any{"redirect_uris": uris}, c.configure)
			first := with(url.Values{}, pairs(c.first)...)
			b, _ := s.connected(first)
			if q, asked := b.asked(c.second(with(url.Values{}, pairs(first)...))); !asked {
				t.Errorf("the client got %v at once", q)
			}
		})
	}
}

// pairs are the parameters as with takes them.
func pairs(v url.Values) []string {
	var out []string
	for name := range v {
		out = append(out, name, v.Get(name))
	}
	return out
}

func TestASelfRegisteredClientIsAlwaysAskedAbout(t *testing.T) {
	s := newSite(t)
	a := s.program(request(http.MethodPost, "/register", fmt.Sprintf(`{"redirect_uris":[%q,%q],"client_name":"App"}`, webURI, callback)))
	for _, uri := range []string{webURI, callback} {
		v := authorization(a.text("client_id"), "redirect_uri", uri)
		b, _ := s.connected(v)
		if q, asked := b.asked(v); !asked {
			t.Errorf("%s got %v at once", uri, q)
		}
	}
}

func TestAConsentIsForgottenWithItsGrant(t *testing.T) {
	v := authorization(webID, "redirect_uri", webURI)
	t.Run("nothing was redeemed", func(t *testing.T) {
		s := newSite(t)
		b := s.browser()
		b.code(v)
		if _, asked := b.asked(v); !asked {
			t.Error("a consent that led to nothing is remembered")
		}
	})
	t.Run("the client revoked its token", func(t *testing.T) {
		s := newSite(t)
		b, tokens := s.connected(v)
		s.serve(request(http.MethodPost, "/revoke", url.Values{
			"token": {tokens.text("refresh_token")}, "client_id": {webID}, "client_secret": {webPass},
		}))
		if _, asked := b.asked(v); !asked {
			t.Error("a revoked consent is remembered")
		}
	})
	t.Run("another password", func(t *testing.T) {
		s := newSite(t)
		s.connected(v)
		s.users.change(func(known map[string]login.Identity) {
			known["alice"] = login.Identity{Subject: "alice", Provider: "local", Stamp: "2"}
		})
		if p := s.browser().get("/authorize?"+v.Encode()).signIn("alice", password); !p.has("/authorize") {
			t.Errorf("with another password, alice gets %d", p.status)
		}
	})
	t.Run("another user", func(t *testing.T) {
		s := newSite(t)
		s.connected(v)
		b := s.browser()
		if p := b.get("/authorize?"+v.Encode()).signIn("bob", password); !p.has("/authorize") {
			t.Errorf("bob gets %d", p.status)
		}
	})
}

func TestRemovingAnAppForgetsAllThatItWasAllowed(t *testing.T) {
	s := newSite(t)
	v := authorization(webID, "redirect_uri", webURI)
	b, first := s.connected(v)
	q, _ := b.asked(v)
	second := s.issued(redemption(webID, q.Get("code"), "redirect_uri", webURI, "client_secret", webPass))
	p := b.get("/account")
	if got := p.apps(); len(got) != 1 {
		t.Fatalf("the app is listed %d times", len(got))
	}
	b.post("/account/revoke", p.form("/account/revoke").values)
	for _, a := range []answer{first, second} {
		if s.good(a.text("access_token")) {
			t.Error("an access token is still good")
		}
	}
	if _, asked := b.asked(v); !asked {
		t.Error("the app is still remembered")
	}
}

// What a client was given again without a page, and has not redeemed yet, is removed
// with the app: nobody would be asked about what comes of it.
func TestRemovingAnAppEndsARememberedCode(t *testing.T) {
	s := newSite(t)
	v := authorization(webID, "redirect_uri", webURI)
	b, _ := s.connected(v)
	q, asked := b.asked(v)
	if asked {
		t.Fatal("the user is asked again")
	}
	p := b.get("/account")
	b.post("/account/revoke", p.form("/account/revoke").values)
	s.token(redemption(webID, q.Get("code"), "redirect_uri", webURI, "client_secret", webPass)).refused(t, 400, "invalid_grant")
}

func TestOnlyAPersonsNavigationIsAnsweredWithoutAPage(t *testing.T) {
	s := newSite(t)
	v := authorization(webID, "redirect_uri", webURI)
	b, _ := s.connected(v)
	before := len(s.store.Calls())
	for rule, change := range map[string]func(*http.Request){
		"a frame":      func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") },
		"a look ahead": func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") },
		"HEAD":         func(r *http.Request) { r.Method = http.MethodHead },
	} {
		r := request(http.MethodGet, "/authorize?"+v.Encode(), nil)
		change(r)
		if p := b.send(r); p.status != http.StatusOK || p.header.Get("Location") != "" {
			t.Errorf("%s: %d to %q", rule, p.status, p.header.Get("Location"))
		}
	}
	for _, call := range s.store.Calls()[before:] {
		if call.Method == "Update" || call.Method == "Put" {
			t.Errorf("something was left behind: %v", call)
		}
	}
}

func TestAConsentThatCannotBeLookedUpIsNotAnswered(t *testing.T) {
	s := newSite(t)
	v := authorization(webID, "redirect_uri", webURI)
	b, _ := s.connected(v)
	s.store.FailMethods(storetest.Before, storetest.List)
	if p := b.get("/authorize?" + v.Encode()); p.status != http.StatusServiceUnavailable {
		t.Errorf("status %d", p.status)
	}
}
