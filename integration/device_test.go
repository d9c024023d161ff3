package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// device is a program that waits for a person, on a machine without a browser.
type device struct {
	g        *gateway
	clientID string
	code     string
	userCode string
	complete string // the address with the code in it
}

// newDevice registers a program that has no redirect URI, and lets it ask for codes.
func (g *gateway) newDevice(t testing.TB) *device {
	t.Helper()
	d := &device{g: g, clientID: g.register(t, map[string]any{"client_name": "Headless", "grant_types": []string{deviceGrant, "refresh_token"}})}
	a := g.postForm(t, "/device_authorization", url.Values{"client_id": {d.clientID}, "scope": {"mcp"}, "resource": {g.origin + "/mcp"}})
	wantStatus(t, "asking for codes", a, http.StatusOK)
	d.code, d.userCode, d.complete = a.field(t, "device_code"), a.field(t, "user_code"), a.field(t, "verification_uri_complete")
	g.keepSecret(d.code)
	return d
}

// poll asks for the tokens at a node.
func (d *device) poll(t testing.TB, g *gateway) *answer {
	t.Helper()
	return g.postForm(t, "/token", url.Values{"grant_type": {deviceGrant}, "client_id": {d.clientID}, "device_code": {d.code}})
}

// enter opens the page for codes, types the code, signs in and comes to the page of consent.
func (d *device) enter(v *visitor, code string) *page {
	v.t.Helper()
	return v.get(v.g.origin+"/device").submit("user_code", url.Values{"user_code": {code}}).signIn()
}

// wait polls until the answer is another than that nobody has decided yet, as RFC 8628 has it.
func (d *device) wait(t testing.TB, g *gateway) *answer {
	t.Helper()
	pause := 5 * time.Second
	for range 12 {
		a := d.poll(t, g)
		switch {
		case a.status == http.StatusOK:
			return a
		case a.field(t, "error") == "slow_down":
			pause += 5 * time.Second
		case a.field(t, "error") != "authorization_pending":
			return a
		}
		time.Sleep(pause)
	}
	t.Fatal("nobody has decided")
	return nil
}

// deviceSite is a site that lets devices in.
func deviceSite(upstream, lines string) gatewayConfig {
	return gatewayConfig{site: "mcp_auth " + upstream + " {\n" + userLine + "\ndevice_authorization\n" + lines + "\n}"}
}

// TestDevice lets a program on a machine without a browser in (RFC 8628): codes, the page, polling, tools, a refresh, and the
// removal on the account page.
func TestDevice(t *testing.T) {
	t.Parallel()
	g := startGateway(t, deviceSite(startBackend(t), ""))
	meta := send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-authorization-server", "")
	var published struct {
		Endpoint string   `json:"device_authorization_endpoint"`
		Grants   []string `json:"grant_types_supported"`
	}
	if err := json.Unmarshal([]byte(meta.body), &published); err != nil || published.Endpoint != g.origin+"/device_authorization" || !strings.Contains(strings.Join(published.Grants, " "), deviceGrant) {
		t.Errorf("the metadata says %+v, %v", published, err)
	}

	d := g.newDevice(t)
	wantError(t, "the first poll", d.poll(t, g), "authorization_pending")
	wantError(t, "a second one at once", d.poll(t, g), "slow_down")
	v := g.newVisitor(t)
	p := d.enter(v, strings.ToLower(strings.ReplaceAll(d.userCode, "-", " ")))
	for _, text := range []string{"Headless", d.userCode, "Whoever sent you this code gets the access."} {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page of consent does not show %q", text)
		}
	}
	if p = p.submit("allow", nil); !strings.HasPrefix(p.title, "Allowed. Go back to your device") {
		t.Errorf("after the decision: %v", p)
	}
	gr := &grant{g: g, clientID: d.clientID, visitor: v}
	gr.take(t, d.wait(t, g))
	wantTools(t, "a call of the device", g.call(t, g.client, "/mcp", gr.access))
	gr.renew(t)
	account := v.get(g.origin + "/account")
	if !strings.Contains(account.body, "on a device") {
		t.Errorf("the account page does not list the device: %v", account)
	}
	account.submit("grant", nil)
	wantStatus(t, "a call after the removal", g.call(t, g.client, "/mcp", gr.access), http.StatusUnauthorized)
	wantError(t, "a poll after the removal", d.wait(t, g), "invalid_grant")

	other := g.newDevice(t)
	wantError(t, "another client's poll", (&device{clientID: d.clientID, code: other.code}).poll(t, g), "invalid_grant")
	link := v.get(other.complete)
	if link.form("allow") != nil || link.form("user_code") == nil || link.form("user_code").fields.Get("user_code") != other.userCode {
		t.Errorf("the address with the code leads to %v", link)
	}
	if p := link.submit("user_code", nil).submit("deny", nil); !strings.HasPrefix(p.title, "Cancelled.") {
		t.Errorf("after saying no: %v", p)
	}
	wantError(t, "the poll of a device that was denied", other.poll(t, g), "access_denied")
}

// TestDeviceGrantIsOffByDefault looks for what device_authorization switches on.
func TestDeviceGrantIsOffByDefault(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + "\n}"})
	for _, path := range []string{"/device", "/device_authorization"} {
		wantStatus(t, path, send(t, g.client, http.MethodGet, g.origin+path, ""), http.StatusNotFound)
	}
	wantError(t, "a poll", g.postForm(t, "/token", url.Values{"grant_type": {deviceGrant}, "client_id": {"x"}, "device_code": {"x"}}), "unsupported_grant_type")
}

// TestDeviceOverTwoNodes asks at one node, decides at the other, and polls at both.
func TestDeviceOverTwoNodes(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	cfg := redisConfig(rec.address, "redis://"+redistest.StartServer(t).Addr)
	cfg.site = strings.Replace(cfg.site, "code_lifetime", "device_authorization\ncode_lifetime", 1)
	nodes := startGateways(t, cfg, cfg)
	one, two := nodes[0], nodes[1]
	d := one.newDevice(t)
	wantError(t, "a poll at the other node", d.poll(t, two), "authorization_pending")
	wantError(t, "a second one at the first node", d.poll(t, one), "slow_down")
	d.enter(two.newVisitor(t), d.userCode).submit("allow", nil)

	time.Sleep(10 * time.Second)
	answers := map[string]int{}
	var won *answer
	var mu sync.Mutex
	var all sync.WaitGroup
	form := url.Values{"grant_type": {deviceGrant}, "client_id": {d.clientID}, "device_code": {d.code}}
	for i := range 40 {
		all.Go(func() {
			a, err := trySend(t.Context(), nodes[i%2].client, http.MethodPost, nodes[i%2].origin+"/token", form.Encode(), "Content-Type", formType)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if a.status == http.StatusOK {
				won = a
				answers["tokens"]++
				return
			}
			answers[a.field(t, "error")]++
		})
	}
	all.Wait()
	if answers["tokens"] != 1 || answers["slow_down"] != 39 {
		t.Fatalf("40 polls at once are answered with %v, want one winner", answers)
	}
	one.keepSecret(won.field(t, "access_token"), won.field(t, "refresh_token"))
	for _, g := range nodes {
		wantStatus(t, "a call of the winner", g.call(t, g.client, "/mcp", won.field(t, "access_token")), http.StatusOK)
	}
}
