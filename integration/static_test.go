package integration

import (
	"net/http"
	"strings"
	"testing"
)

// TestBothKindsOfTokens uses one route with static tokens for scripts and with OAuth for people.
func TestBothKindsOfTokens(t *testing.T) {
	t.Parallel()
	const script, reader = "script_token_12345678", "reader_token_12345678"
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: `mcp_auth ` + rec.address + ` {
		bearer_token ` + script + `
		bearer_token ` + reader + ` read
		scope read "Read"
		scope write "Write"
		forward X-Scopes {http.auth.user.scopes}
		forward X-Who {http.auth.user.id}
		` + userLine + `
	}`})
	g.keepSecret(script, reader)
	person := g.newGrant(t, nil)

	for _, tt := range []struct{ name, token, who, scopes string }{
		{"a static token has all scopes", script, "bearer", "read write"},
		{"a static token with scopes has only those", reader, "bearer", "read"},
		{"a person's token has what the person allowed", person.access, userName, "read write"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantStatus(t, "tools/call", g.call(t, g.client, "/mcp", tt.token), http.StatusOK)
			got := rec.last(t)
			if who, scopes := got.Header.Get("X-Who"), got.Header.Get("X-Scopes"); who != tt.who || scopes != tt.scopes {
				t.Errorf("the upstream sees %q with scopes %q, want %q with %q", who, scopes, tt.who, tt.scopes)
			}
		})
	}
	for _, tt := range []struct{ name, token string }{
		{"a token that lacks its last character", script[:len(script)-1]},
		{"a token with one more character", script + "x"},
		{"a token in capitals", strings.ToUpper(script)},
		{"two tokens in one", script + "," + reader},
		{"an access token without its signature", person.access[:strings.LastIndexByte(person.access, '.')+1]},
		{"a refresh token", person.refresh},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			a := g.call(t, g.client, "/mcp", tt.token)
			wantStatus(t, "tools/call", a, http.StatusUnauthorized)
			if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer error="invalid_token"`) {
				t.Errorf("the challenge is %q, want one of invalid_token", challenge)
			}
		})
	}
	if n := len(rec.seen()); n > 0 {
		t.Errorf("%d requests with bad tokens reached the upstream", n)
	}
}

// TestScopeOfAnotherResource comes with a good token that has no scope of the resource. Signing in again the same way
// would not help, so that is a 403 that names the scopes to ask for: those it has and those it needs, since clients ask
// for just what the challenge names.
func TestScopeOfAnotherResource(t *testing.T) {
	t.Parallel()
	const reader = "reader_token_12345678"
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + ` {
		auth_type both
		bearer_token ` + reader + ` read
		` + userLine + `
		scope read "Read"
		scope write "Write"
		resource /reading/mcp {
			scopes read
		}
		resource /writing/mcp {
			scopes write
		}
	}`})
	g.keepSecret(reader)
	wantStatus(t, "the resource of its scope", g.call(t, g.client, "/reading/mcp", reader), http.StatusOK)
	rec.last(t)
	a := g.call(t, g.client, "/writing/mcp", reader)
	wantStatus(t, "the other resource", a, http.StatusForbidden)
	for _, part := range []string{`Bearer error="insufficient_scope"`, `scope="read write"`, `oauth-protected-resource/writing/mcp"`} {
		if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge, part) {
			t.Errorf("the challenge %s lacks %s", challenge, part)
		}
	}
	if n := len(rec.seen()); n > 0 {
		t.Errorf("%d requests have reached the upstream", n)
	}
}

// TestModes checks that each mode accepts its own kind of token only, whatever else is configured.
func TestModes(t *testing.T) {
	t.Parallel()
	const script = "script_token_12345678"
	rec := startRecorder(t)
	site := func(mode string) gatewayConfig {
		return gatewayConfig{site: "mcp_auth " + rec.address + " {\nauth_type " + mode + "\nbearer_token " + script + "\n" + userLine + "\n}"}
	}
	g := startGateway(t, site("both"))
	person := g.newGrant(t, nil)
	for _, tt := range []struct {
		mode           string
		static, people int
	}{
		{"both", http.StatusOK, http.StatusOK},
		{"bearer", http.StatusOK, http.StatusUnauthorized},
		{"oauth2.1", http.StatusUnauthorized, http.StatusOK},
		{"auto", http.StatusOK, http.StatusOK},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			if err := g.reload(site(tt.mode)); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, "static token", g.call(t, g.client, "/mcp", script), tt.static)
			wantStatus(t, "access token", g.call(t, g.client, "/mcp", person.access), tt.people)
			metadata := send(t, g.client, "GET", g.origin+"/.well-known/oauth-authorization-server", "")
			wantStatus(t, "metadata", metadata, map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[tt.mode != "bearer"])
		})
	}
}

// TestGeneratedTokenSurvives restarts and reloads a gateway without any token in its configuration: its clients must
// not have to be told a new one.
func TestGeneratedTokenSurvives(t *testing.T) {
	t.Parallel()
	cfg := gatewayConfig{site: "mcp_auth " + startBackend(t)}
	g := startGateway(t, cfg)
	token := generatedToken(t, g)
	check := func(after string) {
		wantTools(t, after, g.call(t, g.client, "/mcp", token))
		if again := generatedToken(t, g); again != token {
			t.Errorf("%s: another token is shown", after)
		}
	}
	check("at first")
	if err := g.reload(cfg); err != nil {
		t.Fatal(err)
	}
	check("after a reload")
	g.restart(false)
	check("after a restart")
	g.restart(true)
	check("after a crash")
}

// TestQueryToken accepts ?token= where that is switched on, for static tokens only, and keeps it from the upstream.
func TestQueryToken(t *testing.T) {
	t.Parallel()
	const script = "script_token_12345678"
	rec := startRecorder(t)
	site := func(more string) gatewayConfig {
		return gatewayConfig{site: "mcp_auth " + rec.address + " {\nbearer_token " + script + "\n" + userLine + "\n" + more + "\n}"}
	}
	g := startGateway(t, site(""))
	person := g.newGrant(t, nil)
	ask := func(query string) *answer {
		return send(t, g.client, "POST", g.origin+"/mcp?"+query, toolsCall, "Content-Type", "application/json")
	}
	wantStatus(t, "switched off", ask("token="+script), http.StatusUnauthorized)
	if err := g.reload(site("allow_query_token")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, query string
		want        int
		upstream    string // the target that the upstream sees
	}{
		{"alone", "token=" + script, http.StatusOK, "/mcp"},
		{"among others", "a=1&token=" + script + "&b=%20x", http.StatusOK, "/mcp?a=1&b=%20x"},
		{"with its name encoded", "%74oken=" + script, http.StatusOK, "/mcp"},
		{"twice", "token=" + script + "&token=" + script, http.StatusUnauthorized, ""},
		{"wrong", "token=" + script + "x", http.StatusUnauthorized, ""},
		{"under the name of RFC 6750", "access_token=" + script, http.StatusUnauthorized, ""},
		{"an access token", "token=" + person.access[:len(person.access)-1], http.StatusUnauthorized, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantStatus(t, "tools/call", ask(tt.query), tt.want)
			if tt.upstream != "" {
				if got := rec.last(t).Target; got != tt.upstream {
					t.Errorf("the upstream sees %s, want %s", got, tt.upstream)
				}
			}
		})
	}
	if strings.Contains(rec.bytes(), script) {
		t.Error("the token has reached the upstream")
	}
}
