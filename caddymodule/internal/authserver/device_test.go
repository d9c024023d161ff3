package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const deviceGrant = oauth.GrantDeviceCode

// withDevices switches the device grant on.
func withDevices(cfg *authserver.Config) {
	cfg.DeviceAuthorization = true
	cfg.Clients = append(cfg.Clients, &client.Client{
		ID: "tv", Name: "Television", GrantTypes: []string{deviceGrant}, Secret: plainSecret("tv-secret"),
	})
}

// registerDevice makes a public client of the device grant alone.
func (s *site) registerDevice() string {
	s.t.Helper()
	a := s.program(request(http.MethodPost, "/register", `{"client_name":"Headless","grant_types":["`+deviceGrant+`"]}`))
	if a.StatusCode != http.StatusCreated {
		s.t.Fatalf("registration: %d %v", a.StatusCode, a.fields)
	}
	return a.text("client_id")
}

// askDevice sends a device authorization request.
func (s *site) askDevice(clientID string, pairs ...string) answer {
	s.t.Helper()
	return s.program(request(http.MethodPost, "/device_authorization", with(url.Values{"client_id": {clientID}, "scope": {"mcp"}, "resource": {resource}}, pairs...)))
}

// waiting is a device that waits.
type waiting struct{ clientID, code, userCode string }

func (s *site) startDevice(clientID string, pairs ...string) waiting {
	s.t.Helper()
	a := s.askDevice(clientID, pairs...)
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("device authorization: %d %v", a.StatusCode, a.fields)
	}
	return waiting{clientID, a.text("device_code"), a.text("user_code")}
}

func polling(d waiting, pairs ...string) url.Values {
	return with(url.Values{"grant_type": {deviceGrant}, "client_id": {d.clientID}, "device_code": {d.code}}, pairs...)
}

// enter types a code into the page for codes.
func (b *browser) enter(code string) *page {
	b.site.t.Helper()
	return b.post("/device", with(b.get("/device").form("/device").values, "user_code", code))
}

// deviceConsent goes on to the page of consent.
func (b *browser) deviceConsent(d waiting) *page {
	b.site.t.Helper()
	p := b.enter(d.userCode)
	if p.has("/login") {
		p = p.signIn("alice", password)
	}
	if p.status != http.StatusOK || !strings.Contains(p.body, `value="allow"`) {
		b.site.t.Fatalf("no consent page but %d:\n%s", p.status, p.body)
	}
	return p
}

// decide presses a button of a consent page for a device.
func (p *page) decide(decision string, pairs ...string) *page {
	p.browser.site.t.Helper()
	f := p.form("/device")
	f.values.Set("decision", decision)
	for i := 0; i < len(pairs); i += 2 {
		f.values.Add(pairs[i], pairs[i+1])
	}
	return p.browser.post("/device", f.values)
}

// heading is what the page is headed with.
func (p *page) heading() string {
	text := ""
	p.each("h1", func(n *html.Node) {
		for d := range n.Descendants() {
			if d.Type == html.TextNode {
				text += d.Data
			}
		}
	})
	return text
}

func TestADeviceGoesTheWholeWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		id := s.registerDevice()
		d := s.startDevice(id)
		s.token(polling(d)).refused(t, 400, "authorization_pending")

		b := s.browser()
		p := b.enter(strings.ToLower(strings.ReplaceAll(d.userCode, "-", " ")))
		if !p.has("/login") || !strings.Contains(p.body, "Headless") {
			t.Fatalf("the sign-in page: %d\n%s", p.status, p.body)
		}
		p = p.signIn("alice", password)
		for _, text := range []string{"Headless", "Unconfirmed app on a device", d.userCode, "Read bugs", "alice@example.com", resource, "Whoever sent you this code gets the access."} {
			if !strings.Contains(p.body, text) {
				t.Errorf("the consent page does not show %q", text)
			}
		}
		if p = p.decide("allow", "scope", "bugs:write"); p.status != http.StatusOK || p.heading() != "Allowed. Go back to your device" {
			t.Errorf("after the decision: %d %q", p.status, p.heading())
		}

		time.Sleep(5 * time.Second)
		a := s.issued(polling(d, "resource", resource))
		if a.text("scope") != "mcp bugs:write" {
			t.Errorf("the scope is %q", a.text("scope"))
		}
		claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
		if err != nil || claims.Subject != "alice" || claims.ClientID != id || claims.Audience != resource {
			t.Errorf("the token is about %+v, %v", claims, err)
		}
		a = s.issued(renewal(id, a.text("refresh_token")))
		p = b.get("/account")
		if !strings.Contains(p.body, "Headless") || !strings.Contains(p.body, "on a device") {
			t.Errorf("the account page does not list the device:\n%s", p.body)
		}
		p.browser.post("/account/revoke", p.form("/account/revoke").values)
		s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
	})
}

func TestTheAnswerToADevice(t *testing.T) {
	s := newSite(t, withDevices)
	id := s.registerDevice()
	a := s.askDevice(id)
	code := a.text("user_code")
	if _, ok := oauth.ParseUserCode(code); !ok || len(code) != 9 || len(a.text("device_code")) < 64 {
		t.Errorf("the codes are %q and %q", a.text("device_code"), code)
	}
	if a.text("verification_uri") != issuer+"/device" || a.text("verification_uri_complete") != issuer+"/device?user_code="+code ||
		a.fields["expires_in"] != 600.0 || a.fields["interval"] != 5.0 {
		t.Errorf("the answer is %v", a.fields)
	}
	h := a.Header
	if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers are %v", h)
	}
	preflight := request(http.MethodOptions, "/device_authorization", nil)
	preflight.Header.Set("Origin", "https://app.example")
	preflight.Header.Set("Access-Control-Request-Method", "POST")
	if resp := s.serve(preflight); resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("the preflight: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := s.serve(request(http.MethodGet, "/device_authorization", nil)); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", resp.StatusCode)
	}
}

func TestDeviceRequestsThatAreRefused(t *testing.T) {
	s := newSite(t, withDevices)
	id, other := s.registerDevice(), s.register()
	basic := func(id, secret string, values url.Values) answer {
		r := request(http.MethodPost, "/device_authorization", values)
		r.SetBasicAuth(id, secret)
		return s.program(r)
	}
	s.askDevice("-").refused(t, 401, "invalid_client")
	s.askDevice("mcp_AAAAAAAAAAAAAAAAAAAAAAAAAA").refused(t, 401, "invalid_client")
	s.askDevice(other).refused(t, 400, "unauthorized_client")
	s.askDevice("tv").refused(t, 401, "invalid_client")
	basic("tv", "wrong", nil).refused(t, 401, "invalid_client")
	s.askDevice(id, "client_secret", "x").refused(t, 401, "invalid_client")
	s.askDevice(id, "resource", "https://other.example/mcp").refused(t, 400, "invalid_target")
	s.askDevice(id, "resource", "mcp").refused(t, 400, "invalid_target")
	s.program(request(http.MethodPost, "/device_authorization", url.Values{"client_id": {id}, "scope": {"mcp", "admin"}})).refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/device_authorization", `{"client_id":"`+id+`"}`)).refused(t, 400, "invalid_request")
	s.program(request(http.MethodPost, "/device_authorization?client_id="+id, url.Values{})).refused(t, 401, "invalid_client")
	for key := range s.keys() {
		if strings.HasPrefix(key, "test/device/") {
			t.Errorf("a refusal has left %s behind", key)
		}
	}
	if a := basic("tv", "tv-secret", url.Values{}); a.StatusCode != http.StatusOK {
		t.Errorf("a client with its secret: %d %v", a.StatusCode, a.fields)
	}
}

// keys are all keys of the store.
func (s *site) keys() map[string]bool {
	s.t.Helper()
	out := map[string]bool{}
	for key, err := range s.store.Inner().Keys(s.t.Context(), "") {
		if err != nil {
			s.t.Fatal(err)
		}
		out[key] = true
	}
	return out
}

func TestWhatADeviceMayAskFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		id := s.registerDevice()
		for _, c := range []struct {
			rule     string
			pairs    []string
			scope    string
			audience string
		}{
			{"nothing, so the default", []string{"scope", "-", "resource", "-"}, "mcp", resource},
			{"another resource", []string{"scope", "-", "resource", issuer + "/admin"}, "admin", issuer + "/admin"},
			{"unknown scopes are dropped", []string{"scope", "openid mcp x"}, "mcp", resource},
			{"an optional scope", []string{"scope", "mcp bugs:write"}, "mcp bugs:write", resource},
		} {
			d := s.startDevice(id, c.pairs...)
			s.browser().deviceConsent(d).decide("allow")
			a := s.issued(polling(d))
			claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
			if err != nil || a.text("scope") != c.scope || claims.Audience != c.audience {
				t.Errorf("%s: scope %q for %q, %v", c.rule, a.text("scope"), claims.Audience, err)
			}
		}
	})
}

func TestPollsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		id, thief := s.registerDevice(), s.registerDevice()
		d := s.startDevice(id)
		s.token(polling(d, "client_id", "-")).refused(t, 401, "invalid_client")
		s.token(polling(d, "device_code", "-")).refused(t, 400, "invalid_request")
		s.token(polling(d, "device_code", "junk")).refused(t, 400, "invalid_grant")
		s.token(polling(d, "client_id", thief)).refused(t, 400, "invalid_grant")
		s.token(polling(d, "client_id", s.register())).refused(t, 400, "unauthorized_client")
		s.token(polling(d, "resource", issuer+"/admin")).refused(t, 400, "invalid_target")
		s.token(redemption(id, d.code)).refused(t, 400, "unauthorized_client")
		twice := polling(d)
		twice.Add("device_code", d.code)
		s.token(twice).refused(t, 400, "invalid_request")

		s.token(polling(d)).refused(t, 400, "authorization_pending")
		s.token(polling(d)).refused(t, 400, "slow_down")
		s.browser().deviceConsent(d).decide("allow")
		time.Sleep(10 * time.Second)
		s.token(polling(d, "client_id", thief)).refused(t, 400, "invalid_grant")
		first := s.issued(polling(d))

		// The answer was lost; later on it is a replay.
		time.Sleep(10 * time.Second)
		again := s.issued(polling(d))
		if again.text("refresh_token") != first.text("refresh_token") {
			t.Error("a repeated poll gets another refresh token")
		}
		time.Sleep(3 * time.Minute)
		s.token(polling(d)).refused(t, 400, "invalid_grant")
		s.token(renewal(id, first.text("refresh_token"))).refused(t, 400, "invalid_grant")
		if s.good(first.text("access_token")) {
			t.Error("the access token outlives the replay")
		}
		time.Sleep(7 * time.Minute)
		s.token(polling(d)).refused(t, 400, "expired_token")
	})
}

func TestDeviceGrantThatIsOff(t *testing.T) {
	for rule, off := range map[string]func(*authserver.Config){
		"by default":               func(*authserver.Config) {},
		"where nobody can sign in": func(c *authserver.Config) { withDevices(c); c.SignIn = false },
	} {
		t.Run(rule, func(t *testing.T) {
			s := newSite(t, off)
			for _, path := range authserver.DevicePaths() {
				if _, ok := s.Endpoint(path); ok {
					t.Errorf("%s is there", path)
				}
			}
			s.token(polling(waiting{"tv", "x", ""})).refused(t, 400, "unsupported_grant_type")
			s.program(request(http.MethodPost, "/register", `{"grant_types":["`+deviceGrant+`"]}`)).refused(t, 400, "invalid_client_metadata")
			a := s.program(request(http.MethodPost, "/register", vsCodeBody))
			if grants, _ := a.fields["grant_types"].([]any); a.StatusCode != http.StatusCreated || len(grants) != 2 {
				t.Errorf("VS Code is registered with %v", a.fields)
			}
		})
	}
}

func TestRegistrationForTheDeviceGrant(t *testing.T) {
	s := newSite(t, withDevices)
	a := s.program(request(http.MethodPost, "/register", vsCodeBody))
	if grants, _ := a.fields["grant_types"].([]any); a.StatusCode != http.StatusCreated || len(grants) != 3 {
		t.Errorf("VS Code is registered with %v", a.fields)
	}
	if s.askDevice(a.text("client_id")).StatusCode != http.StatusOK {
		t.Error("VS Code cannot use the device grant")
	}
	// A change of the registration keeps the grant.
	change := request(http.MethodPut, "/register/"+a.text("client_id"), `{"client_id":"`+a.text("client_id")+`",`+vsCodeBody[1:])
	change.Header.Set("Authorization", "Bearer "+a.text("registration_access_token"))
	changed := s.program(change)
	if grants, _ := changed.fields["grant_types"].([]any); changed.StatusCode != http.StatusOK || len(grants) != 3 {
		t.Errorf("after a change VS Code is registered with %d %v", changed.StatusCode, changed.fields)
	}
	// Where redirect URIs decide who may register, a device has none to show.
	s = newSite(t, withDevices, func(c *authserver.Config) {
		c.Registration.Hosts = []string{"vscode.dev", "insiders.vscode.dev", "localhost"}
	})
	a = s.program(request(http.MethodPost, "/register", vsCodeBody))
	if grants, _ := a.fields["grant_types"].([]any); a.StatusCode != http.StatusCreated || len(grants) != 2 {
		t.Errorf("with a list of hosts, VS Code is registered with %v", a.fields)
	}
	s.program(request(http.MethodPost, "/register", `{"grant_types":["`+deviceGrant+`"]}`)).refused(t, 400, "invalid_client_metadata")
}

// However many strangers ask, the store keeps little.
func TestRequestsOfDevicesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where the requests take no time
		s := newSite(t, withDevices)
		id := s.registerDevice()
		ask := func(peer string) answer {
			r := request(http.MethodPost, "/device_authorization", url.Values{"client_id": {id}})
			r.RemoteAddr = peer
			return s.program(r)
		}
		for range 30 {
			if a := ask("192.0.2.1:1"); a.StatusCode != http.StatusOK {
				t.Fatalf("got %d", a.StatusCode)
			}
		}
		held := ask("192.0.2.1:2")
		held.refused(t, http.StatusTooManyRequests, "temporarily_unavailable")
		if held.Header.Get("Retry-After") == "" || held.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("headers are %v", held.Header)
		}
		granted := 30
		for i := range 1200 {
			if ask("10.0."+strconv.Itoa(i/250)+"."+strconv.Itoa(i%250)+":1").StatusCode == http.StatusOK {
				granted++
			}
		}
		if granted < 1000 || granted > 1010 {
			t.Errorf("%d requests are kept, want about 1000", granted)
		}
		// It counts on over a reload of the configuration.
		cfg := defaultConfig()
		withDevices(&cfg)
		cfg.Password, cfg.Log = s.users, nopLog
		s.open(cfg)
		ask("203.0.113.9:1").refused(t, http.StatusTooManyRequests, "temporarily_unavailable")
	})
}

// A client with a metadata document may begin on a device, where no page has
// fetched its document before, and poll at a node that has never seen it.
func TestADeviceOfAClientWithADocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, docs, cfg := newDocumentSite(t, map[string]any{"grant_types": []string{"authorization_code", deviceGrant}}, withDevices)
		d := s.startDevice(documentID)
		s.forget(docs)
		s.open(cfg)
		s.token(polling(d)).refused(t, 400, "authorization_pending")
		p := s.browser().deviceConsent(d)
		if !strings.Contains(p.body, "An app on a device, named by") || !strings.Contains(p.body, "app.example.net") {
			t.Errorf("the page does not say who names the app:\n%s", p.body)
		}
		p.decide("allow")
		docs.setDown(true)
		s.forget(docs)
		s.open(cfg)
		time.Sleep(5 * time.Second)
		a := s.issued(polling(d))
		s.issued(renewal(documentID, a.text("refresh_token")))

		// Junk makes this server fetch nothing.
		docs.setDown(false)
		docs.put(t, "https://other.example.net/client.json", map[string]any{"grant_types": []string{deviceGrant}})
		s.token(polling(waiting{"https://other.example.net/client.json", "junk", ""})).refused(t, 401, "invalid_client")
	})
}

func TestMetadataOfTheDeviceGrant(t *testing.T) {
	s := newSite(t, withDevices)
	a := s.program(request(http.MethodGet, oauth.WellKnownServer, nil))
	grants, _ := a.fields["grant_types_supported"].([]any)
	if a.text("device_authorization_endpoint") != issuer+"/device_authorization" || !slices.Contains(grants, any(deviceGrant)) {
		t.Errorf("the metadata is %v", a.fields)
	}
	a = newSite(t).program(request(http.MethodGet, oauth.WellKnownServer, nil))
	grants, _ = a.fields["grant_types_supported"].([]any)
	if _, ok := a.fields["device_authorization_endpoint"]; ok || slices.Contains(grants, any(deviceGrant)) {
		t.Errorf("the grant is off and published: %v", a.fields)
	}
}

// Of devices at once with one code, one gets the tokens.
func TestParallelPollsHaveOneWinner(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	s.browser().deviceConsent(d).decide("allow")
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			a := s.token(polling(d))
			mu.Lock()
			defer mu.Unlock()
			got[a.text("error")]++
		})
	}
	all.Wait()
	if got[""] != 1 || got["slow_down"] != 19 {
		t.Errorf("answers %v", got)
	}
}

// A call to the store that fails is a 503 at each step of a device, and the step
// can be made again.
func TestAStoreFaultOnTheWayOfADevice(t *testing.T) {
	steps := []step{
		{"register", func(f *flow) *http.Response {
			a := f.program(request(http.MethodPost, "/register", `{"client_name":"Headless","grant_types":["`+deviceGrant+`"]}`))
			f.clientID = a.text("client_id")
			return a.Response
		}},
		{"ask for codes", func(f *flow) *http.Response {
			a := f.askDevice(f.clientID)
			f.code, f.userCode = a.text("device_code"), a.text("user_code")
			return a.Response
		}},
		{"open the page", func(f *flow) *http.Response { return f.opened("/device") }},
		{"enter the code", func(f *flow) *http.Response { return f.submitted("/device", "user_code", f.userCode) }},
		{"see the sign-in page", func(f *flow) *http.Response { return f.opened(f.page.header.Get("Location")) }},
		{"sign in", func(f *flow) *http.Response {
			return f.submitted("/login", "username", "alice", "password", password)
		}},
		{"see the consent page", func(f *flow) *http.Response { return f.opened(f.page.header.Get("Location")) }},
		{"allow", func(f *flow) *http.Response { return f.submitted("/device", "decision", "allow") }},
		{"poll", func(f *flow) *http.Response {
			time.Sleep(5 * time.Second)
			return f.keep(f.token(polling(waiting{f.clientID, f.code, ""})))
		}},
		{"refresh", func(f *flow) *http.Response { return f.keep(f.token(renewal(f.clientID, f.refresh))) }},
	}
	run := func(n int, when storetest.Moment) []storetest.Call {
		var calls []storetest.Call
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, withDevices)
			f := &flow{site: s, browser: s.browser()}
			before := len(s.store.Calls())
			s.store.FailCall(n, when)
			for _, step := range steps {
				if !f.survives(step, n, when) {
					break
				}
			}
			calls = s.store.Calls()[before:]
		})
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}

// What a device holds shows in no log.
func TestDevicesLeaveNoSecretsInTheLog(t *testing.T) {
	s := newSite(t, withDevices)
	d := s.startDevice(s.registerDevice())
	b := s.browser()
	b.enter("BBBB-BBBB")
	b.deviceConsent(d).decide("allow")
	s.issued(polling(d))
	for _, entry := range s.logs.All() {
		line := entry.Message
		for _, f := range entry.Context {
			line += " " + f.String
		}
		for _, secret := range []string{d.code, d.userCode, strings.ReplaceAll(d.userCode, "-", ""), "BBBB"} {
			if strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
	}
}

func TestDevicesAreCounted(t *testing.T) {
	c := newCounted(t, withDevices)
	id := c.registerDevice()
	c.want("a registration", metricstest.Values{"registrations_total method=dynamic result=ok": 1})
	d := c.startDevice(id)
	c.want("a request", metricstest.Values{started: 1})
	c.token(polling(d))
	c.want("a poll", metricstest.Values{tokenError(deviceGrant, "authorization_pending"): 1})
	b := c.browser()
	b.deviceConsent(d).decide("allow")
	c.want("a decision", metricstest.Values{local + "ok": 1, allowed: 1})
	b.deviceConsent(c.startDevice(id)).decide("deny")
	c.want("another one", metricstest.Values{started: 1, denied: 1})
	for range 11 {
		b.enter("BBBB-BBBB")
	}
	c.want("guesses", metricstest.Values{"rate_limited_total endpoint=user_code": 1})
	for range 29 {
		c.askDevice(id)
	}
	c.want("too many requests", metricstest.Values{started: 28, "rate_limited_total endpoint=device_authorization": 1})
}
