package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheConsentPageSaysWhoAsksForWhatAndWhereItGoes(t *testing.T) {
	s := newSite(t)
	p := s.browser().consent(authorization(s.register()))
	for _, text := range []string{"Inspector", "127.0.0.1", "6276", "Read bugs", "alice@example.com", resource, callback} {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page does not show %q", text)
		}
	}
	if h := p.header; h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers are %v", h)
	}
	if got := p.form("/authorize").values; len(got) != 1 || got.Get("token") == "" {
		t.Errorf("the form carries %v, want nothing but a token", got)
	}
}

func TestTheHandOffCarriesTheAnswerAndNothingElse(t *testing.T) {
	s := newSite(t)
	for decision, want := range map[string][]string{"allow": {"code", "iss", "state"}, "deny": {"error", "error_description", "iss", "state"}} {
		p := s.browser().consent(authorization(s.register())).submit("decision", decision)
		q := p.handedOff()
		var names []string
		for name := range q {
			names = append(names, name)
		}
		if slices.Sort(names); !slices.Equal(names, want) || q.Get("iss") != issuer || q.Get("state") != "xyz" {
			t.Errorf("%s hands off %v", decision, q)
		}
		if decision == "deny" && q.Get("error") != "access_denied" {
			t.Errorf("deny hands off the error %q", q.Get("error"))
		}
		if p.header.Get("Location") != "" || p.header.Get("Referrer-Policy") != "no-referrer" || p.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers are %v", p.header)
		}
	}
}

func TestARequestCanBeCancelledBeforeSigningIn(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	before := len(s.store.Calls())
	q := b.loginPage().submit("decision", "deny").handedOff()
	if q.Get("error") != "access_denied" || q.Get("state") != "xyz" || q.Get("iss") != issuer {
		t.Errorf("handed off %v", q)
	}
	for _, c := range s.store.Calls()[before:] {
		if c.Method == "Update" {
			t.Errorf("it left something behind: %v", c)
		}
	}
}

// misusedForms are the forms for /authorize that are refused, with how.
var misusedForms = []struct {
	rule string
	// try posts a form for /authorize, or changes what the good one meets.
	try  func(s *site, b *browser, good form) *page
	code string
}{
	{"another browser's form", func(s *site, _ *browser, good form) *page {
		other := s.browser()
		other.consent(authorization(s.register()))
		return other.post("/authorize", good.values)
	}, "other_browser"},
	{"a browser without cookies", func(s *site, _ *browser, good form) *page {
		return s.browser().post("/authorize", good.values)
	}, "other_browser"},
	{"another session of the same user", func(_ *site, b *browser, good form) *page {
		b.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Path: "/", MaxAge: -1}})
		b.get("/account").signIn("alice", password)
		return b.post("/authorize", good.values)
	}, "request_expired"},
	{"a session of another user", func(_ *site, b *browser, good form) *page {
		b.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Path: "/", MaxAge: -1}})
		b.get("/account").signIn("bob", password)
		return b.post("/authorize", good.values)
	}, "request_expired"},
	{"no session any more", func(_ *site, b *browser, good form) *page {
		account := b.get("/account")
		b.post("/logout", account.form("/logout").values)
		return b.post("/authorize", good.values)
	}, "request_expired"},
	{"the form of the sign-in page", func(s *site, b *browser, _ form) *page {
		other := s.browser()
		f := other.loginPage().form("/authorize")
		other.jar = b.jar
		return other.post("/authorize", with(f.values, "decision", "allow"))
	}, "other_browser"},
	{"a form of the account page", func(_ *site, b *browser, _ form) *page {
		f := b.get("/account").form("/logout")
		return b.post("/authorize", with(f.values, "decision", "allow"))
	}, "form_expired"},
	{"a token that was changed", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", with(good.values, "token", flip(good.values.Get("token"))))
	}, "form_expired"},
	{"a token that was cut", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", with(good.values, "token", good.values.Get("token")[:20]))
	}, "form_expired"},
	{"no token", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", with(good.values, "token", "-"))
	}, "form_expired"},
	{"two tokens", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", repeated(good.values, "token"))
	}, "invalid_request"},
	{"no decision", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", with(good.values, "decision", "-"))
	}, "invalid_request"},
	{"two decisions", func(_ *site, b *browser, good form) *page {
		good.values.Add("decision", "deny")
		return b.post("/authorize", good.values)
	}, "invalid_request"},
	{"a decision that there is none of", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", with(good.values, "decision", "ALLOW"))
	}, "invalid_request"},
	{"everything in the query", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize?"+good.values.Encode(), url.Values{})
	}, "form_expired"},
	{"JSON", func(_ *site, b *browser, _ form) *page {
		return b.send(request(http.MethodPost, "/authorize", `{"decision":"allow"}`))
	}, "invalid_request"},
	{"a form that is too old", func(_ *site, b *browser, good form) *page {
		time.Sleep(10*time.Minute + time.Second)
		return b.post("/authorize", good.values)
	}, "request_expired"},
}

func TestAFormIsGoodOnlyWhereAndForWhatItWasMade(t *testing.T) {
	for _, c := range misusedForms {
		t.Run(c.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				b := s.browser()
				good := b.consent(authorization(s.register())).form("/authorize")
				good.values.Set("decision", "allow")
				p := c.try(s, b, good)
				if p.problem() != c.code || p.status != http.StatusBadRequest || strings.Contains(p.body, "http-equiv") {
					t.Errorf("got %d %q, want 400 %q", p.status, p.problem(), c.code)
				}
			})
		})
	}
}

// The sign-in page's form cancels. It has no session in it, so it cannot allow.
func TestTheCancelFormCannotAllow(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	p := b.loginPage()
	cancel := p.form("/authorize")
	p.signIn("alice", password)
	if p := b.post("/authorize", with(cancel.values, "decision", "allow")); p.problem() != "request_expired" {
		t.Errorf("got %d %q", p.status, p.problem())
	}
}

func TestPostedFieldsNeverOverrideTheRequest(t *testing.T) {
	s := newSite(t)
	id, other := s.register(), s.register()
	p := s.browser().consent(authorization(id)).submit("decision", "allow",
		"client_id", other, "redirect_uri", "https://evil.example/cb", "state", "evil", "resource", issuer+"/admin",
		"code_challenge", "evil", "code_challenge_method", "plain", "response_type", "token", "iss", "https://evil.example",
		"username", "bob", "scope", "admin", "scope", "openid", "scope", "mcp")
	q := p.handedOff()
	if q.Get("state") != "xyz" || strings.Contains(p.body, "evil") {
		t.Errorf("handed off %v", q)
	}
	s.token(redemption(other, q.Get("code"))).refused(t, 400, "invalid_grant")
	if a := s.issued(redemption(id, q.Get("code"))); a.text("scope") != "mcp" {
		t.Errorf("the scope is %q", a.text("scope"))
	}
}

func TestOptionalScopesAreGivenOnlyWhenTheyAreTicked(t *testing.T) {
	for _, c := range []struct {
		rule    string
		asked   string
		boxes   []string
		ticked  []string
		granted string
	}{
		{"not ticked", "mcp", []string{"bugs:write"}, nil, "mcp"},
		{"ticked", "mcp", []string{"bugs:write"}, []string{"scope", "bugs:write"}, "mcp bugs:write"},
		{"ticked twice", "mcp", []string{"bugs:write"}, []string{"scope", "bugs:write", "scope", "bugs:write"}, "mcp bugs:write"},
		{"asked for, so there is no box", "mcp bugs:write", nil, nil, "mcp bugs:write"},
		{"one that is not optional", "bugs:write", nil, []string{"scope", "mcp"}, "bugs:write"},
		{"one of another resource", "mcp", []string{"bugs:write"}, []string{"scope", "admin"}, "mcp"},
		{"one that does not exist", "mcp", []string{"bugs:write"}, []string{"scope", "root", "scope", "mcp bugs:write"}, "mcp"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t)
			id := s.register()
			p := s.browser().consent(authorization(id, "scope", c.asked))
			if got := p.boxes(); !slices.Equal(got, c.boxes) {
				t.Errorf("the boxes are %q, want %q", got, c.boxes)
			}
			code := p.submit(append(c.ticked, "decision", "allow")...).handedOff().Get("code")
			if a := s.issued(redemption(id, code)); a.text("scope") != c.granted {
				t.Errorf("granted %q, want %q", a.text("scope"), c.granted)
			}
		})
	}
}

func TestARequestIsDecidedOnce(t *testing.T) {
	t.Run("sending the form twice gives the same code", func(t *testing.T) {
		s := newSite(t)
		id := s.register()
		p := s.browser().consent(authorization(id))
		first := p.submit("decision", "allow").handedOff().Get("code")
		// A box that is ticked only the second time changes nothing.
		second := p.submit("decision", "allow", "scope", "bugs:write").handedOff().Get("code")
		if first != second || first == "" {
			t.Errorf("the codes are %q and %q", first, second)
		}
		if a := s.issued(redemption(id, first)); a.text("scope") != "mcp" {
			t.Errorf("granted %q", a.text("scope"))
		}
		if p := p.submit("decision", "allow"); p.problem() != "request_expired" {
			t.Errorf("after redemption: %d %q", p.status, p.problem())
		}
	})
	t.Run("no means no", func(t *testing.T) {
		s := newSite(t)
		p := s.browser().consent(authorization(s.register()))
		p.submit("decision", "deny").handedOff()
		if p := p.submit("decision", "allow"); p.problem() != "request_expired" {
			t.Errorf("allowed after it was denied: %d %q", p.status, p.problem())
		}
		if q := p.submit("decision", "deny").handedOff(); q.Get("error") != "access_denied" {
			t.Errorf("denied twice: %v", q)
		}
	})
	t.Run("yes means yes", func(t *testing.T) {
		s := newSite(t)
		p := s.browser().consent(authorization(s.register()))
		p.submit("decision", "allow").handedOff()
		if p := p.submit("decision", "deny"); p.problem() != "request_expired" {
			t.Errorf("denied after it was allowed: %d %q", p.status, p.problem())
		}
	})
	t.Run("a code that has expired is not given again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			p := s.browser().consent(authorization(s.register()))
			p.submit("decision", "allow").handedOff()
			time.Sleep(time.Minute)
			if p := p.submit("decision", "allow"); p.problem() != "request_expired" {
				t.Errorf("got %d %q", p.status, p.problem())
			}
		})
	})
}

func TestConsentIsAskedForEveryTime(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	b.code(authorization(id))
	if p := b.get("/authorize?" + authorization(id).Encode()); !p.has("/authorize") || p.header.Get("Location") != "" {
		t.Errorf("got %d to %q", p.status, p.header.Get("Location"))
	}
}

func TestAClientThatIsGoneGetsNoAnswer(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	p := b.consent(authorization(id))
	for key, err := range s.store.Inner().Keys(t.Context(), "test/client/") {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.Inner().Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for _, decision := range []string{"allow", "deny"} {
		if p := p.submit("decision", decision); p.problem() != "invalid_client" || p.status != http.StatusBadRequest {
			t.Errorf("%s: %d %q", decision, p.status, p.problem())
		}
	}
}

func TestACodeGoesOnlyToTheClientItWasMadeFor(t *testing.T) {
	s := newSite(t)
	victim, attacker := s.register(), s.register()
	b := s.browser()
	// Two requests in one browser keep to themselves.
	first, second := b.consent(authorization(victim, "state", "1")), b.consent(authorization(attacker, "state", "2"))
	q2, q1 := second.submit("decision", "allow").handedOff(), first.submit("decision", "allow").handedOff()
	if q1.Get("state") != "1" || q2.Get("state") != "2" || q1.Get("code") == q2.Get("code") {
		t.Errorf("handed off %v and %v", q1, q2)
	}
	s.token(redemption(attacker, q1.Get("code"))).refused(t, 400, "invalid_grant")
	s.token(redemption(victim, q2.Get("code"))).refused(t, 400, "invalid_grant")
	s.issued(redemption(victim, q1.Get("code")))
}
