package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func TestADeviceThatIsDenied(t *testing.T) {
	for rule, deny := range map[string]func(b *browser, d waiting) *page{
		"on the page of consent": func(b *browser, d waiting) *page { return b.deviceConsent(d).decide("deny") },
		"on the page of sign-in": func(b *browser, d waiting) *page { return b.enter(d.userCode).decide("deny") },
		"after sending it twice": func(b *browser, d waiting) *page { p := b.deviceConsent(d); p.decide("deny"); return p.decide("deny") },
		"in a session that ended": func(b *browser, d waiting) *page {
			p := b.deviceConsent(d)
			b.post("/logout", b.get("/account").form("/logout").values)
			return p.decide("deny")
		},
	} {
		t.Run(rule, func(t *testing.T) {
			s := newSite(t, withDevices)
			d := s.startDevice(s.registerDevice())
			b := s.browser()
			if p := deny(b, d); p.status != http.StatusOK || p.heading() != "Cancelled. Your device gets no access" {
				t.Errorf("got %d %q", p.status, p.heading())
			}
			s.token(polling(d)).refused(t, 400, "access_denied")
			if p := b.enter(d.userCode); p.status != http.StatusBadRequest || p.has("/login") {
				t.Errorf("the code is good for another decision: %d", p.status)
			}
		})
	}
}

func TestACodeInTheAddressIsOnlyFilledIn(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	before := len(s.store.Calls())
	p := b.get("/device?user_code=" + d.userCode)
	if p.status != http.StatusOK || !strings.Contains(p.body, `value="`+d.userCode+`"`) || !strings.Contains(p.body, "Is this the code that your device shows?") {
		t.Errorf("got %d\n%s", p.status, p.body)
	}
	if calls := s.store.Calls()[before:]; len(calls) > 0 {
		t.Errorf("a link alone asks the store: %v", calls)
	}
	f := p.form("/device")
	if f.values.Get("user_code") != "" {
		f.values.Del("user_code")
	}
	if p = b.post("/device", with(f.values, "user_code", d.userCode)); !p.has("/login") {
		t.Errorf("after pressing the button: %d", p.status)
	}
	for _, junk := range []string{"<script>", "WDJB", "%FF"} {
		if p := b.get("/device?user_code=" + url.QueryEscape(junk)); p.status != http.StatusOK || strings.Contains(p.body, "Is this the code") || strings.Contains(p.body, "script>") {
			t.Errorf("%q in the address: %d\n%s", junk, p.status, p.body)
		}
	}
	if p := b.get("/device?user_code=a&user_code=b"); p.status != http.StatusBadRequest {
		t.Errorf("two codes: %d", p.status)
	}
}

func TestUnknownUserCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		d := s.startDevice(s.registerDevice())
		b := s.browser()
		for _, code := range []string{"", "AAAA-AAAA", "BBBB-BBBB", d.userCode + "B"} {
			p := b.enter(code)
			if p.status != http.StatusBadRequest || p.has("/login") || !strings.Contains(p.body, "No device is waiting with this code") {
				t.Errorf("%q: %d", code, p.status)
			}
		}
		time.Sleep(10 * time.Minute)
		if p := b.enter(d.userCode); p.status != http.StatusBadRequest || p.has("/login") {
			t.Errorf("a code that has expired: %d", p.status)
		}
	})
}

// Guessing is slowed down for each address, and for all together; people with a
// right code are not counted.
func TestGuessesOfUserCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		d := s.startDevice(s.registerDevice())
		b := s.browser()
		for range 30 {
			if p := b.enter(d.userCode); !p.has("/login") {
				t.Fatalf("a right code: %d", p.status)
			}
		}
		for range 10 {
			b.enter("BBBB-BBBB")
		}
		p := b.enter(d.userCode)
		if p.status != http.StatusTooManyRequests || p.header.Get("Retry-After") == "" || p.has("/login") {
			t.Errorf("after ten wrong codes: %d, retry after %q", p.status, p.header.Get("Retry-After"))
		}
		other := s.browser()
		other.peer = "192.0.2.200:1"
		if p := other.enter(d.userCode); !p.has("/login") {
			t.Errorf("another address is held back as well: %d", p.status)
		}
		for i := range 9 {
			guesser := s.browser()
			guesser.peer = "198.51.100." + strconv.Itoa(i) + ":1"
			for range 10 {
				guesser.enter("BBBB-BBBB")
			}
		}
		if p := other.enter(d.userCode); p.status != http.StatusTooManyRequests {
			t.Errorf("after a hundred wrong codes from ten addresses: %d", p.status)
		}
		alice, _ := s.signedIn("alice")
		if p := alice.enter(d.userCode); !strings.Contains(p.body, `value="allow"`) {
			t.Errorf("somebody who is signed in is held back by strangers: %d", p.status)
		}
		for range 10 {
			alice.enter("BBBB-BBBB")
		}
		alice.peer = "192.0.2.201:1"
		if p := alice.enter(d.userCode); p.status != http.StatusTooManyRequests {
			t.Errorf("after ten wrong codes of somebody who is signed in: %d", p.status)
		}
		time.Sleep(time.Minute)
		if p := other.enter(d.userCode); !p.has("/login") {
			t.Errorf("a minute later: %d", p.status)
		}
	})
}

// misusedDeviceForms are forms of consent for a device that are refused, with how.
var misusedDeviceForms = []struct {
	rule string
	try  func(s *site, b *browser, good form) *page
	code string
}{
	{"another browser's form", func(s *site, _ *browser, good form) *page {
		other := s.browser()
		other.deviceConsent(s.startDevice("tv", "client_secret", "tv-secret"))
		return other.post("/device", good.values)
	}, "other_browser"},
	{"a browser without cookies", func(s *site, _ *browser, good form) *page {
		return s.browser().post("/device", good.values)
	}, "other_browser"},
	{"a session of another user", func(_ *site, b *browser, good form) *page {
		b.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Path: "/", MaxAge: -1}})
		b.get("/account").signIn("bob", password)
		return b.post("/device", good.values)
	}, "request_expired"},
	{"no session any more", func(_ *site, b *browser, good form) *page {
		b.post("/logout", b.get("/account").form("/logout").values)
		return b.post("/device", good.values)
	}, "request_expired"},
	{"the form of the sign-in page", func(s *site, _ *browser, _ form) *page {
		b := s.browser()
		p := b.enter(s.startDevice("tv", "client_secret", "tv-secret").userCode)
		cancel := p.form("/device")
		p.signIn("alice", password)
		return b.post("/device", with(cancel.values, "decision", "allow"))
	}, "request_expired"},
	{"a form for an app at /device", func(s *site, b *browser, _ form) *page {
		f := b.consent(authorization(s.register())).form("/authorize")
		return b.post("/device", with(f.values, "decision", "allow"))
	}, "form_expired"},
	{"the form at /authorize", func(_ *site, b *browser, good form) *page {
		return b.post("/authorize", good.values)
	}, "form_expired"},
	{"a form of the account page", func(_ *site, b *browser, _ form) *page {
		return b.post("/device", with(b.get("/account").form("/logout").values, "decision", "allow"))
	}, "form_expired"},
	{"a token that was changed", func(_ *site, b *browser, good form) *page {
		return b.post("/device", with(good.values, "token", flip(good.values.Get("token"))))
	}, "form_expired"},
	{"no token", func(_ *site, b *browser, good form) *page {
		return b.post("/device", with(good.values, "token", "-"))
	}, "form_expired"},
	{"no decision", func(_ *site, b *browser, good form) *page {
		return b.post("/device", with(good.values, "decision", "-"))
	}, "invalid_request"},
	{"two decisions", func(_ *site, b *browser, good form) *page {
		good.values.Add("decision", "deny")
		return b.post("/device", good.values)
	}, "invalid_request"},
	{"a decision that there is none of", func(_ *site, b *browser, good form) *page {
		return b.post("/device", with(good.values, "decision", "yes"))
	}, "invalid_request"},
	{"a form that is too old", func(_ *site, b *browser, good form) *page {
		time.Sleep(10*time.Minute + time.Second)
		return b.post("/device", good.values)
	}, "request_expired"},
}

func TestAFormForADeviceIsGoodOnlyForWhatItWasMade(t *testing.T) {
	for _, c := range misusedDeviceForms {
		t.Run(c.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, withDevices)
				d := s.startDevice(s.registerDevice())
				b := s.browser()
				good := b.deviceConsent(d).form("/device")
				good.values.Set("decision", "allow")
				p := c.try(s, b, good)
				if p.problem() != c.code || p.status != http.StatusBadRequest {
					t.Errorf("got %d %q, want 400 %q", p.status, p.problem(), c.code)
				}
				if a := s.token(polling(d)); a.StatusCode == http.StatusOK {
					t.Error("the device got its access")
				}
			})
		})
	}
	s := newSite(t, withDevices)
	b := s.browser()
	f := b.deviceConsent(s.startDevice(s.registerDevice())).form("/device")
	r := request(http.MethodPost, "/device", with(f.values, "decision", "allow"))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := b.send(r); p.status != http.StatusForbidden {
		t.Errorf("a form of another site: %d", p.status)
	}
}

func TestPostedFieldsNeverOverrideTheRequestOfADevice(t *testing.T) {
	s := newSite(t, withDevices)
	id := s.registerDevice()
	d, other := s.startDevice(id), s.startDevice(id)
	s.browser().deviceConsent(d).decide("allow", "user_code", other.userCode, "client_id", "tv", "resource", issuer+"/admin",
		"username", "bob", "scope", "admin", "scope", "mcp", "device", "x")
	s.token(polling(other)).refused(t, 400, "authorization_pending")
	a := s.issued(polling(d))
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil || a.text("scope") != "mcp" || claims.Subject != "alice" || claims.ClientID != id || claims.Audience != resource {
		t.Errorf("scope %q, %+v, %v", a.text("scope"), claims, err)
	}
}

func TestConsentToADeviceIsAskedForEveryTime(t *testing.T) {
	s := newSite(t, withDevices)
	id := s.registerDevice()
	b := s.browser()
	b.deviceConsent(s.startDevice(id)).decide("allow")
	d := s.startDevice(id)
	if p := b.enter(d.userCode); p.status != http.StatusOK || !strings.Contains(p.body, `value="allow"`) {
		t.Errorf("got %d", p.status)
	}
	s.token(polling(d)).refused(t, 400, "authorization_pending")
}

func TestARequestOfADeviceIsDecidedOnce(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	p := b.deviceConsent(d)
	p.decide("allow")
	if again := p.decide("allow"); again.status != http.StatusOK {
		t.Errorf("allowed twice: %d %q", again.status, again.problem())
	}
	if no := p.decide("deny"); no.problem() != "request_expired" {
		t.Errorf("denied after it was allowed: %d %q", no.status, no.problem())
	}
	s.issued(polling(d))
}

func TestADeviceCanBeAllowedAsSomebodyElse(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	p := b.deviceConsent(d)
	p = b.post("/login/switch", p.form("/login/switch").values)
	if !p.has("/login") || !strings.Contains(p.body, "Headless") {
		t.Fatalf("no sign-in page but %d", p.status)
	}
	p.signIn("bob", password).decide("allow")
	claims, err := s.verifier.Verify(t.Context(), s.issued(polling(d)).text("access_token"))
	if err != nil || claims.Subject != "bob" {
		t.Errorf("%+v, %v", claims, err)
	}
}

func TestADeviceOfAUserWhoSignsInAtAProvider(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withDevices, withProvider(idp))
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	p := b.get(back(b.enter(d.userCode).away()))
	if !strings.Contains(p.body, "carol@example.com") || !strings.Contains(p.body, d.userCode) {
		t.Fatalf("no consent page but %d:\n%s", p.status, p.body)
	}
	p.decide("allow")
	claims, err := s.verifier.Verify(t.Context(), s.issued(polling(d)).text("access_token"))
	if err != nil || claims.Subject != "acme:42" {
		t.Errorf("%+v, %v", claims, err)
	}
}

// The word of a proxy counts at the authorization endpoint only, so the way leads
// past it.
func TestADeviceOfAUserWhomAProxyVouchesFor(t *testing.T) {
	f := &front{user: "carol"}
	s := newVouchedSite(t, f, withDevices)
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	p := b.enter(d.userCode)
	if !strings.Contains(p.body, "carol@example.com") || !strings.Contains(p.body, d.userCode) {
		t.Fatalf("no consent page but %d:\n%s", p.status, p.body)
	}
	if !slices.Equal(f.asked, []string{"/authorize"}) {
		t.Errorf("the proxy was asked at %q", f.asked)
	}
	p.decide("allow")
	claims, err := s.verifier.Verify(t.Context(), s.issued(polling(d)).text("access_token"))
	if err != nil || claims.Subject != "header:carol" {
		t.Errorf("%+v, %v", claims, err)
	}
	f.user = ""
	if p := s.browser().enter(s.startDevice(s.registerDevice()).userCode); p.status != http.StatusForbidden {
		t.Errorf("without the word of the proxy: %d", p.status)
	}
}

func TestADeviceOfAUserWhoIsGone(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	s.browser().deviceConsent(d).decide("allow")
	s.users.change(func(known map[string]login.Identity) { delete(known, "alice") })
	s.token(polling(d)).refused(t, 400, "invalid_grant")
}
