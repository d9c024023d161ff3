package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

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
		proven := request(http.MethodPost, "/device_authorization", url.Values{"client_id": {"tv"}, "client_secret": {"tv-secret"}})
		proven.RemoteAddr = "203.0.113.8:1"
		if a := s.program(proven); a.StatusCode != http.StatusOK {
			t.Errorf("strangers hold back a client of the configuration: %d", a.StatusCode)
		}
		// It counts on over a reload of the configuration.
		s.reopen(withDevices)
		ask("203.0.113.9:1").refused(t, http.StatusTooManyRequests, "temporarily_unavailable")
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
