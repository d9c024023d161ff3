package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// defaults are the options of a site that says nothing.
func defaults() Options {
	return Options{
		AuthType: "auto", DangerouslyOmitAuth: "false",
		AccessTokenLifetime: caddy.Duration(time.Hour), RefreshTokenLifetime: caddy.Duration(720 * time.Hour),
		RefreshTokenGrace: caddy.Duration(2 * time.Minute), SessionLifetime: caddy.Duration(12 * time.Hour),
		CodeLifetime: caddy.Duration(time.Minute), SigningKeyLifetime: caddy.Duration(90 * 24 * time.Hour),
		Registration: &Registration{ExpireAfter: caddy.Duration(720 * time.Hour), ServiceAccounts: "token"},
		RateLimits: map[string]RateLimit{
			"login": {Max: 10, Window: caddy.Duration(time.Minute)}, "register": {Max: 20, Window: caddy.Duration(time.Hour)},
			"token": {Max: 60, Window: caddy.Duration(time.Minute)},
		},
		UI: &UI{}, Audit: &Audit{},
	}
}

// full returns options in which every field is set, to something that tells the
// side it comes from.
func full(side string) Options {
	n := caddy.Duration(len(side)) * caddy.Duration(time.Minute)
	on := side == "site"
	return Options{
		AuthType: side, Name: side, Issuer: side, DangerouslyOmitAuth: side,
		Users: []User{{Name: side}}, BearerTokens: []BearerToken{{Token: side}}, Clients: []Client{{ID: side}},
		AuthorizationServers: []AuthorizationServer{{Issuers: []string{side}}},
		Resources:            []Resource{{Path: side}}, Scopes: []Scope{{Name: side}}, Forward: []Forward{{Header: side}},
		ForwardAssertion: &Assertion{Header: side}, UpstreamCredential: &Credential{Secret: side},
		CORSOrigins: []string{side}, AllowOrigins: []string{side}, StoreRaw: json.RawMessage(side), LoginsRaw: []json.RawMessage{json.RawMessage(side)}, Allow: &Allow{Users: []string{side}},
		AccessTokenLifetime: n, RefreshTokenLifetime: n, RefreshTokenGrace: n, SessionLifetime: n, CodeLifetime: n,
		SigningKeyLifetime: n, StreamKeepAlive: n,
		PKCEPlain: new(on), RememberConsent: new(on), DeviceAuthorization: new(on), SecondFactor: "required", AllowQueryToken: new(on), LandingPage: new(on),
		Registration: &Registration{
			Dynamic: []string{side}, ExpireAfter: n, ServiceAccounts: side,
			MetadataDocuments: []string{side}, MetadataDocumentsOnLoopback: new(on),
		},
		UI: &UI{Accent: side, HelpURL: side}, Audit: &Audit{ToolCalls: new(on)},
		RateLimits: map[string]RateLimit{"login": {Max: len(side)}, "register": {Max: len(side)}, "token": {Max: len(side)}, "mcp": {Max: len(side)}},
	}
}

func TestTheSiteWinsFieldByField(t *testing.T) {
	global, site := full("global"), full("site")
	for v, i := reflect.ValueOf(site), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("full does not set %s", v.Type().Field(i).Name)
		}
	}
	if diff := cmp.Diff(site, site.merge(global)); diff != "" {
		t.Errorf("a site that sets all (-want +got):\n%s", diff)
	}
	want := global
	want.StoreRaw, want.LoginsRaw = nil, nil // the app has loaded its own itself
	if diff := cmp.Diff(want, Options{}.merge(global)); diff != "" {
		t.Errorf("a site that sets nothing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(defaults(), Options{}.merge(Options{})); diff != "" {
		t.Errorf("nobody sets anything (-want +got):\n%s", diff)
	}
	for v, i := reflect.ValueOf(site), 0; i < v.NumField(); i++ {
		name := v.Type().Field(i).Name
		if name == "StoreRaw" || name == "LoginsRaw" {
			continue
		}
		one := Options{}
		reflect.ValueOf(&one).Elem().Field(i).Set(v.Field(i))
		want := global
		want.StoreRaw, want.LoginsRaw = nil, nil
		reflect.ValueOf(&want).Elem().Field(i).Set(v.Field(i))
		if diff := cmp.Diff(want, one.merge(global)); diff != "" {
			t.Errorf("a site that sets %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPartsOfBlocksMerge(t *testing.T) {
	site := Options{Registration: &Registration{ServiceAccounts: "open"}, UI: &UI{Accent: "#123"}, RateLimits: map[string]RateLimit{"login": {Max: 0}}}
	global := Options{Registration: &Registration{Dynamic: []string{"off"}}, UI: &UI{Accent: "#456", HelpURL: "https://help"}}
	got := site.merge(global)
	if diff := cmp.Diff(&Registration{Dynamic: []string{"off"}, ServiceAccounts: "open", ExpireAfter: defaultClientLifetime}, got.Registration); diff != "" {
		t.Errorf("registration (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&UI{Accent: "#123", HelpURL: "https://help"}, got.UI); diff != "" {
		t.Errorf("ui (-want +got):\n%s", diff)
	}
	if got.RateLimits["login"].Max != 0 {
		t.Error("the limit is on although the site switches it off")
	}
	if diff := cmp.Diff(Options{Registration: &Registration{Dynamic: []string{"off"}}, UI: &UI{Accent: "#456", HelpURL: "https://help"}}, global); diff != "" {
		t.Errorf("merging has changed the global options (-want +got):\n%s", diff)
	}
}

func TestASwitchThatIsOffAtTheSiteStaysOff(t *testing.T) {
	got := Options{PKCEPlain: new(false), AllowQueryToken: new(false), LandingPage: new(true)}.
		merge(Options{PKCEPlain: new(true), AllowQueryToken: new(true), LandingPage: new(false)})
	if isSet(got.PKCEPlain) || isSet(got.AllowQueryToken) || !isSet(got.LandingPage) {
		t.Errorf("pkce_plain %v, allow_query_token %v, pages %v", *got.PKCEPlain, *got.AllowQueryToken, *got.LandingPage)
	}
}

func TestRegistrationPolicy(t *testing.T) {
	for name, tt := range map[string]struct {
		dynamic []string
		want    client.HostPolicy
	}{
		"unset":          {nil, client.HostPolicy{}},
		"on":             {[]string{"on"}, client.HostPolicy{}},
		"off":            {[]string{"off"}, client.HostPolicy{Off: true}},
		"hosts":          {[]string{"claude.ai", "localhost"}, client.HostPolicy{Hosts: []string{"claude.ai", "localhost"}}},
		"a host as such": {[]string{"office"}, client.HostPolicy{Hosts: []string{"office"}}},
	} {
		if diff := cmp.Diff(tt.want, hostPolicy(tt.dynamic)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestConfiguredClients(t *testing.T) {
	const code, refresh, own = oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials
	uris := []string{"https://app.example.com/cb"}
	for name, tt := range map[string]struct {
		in     Client
		name   string
		grants []string
		public bool
	}{
		"a machine":                        {Client{ID: "a", Secret: "robot-secret-1234"}, "a", []string{own}, false},
		"an app of the web":                {Client{ID: "a", Name: "App", RedirectURIs: uris, Secret: "robot-secret-1234"}, "App", []string{code, refresh}, false},
		"an app on a computer":             {Client{ID: "a", RedirectURIs: uris}, "a", []string{code, refresh}, true},
		"a server that asks about tokens":  {Client{ID: "a", Secret: "robot-secret-1234", Introspect: []string{"*"}}, "a", nil, false},
		"a server that also acts":          {Client{ID: "a", Secret: "robot-secret-1234", Introspect: []string{"*"}, GrantTypes: []string{own}}, "a", []string{own}, false},
		"an app that acts for itself also": {Client{ID: "a", RedirectURIs: uris, Secret: cheapBcrypt, GrantTypes: []string{code, own}}, "a", []string{code, own}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tt.in.Scopes = []string{"x"}
			got := configuredClients([]Client{tt.in})[0]
			if got.ID != "a" || got.Name != tt.name || got.Kind != client.Configured || got.Public() != tt.public || !got.Expires.IsZero() {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(tt.grants, got.GrantTypes); diff != "" {
				t.Errorf("grant types (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(oauth.Scopes{"x"}, got.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
		})
	}
	if len(configuredClients(nil)) != 0 {
		t.Error("there are clients although none is configured")
	}
}

func TestHostAllowed(t *testing.T) {
	for name, tt := range map[string]struct {
		any     bool
		host    string
		path    string
		trusted bool
		want    bool
	}{
		"the web server has chosen the site":    {false, "evil.example", "/mcp", false, true},
		"the host of the site":                  {true, "mcp.example.com", "/mcp", false, true},
		"with a port":                           {true, "mcp.example.com:8443", "/mcp", false, true},
		"in capitals":                           {true, "MCP.example.COM", "/mcp", false, true},
		"another host":                          {true, "evil.example", "/mcp", false, false},
		"a host that begins with it":            {true, "mcp.example.com.evil.example", "/mcp", false, false},
		"an address":                            {true, "127.0.0.1:8080", "/mcp", false, false},
		"an IPv6 address":                       {true, "[::1]:8080", "/mcp", false, false},
		"no host":                               {true, "", "/mcp", false, false},
		"another host from a trusted proxy":     {true, "10.0.0.7", "/mcp", true, true},
		"a health check by address":             {true, "10.0.0.7:8080", "/health", false, true},
		"a path that begins like the check":     {true, "10.0.0.7:8080", "/health/x", false, false},
		"the metadata is for the host as well":  {true, "evil.example", "/.well-known/oauth-protected-resource", false, false},
		"the token endpoint is for it too":      {true, "evil.example", "/token", false, false},
		"an IPv6 address with another spelling": {true, "[0:0:0:0:0:0:0:1]", "/mcp", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+tt.path, nil), httptest.NewRecorder())
			r.Host = tt.host
			caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, tt.trusted)
			s := &site{host: "mcp.example.com", anyHost: tt.any}
			if got := s.hostAllowed(r, tt.path); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}
