package authserver_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	issuer   = "https://mcp.example.com"
	resource = issuer + "/mcp"
	callback = "http://127.0.0.1:6276/oauth/callback"

	password = "correct horse battery staple"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	webID    = "web-app"
	webPass  = "s3cret+with %2B signs"
	robotID  = "robot"
)

// site is an authorization server with everything that a test looks at.
type site struct {
	*authserver.Server
	t        *testing.T
	store    *storetest.Faulty
	users    *users
	verifier *token.Verifier
	logs     *observer.ObservedLogs
	audit    *audit.Log
	counts   *limit.Counts
	web      *client.Web
}

// newSite makes a server over an empty store. Nothing that it does before a test
// begins is counted by the store.
func newSite(t *testing.T, change ...func(*authserver.Config)) *site {
	t.Helper()
	s := &site{t: t, store: storetest.NewFaulty(memstore.New(0)), users: newUsers(), counts: limit.NewCounts()}
	t.Cleanup(func() { _ = s.store.Close() })
	core, logs := observer.New(zapcore.DebugLevel)
	s.logs, s.audit = logs, audit.New(zap.New(core).Named("audit"), issuer)
	cfg := defaultConfig()
	cfg.Password, cfg.Log, cfg.Audit = s.users, zap.New(core), s.audit
	for _, f := range change {
		f(&cfg)
	}
	s.open(cfg)
	return s
}

// open makes the server anew over the same store, as a reload does.
func (s *site) open(cfg authserver.Config) {
	s.t.Helper()
	const prefix = "test/"
	keys, err := token.OpenKeys(s.t.Context(), s.store, prefix, token.KeysConfig{})
	if err != nil {
		s.t.Fatal(err)
	}
	revocations, err := token.OpenRevocations(s.t.Context(), s.store, prefix, cfg.Log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.verifier = token.NewVerifier(cfg.Issuer, keys, revocations, nil)
	state := authserver.State{Store: s.store, Prefix: prefix, Keys: keys, Revocations: revocations, Counts: s.counts, Web: s.web}
	if s.Server, err = authserver.New(cfg, state, s.verifier); err != nil {
		s.t.Fatal(err)
	}
}

func defaultConfig() authserver.Config {
	resource := func(path string, group int, names ...string) *oauth.Resource {
		return &oauth.Resource{Origin: issuer, Path: path, Name: "Bugs", Scopes: names, Baseline: names[:1], Group: group}
	}
	return authserver.Config{
		Issuer: issuer, Name: "Example",
		Resources: []*oauth.Resource{
			resource("/mcp", 1, "mcp", "bugs:write"), resource("/sse", 1, "mcp", "bugs:write"),
			resource("/messages", 1, "mcp", "bugs:write"), resource("/admin", 2, "admin"),
		},
		Scopes: []authserver.Scope{
			{Name: "mcp", Description: "Read bugs"},
			{Name: "bugs:write", Description: "Change bugs", Optional: true},
			{Name: "admin", Description: "Run the place"},
		},
		AccessLifetime: time.Hour, RefreshLifetime: 30 * 24 * time.Hour, RefreshGrace: 2 * time.Minute,
		CodeLifetime: time.Minute, SessionLifetime: 12 * time.Hour, ClientLifetime: 30 * 24 * time.Hour,
		LoginMax: 10, LoginWindow: time.Minute,
		Clients: []*client.Client{
			{
				ID: webID, Name: "Web app", RedirectURIs: []string{"https://app.example.net/cb"},
				GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}, Secret: plainSecret(webPass),
			},
			{ID: robotID, Name: "Robot", GrantTypes: []string{oauth.GrantClientCredentials}, Secret: plainSecret("robot-secret")},
		},
		InitialAccess: func(token string) authserver.InitialAccess {
			return map[string]authserver.InitialAccess{
				"initial-access-token": authserver.AllClients, "limited-access-token": authserver.PeoplesClients,
			}[token]
		},
		OAuth: true, SignIn: true, LandingPage: true,
		ClientIP: func(r *http.Request) string { return r.RemoteAddr },
	}
}

var nopLog = zap.NewNop()

// plainSecret is a client secret that a test can read.
type plainSecret string

func (p plainSecret) Check(_ context.Context, secret string) (bool, error) {
	return string(p) == secret, nil
}

// users is a login with one user, alice, who can be changed.
type users struct {
	mu     sync.Mutex
	known  map[string]login.Identity
	checks int
	fault  error
}

func newUsers() *users {
	u := &users{known: map[string]login.Identity{}}
	for _, name := range []string{"alice", "bob"} {
		u.known[name] = login.Identity{Subject: name, Email: name + "@example.com", Provider: "local", Stamp: "1"}
	}
	return u
}

func (u *users) Authenticate(_ context.Context, name, pass string) (login.Identity, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.checks++
	if u.fault != nil {
		return login.Identity{}, u.fault
	}
	id, ok := u.known[name]
	if !ok || pass != password {
		return login.Identity{}, login.ErrDenied
	}
	return id, nil
}

func (u *users) Lookup(_ context.Context, subject string) (login.Identity, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	id, ok := u.known[subject]
	return id, ok
}

func (u *users) change(f func(map[string]login.Identity)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(u.known)
}

// request makes a request for the site. A body of url.Values becomes a form, a
// string is sent as JSON.
func request(method, target string, body any) *http.Request {
	var r *http.Request
	switch b := body.(type) {
	case nil:
		r = httptest.NewRequest(method, issuer+target, nil)
	case url.Values:
		r = httptest.NewRequest(method, issuer+target, strings.NewReader(b.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case string:
		r = httptest.NewRequest(method, issuer+target, strings.NewReader(b))
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// serve answers a request as the web server would.
func (s *site) serve(r *http.Request) *http.Response {
	s.t.Helper()
	w := httptest.NewRecorder()
	if endpoint, ok := s.Endpoint(r.URL.Path); ok {
		endpoint(w, r)
	} else {
		w.WriteHeader(http.StatusNotFound)
	}
	return w.Result()
}

// answer is a JSON answer.
type answer struct {
	*http.Response
	fields map[string]any
}

func (a answer) text(name string) string {
	s, _ := a.fields[name].(string)
	return s
}

// program sends a request and reads the JSON that comes back.
func (s *site) program(r *http.Request) answer {
	s.t.Helper()
	a := answer{Response: s.serve(r)}
	if err := json.NewDecoder(a.Body).Decode(&a.fields); err != nil && a.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %d with a body that is no JSON: %v", r.Method, r.URL.Path, a.StatusCode, err)
	}
	return a
}

// token sends a token request.
func (s *site) token(values url.Values, auth ...string) answer {
	s.t.Helper()
	r := request(http.MethodPost, "/token", values)
	if len(auth) == 2 {
		r.SetBasicAuth(auth[0], auth[1])
	}
	return s.program(r)
}

// refused checks the status and the code of an error answer.
func (a answer) refused(t *testing.T, status int, code string) {
	t.Helper()
	if a.StatusCode != status || a.text("error") != code {
		t.Errorf("got %d %q (%s), want %d %q", a.StatusCode, a.text("error"), a.text("error_description"), status, code)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control of a refusal is %q", got)
	}
}

// register makes a public client with the callback of an inspector.
func (s *site) register() string {
	s.t.Helper()
	a := s.program(request(http.MethodPost, "/register", `{"redirect_uris":["`+callback+`"],"client_name":"Inspector","token_endpoint_auth_method":"none"}`))
	if a.StatusCode != http.StatusCreated {
		s.t.Fatalf("registration: %d %v", a.StatusCode, a.fields)
	}
	return a.text("client_id")
}

// authorization returns the parameters of a request that nothing is wrong with,
// changed by pairs of a name and a value; the value "-" removes the parameter.
func authorization(clientID string, pairs ...string) url.Values {
	v := url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callback}, "state": {"xyz"},
		"code_challenge": {oauth.S256(verifier)}, "code_challenge_method": {"S256"}, "scope": {"mcp"}, "resource": {resource},
	}
	return with(v, pairs...)
}

func with(v url.Values, pairs ...string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "-" {
			v.Del(pairs[i])
		}
	}
	return v
}

// redemption returns the token request for a code.
func redemption(clientID, code string, pairs ...string) url.Values {
	return with(url.Values{
		"grant_type": {"authorization_code"}, "client_id": {clientID}, "code": {code},
		"code_verifier": {verifier}, "redirect_uri": {callback}, "resource": {resource},
	}, pairs...)
}

// renewal returns the token request for a refresh token.
func renewal(clientID, refresh string, pairs ...string) url.Values {
	pairs = append([]string{"client_id", clientID, "refresh_token", refresh}, pairs...)
	return with(url.Values{"grant_type": {"refresh_token"}}, pairs...)
}

// code goes through sign-in and consent and returns the code.
func (b *browser) code(v url.Values) string {
	b.site.t.Helper()
	return b.consent(v).submit("decision", "allow").handedOff().Get("code")
}

// tokens goes through the whole flow.
func (s *site) tokens(clientID string) answer {
	s.t.Helper()
	return s.issued(redemption(clientID, s.browser().code(authorization(clientID))))
}

// issued sends a token request that has to succeed.
func (s *site) issued(values url.Values, auth ...string) answer {
	s.t.Helper()
	a := s.token(values, auth...)
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %v", values.Get("grant_type"), a.StatusCode, a.fields)
	}
	if got := cmp.Or(a.Header.Get("Cache-Control"), "none"); got != "no-store" {
		s.t.Errorf("Cache-Control of a token answer is %s", got)
	}
	if _, ok := a.fields["scope"].(string); !ok || a.text("token_type") != "Bearer" {
		s.t.Errorf("token answer without scope or token_type: %v", a.fields)
	}
	return a
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

// reopen reloads the configuration with a change, and returns what it is now.
func (s *site) reopen(change ...func(*authserver.Config)) authserver.Config {
	s.t.Helper()
	cfg := defaultConfig()
	cfg.Password, cfg.Log = s.users, nopLog
	for _, f := range change {
		f(&cfg)
	}
	s.open(cfg)
	return cfg
}
