package authserver_test

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
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
