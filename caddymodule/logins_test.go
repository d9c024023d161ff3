package caddymodule

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// oidc is a login at a provider that nothing listens for.
const oidc = "login oidc acme {\nissuer https://id.example.com\nclient_id mcp\n}\n"

func publicLogin(issuer string) string {
	return "login oidc google {\nissuer " + issuer + "\nclient_id mcp\n}\n"
}

func asserting(id string) string {
	return "login oidc " + id + " {\nissuer https://id.example.com\nclient_id mcp\nidentity_assertions\n}\n"
}

const agent = "client agent {\nsecret robot-secret-1234\ngrant_types urn:ietf:params:oauth:grant-type:jwt-bearer\n}\n"

func TestWhoMayBeLetInByALogin(t *testing.T) {
	const forwardAuth = "forward_auth /authorize authelia:9091 {\nuri /api\ncopy_headers Remote-User Remote-Email\n}\n"
	const header = "login header Remote-User Remote-Email\n"
	const trusting = "{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n"
	for name, tt := range map[string]struct {
		global, lines, rest, want string // of the error; "" for none
	}{
		"a provider":                    {lines: oidc},
		"a public one with allow":       {lines: publicLogin("https://accounts.google.com") + "allow domain example.com\n"},
		"a public one without":          {lines: publicLogin("https://accounts.google.com"), want: "login oidc google lets in every Google account. Add an 'allow' line, for example: allow domain example.com"},
		"Microsoft for everyone":        {lines: publicLogin("https://login.microsoftonline.com/common/v2.0"), want: "every Microsoft account"},
		"Microsoft for every firm":      {lines: publicLogin("https://login.microsoftonline.com/organizations/v2.0"), want: "every Microsoft account"},
		"Microsoft's personal accounts": {lines: publicLogin("https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"), want: "every Microsoft account"},
		"Microsoft's tenants that are none": {lines: publicLogin("https://login.microsoftonline.com/common/v2.0") + "allow domain example.com\n",
			want: "which is no issuer"},
		"one tenant":               {lines: publicLogin("https://login.microsoftonline.com/6babcaad-604b-40ac-a9d7-9fd97c0b779f/v2.0")},
		"Apple":                    {lines: publicLogin("https://appleid.apple.com"), want: "every Apple account"},
		"GitLab":                   {lines: publicLogin("https://gitlab.com"), want: "every GitLab account"},
		"a GitLab of one's own":    {lines: publicLogin("https://gitlab.example.com")},
		"a user of that name":      {lines: oidc + "user acme:1 " + cheapBcrypt + "\n", want: "could be one of login acme"},
		"a client of that name":    {lines: oidc + "client acme:1 {\nsecret robot-secret-1234\n}\n", want: "could be a user of login acme"},
		"assertions of a provider": {lines: asserting("acme") + agent},
		"of one of two logins":     {lines: asserting("acme") + strings.Replace(oidc, "acme", "acme-2", 1) + agent},
		"of both of them":          {lines: asserting("acme") + asserting("acme-2"), want: "the logins acme and acme-2 both believe the assertions of https://id.example.com"},
		"clients of assertions without any": {lines: oidc + agent,
			want: "the client 'agent' has a grant type for assertions of a provider, and none is believed. Add a line to the login: login oidc acme { identity_assertions }"},
		"assertions of a public one": {lines: strings.Replace(publicLogin("https://accounts.google.com"), "}", "identity_assertions\n}", 1), want: "lets in every Google account"},
		"headers of anybody":         {lines: header, want: "login header believes nobody here, as clients could send Remote-User themselves"},
		"headers of a proxy":         {global: trusting, lines: header},
		"headers of a handler":       {lines: header, rest: forwardAuth},
		"of a handler for all":       {lines: header, rest: strings.Replace(forwardAuth, "/authorize ", "", 1)},
		"for a part of them":         {lines: header, rest: strings.Replace(forwardAuth, " Remote-Email", "", 1), want: "believes nobody"},
		"for another path":           {lines: header, rest: strings.Replace(forwardAuth, "/authorize", "/login", 1), want: "believes nobody"},
		"for some clients":           {lines: header, rest: "@some {\npath /authorize\nheader X-A b\n}\n" + strings.Replace(forwardAuth, "/authorize", "@some", 1), want: "believes nobody"},
		"after the path changed":     {lines: header, rest: "rewrite /authorize /x\n" + forwardAuth, want: "believes nobody"},
		"removed behind mcp_auth":    {lines: header, rest: "request_header -Remote-User\nrequest_header -Remote-Email\n", want: "believes nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decided(t, tt.global+"mcp.example.com {\nmcp_auth {\n"+tt.lines+"}\n"+tt.rest+"}")
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestHeadersThatARouteRemoves(t *testing.T) {
	for name, tt := range map[string]struct {
		lines string
		want  bool
	}{
		"before mcp_auth":    {"request_header -Remote-User\nmcp_auth {\nlogin header Remote-User\n}\n", true},
		"behind it":          {"mcp_auth {\nlogin header Remote-User\n}\nrequest_header -Remote-User\n", false},
		"for other paths":    {"request_header /x* -Remote-User\nmcp_auth {\nlogin header Remote-User\n}\n", false},
		"in one of two ways": {"handle /x* {\nrequest_header -Remote-User\n}\nmcp_auth {\nlogin header Remote-User\n}\n", false},
		"in a route within":  {"route {\nrequest_header -Remote-User\n}\nmcp_auth {\nlogin header Remote-User\n}\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decided(t, "mcp.example.com {\nroute {\n"+tt.lines+"}\n}"); (err == nil) != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLoginsOfJSONAreChecked(t *testing.T) {
	for name, raw := range map[string]string{
		"no issuer":     `{"id":"acme","client_id":"mcp"}`,
		"no name":       `{"issuer":"https://id.example.com","client_id":"mcp"}`,
		"no scope":      `{"id":"acme","issuer":"https://id.example.com","client_id":"mcp","scopes":["email"]}`,
		"unset secret":  `{"id":"acme","issuer":"https://id.example.com","client_id":"mcp","client_secret":"{env.NO_SUCH_SECRET}"}`,
		"http provider": `{"id":"acme","issuer":"http://id.example.com","client_id":"mcp"}`,
	} {
		t.Run(name, func(t *testing.T) {
			l := new(OIDCLogin)
			if err := json.Unmarshal([]byte(raw), l); err != nil {
				t.Fatal(err)
			}
			if err := l.Provision(caddy.Context{}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestSecretsOfLoginsStayOutOfTheConfiguration(t *testing.T) {
	t.Setenv("OIDC_SECRET", "s3cret-of-the-provider")
	l := &OIDCLogin{ID: "acme", Issuer: "https://id.example.com:8443/realms/a", ClientID: "mcp", ClientSecret: "{env.OIDC_SECRET}"}
	if err := l.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(l)
	if err != nil || strings.Contains(string(raw), "s3cret") || l.config.ClientSecret != "s3cret-of-the-provider" {
		t.Errorf("got %s, %v", raw, err)
	}
	if got := l.LoginLabel(); got != "id.example.com:8443" {
		t.Errorf("the label is %q", got)
	}
}

func TestHeadersAreReadWithCare(t *testing.T) {
	l := &headerLogin{names: HeaderLogin{User: "Remote-User", Email: "Remote-Email", Groups: "Remote-Groups"}, cleared: true}
	for _, tt := range []struct {
		name   string
		header http.Header
		want   login.Identity
	}{
		{"a user", http.Header{"Remote-User": {"alice"}, "Remote-Email": {"a@example.com"}, "Remote-Groups": {"a, b|c,,"}},
			login.Identity{Subject: "header:alice", Provider: "header", Email: "a@example.com", Groups: []string{"a", "b", "c"}}},
		{"nobody", http.Header{}, login.Identity{}},
		{"an empty value", http.Header{"Remote-User": {" "}}, login.Identity{}},
		{"two values", http.Header{"Remote-User": {"alice", "bob"}}, login.Identity{}},
		{"control characters", http.Header{"Remote-User": {"al\x01ice"}}, login.Identity{}},
		{"a user who is not ASCII", http.Header{"Remote-User": {"аlice"}}, login.Identity{}},
		{"two addresses", http.Header{"Remote-User": {"alice"}, "Remote-Email": {"a@b.c", "d@e.f"}}, login.Identity{Subject: "header:alice", Provider: "header"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/authorize", nil)
			r.Header = tt.header
			got, err := l.Identify(r)
			if got.Subject != tt.want.Subject || got.Email != tt.want.Email || !slices.Equal(got.Groups, tt.want.Groups) || (err == nil) != (tt.want.Subject != "") {
				t.Errorf("got %+v, %v", got, err)
			}
			stranger := *l
			stranger.cleared = false
			if _, err := stranger.Identify(r); err == nil {
				t.Error("a peer is believed of which nothing is known")
			}
		})
	}
}

// A client must not be able to say who it is, whichever way the headers come.
func TestLoginByHeaders(t *testing.T) {
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get("X-Portal"); user != "" {
			w.Header().Set("Remote-User", user)
		}
	}))
	defer auth.Close()
	address, last := upstream(t)
	site := `http://localhost:%[1]d {
	mcp_auth {
		store memory
		` + robot + `
		login header Remote-User Remote-Email
	}
`
	forwardAuth := `	forward_auth /authorize ` + strings.TrimPrefix(auth.URL, "http://") + ` {
		uri /
		copy_headers Remote-User Remote-Email
	}
`
	for _, tt := range []struct {
		name, global, rest string
		send               http.Header
		path, want         string // in the page
	}{
		{"the portal says who", "", forwardAuth, http.Header{"X-Portal": {"carol"}}, "/authorize", "header:carol"},
		{"whatever the client sends", "", forwardAuth, http.Header{"X-Portal": {"carol"}, "Remote-User": {"mallory"}, "Remote-Email": {"mallory@x.y"}}, "/authorize", "header:carol"},
		{"the client says who", "", forwardAuth, http.Header{"Remote-User": {"mallory"}}, "/authorize", ""},
		{"in another spelling of the path", "", forwardAuth, http.Header{"Remote-User": {"mallory"}}, "/%61uthorize", ""},
		{"at another path", "", forwardAuth, http.Header{"Remote-User": {"mallory"}}, "/account", ""},
		{"through a proxy that lets headers pass", "servers {\ntrusted_proxies static 127.0.0.0/8\n}", forwardAuth, http.Header{"Remote-User": {"mallory"}}, "/authorize", ""},
		{"through it at another path", "servers {\ntrusted_proxies static 127.0.0.0/8\n}", forwardAuth, http.Header{"Remote-User": {"mallory"}}, "/account", ""},
		{"a trusted proxy says who", "servers {\ntrusted_proxies static 127.0.0.0/8\n}", "", http.Header{"Remote-User": {"carol"}}, "/authorize", "header:carol"},
		{"another peer says who", "servers {\ntrusted_proxies static 192.0.2.0/24\n}", "", http.Header{"Remote-User": {"mallory"}}, "/authorize", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.mustLoad(tt.global, site+tt.rest+"\treverse_proxy "+address+"\n}")
			origin := m.url("localhost", 1)
			query := url.Values{
				"client_id": {m.registered(origin)}, "redirect_uri": {"http://127.0.0.1/cb"}, "response_type": {"code"}, "state": {"s"},
				"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
			}
			r := m.request(origin+tt.path+"?"+query.Encode(), "", nil)
			maps.Copy(r.Header, tt.send)
			got := m.do(r)
			signedIn := slices.ContainsFunc(got.header["Set-Cookie"], func(c string) bool { return strings.HasPrefix(c, "mcp_session=") })
			if signedIn != (tt.want != "") || !strings.Contains(got.body, tt.want) || strings.Contains(got.body, "mallory") {
				t.Errorf("signed in: %t, got %d to %q with %q", signedIn, got.status, got.header.Get("Location"), got.body)
			}
			r = m.request(origin+"/mcp", m.robotToken(origin, ""), nil)
			r.Header["Remote-User"], r.Header["Remote-Email"] = []string{"mallory"}, []string{"mallory"}
			if got := m.do(r); got.status != http.StatusOK {
				t.Fatalf("answered %d", got.status)
			}
			if h := last(); h.Get("Remote-User") != "" || h.Get("Remote-Email") != "" {
				t.Errorf("the upstream gets %v", h)
			}
		})
	}
}

// registered is the id of a new client.
func (m *machine) registered(origin string) string {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, origin+"/register", strings.NewReader(`{"redirect_uris":["http://127.0.0.1/cb"]}`))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	id, _ := m.do(r).json(m.t, "client_id").(string)
	return id
}

func TestTrustedProxiesOfAServerAreSeen(t *testing.T) {
	if trustsProxies(new(caddyhttp.Server)) || !trustsProxies(&caddyhttp.Server{TrustedProxiesUnix: true}) {
		t.Error("the field with the trusted proxies of a server is not what it was")
	}
}
