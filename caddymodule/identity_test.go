package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// upstream is an MCP server that remembers the headers of the last request.
func upstream(t *testing.T) (address string, last func() http.Header) {
	t.Helper()
	seen := make(chan http.Header, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), func() http.Header {
		t.Helper()
		select {
		case h := <-seen:
			return h
		default:
			t.Fatal("no request reached the upstream")
			return nil
		}
	}
}

func TestTheIdentityOfTheCallerReachesTheRest(t *testing.T) {
	m := newMachine(t)
	address, last := upstream(t)
	m.mustLoad("", `http://localhost:%[1]d {
	log
	mcp_auth {
		store memory
		`+robot+`
		bearer_token dev_token_12345
		forward X-Mcp-User {http.auth.user.id}
		forward X-Mcp-Client {http.auth.user.client_id}
		forward X-Mcp-Mail {http.auth.user.email}
		forward X-Mcp-Unknown {no.such.placeholder}
		forward X-Mcp-Kind "service {http.auth.user.scopes}"
		forward x_mcp_odd {http.auth.user.id}
	}
	request_header X-From-Placeholder "<{http.auth.user.id}|{http.auth.user.email}>"
	reverse_proxy `+address+`
}`)
	origin := m.url("localhost", 1)
	for _, tt := range []struct{ name, token, user string }{
		{"an access token", m.robotToken(origin, ""), "robot"},
		{"a static token", "dev_token_12345", "bearer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := m.request(origin+"/mcp", tt.token, nil)
			for _, name := range []string{"X-Mcp-User", "x_mcp_user", "X.Mcp.User", "X-Mcp-Client", "X-Mcp-Mail", "X-Mcp-Unknown", "X-Mcp-Odd"} {
				r.Header[name] = []string{"forged"}
			}
			if got := m.do(r); got.status != http.StatusOK {
				t.Fatalf("answered %d %s", got.status, got.body)
			}
			got := last()
			for name, want := range map[string]string{
				"X-Mcp-User": tt.user, "X-Mcp-Client": tt.user, "X-Mcp-Mail": "", "X-Mcp-Unknown": "", "X-Mcp-Kind": "service mcp",
				"X-From-Placeholder": "<" + tt.user + "|>", "Authorization": "",
			} {
				values := got.Values(name)
				if want == "" && len(values) != 0 || want != "" && (len(values) != 1 || values[0] != want) {
					t.Errorf("the upstream gets %s: %q, want %q", name, values, want)
				}
			}
			for name, values := range got {
				if strings.Contains(strings.Join(values, " "), "forged") {
					t.Errorf("a header of the client got through: %s: %q", name, values)
				}
			}
			if user := lastUser(t, m.logs()); user != tt.user {
				t.Errorf("the access log has the user %q, want %q", user, tt.user)
			}
		})
	}
}

// lastUser is the user_id of the last line of the access log.
func lastUser(t *testing.T, log string) string {
	t.Helper()
	user := "no line"
	for line := range strings.Lines(log) {
		var entry struct {
			Logger string `json:"logger"`
			User   string `json:"user_id"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(entry.Logger, "http.log.access") {
			user = entry.User
		}
	}
	return user
}

// Whoever has set placeholders before, such as a basic_auth in front, is not who
// the token says.
func TestTheIdentityOfOtherHandlersIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct{ lines, token, want string }{
		"by that of the token":                     {"bearer_token dev_token_12345", "dev_token_12345", "bearer||||mcp|bearer|"},
		"by nobody when authentication is omitted": {"dangerously_omit_auth anywhere", "", "||||||"},
	} {
		t.Run(name, func(t *testing.T) {
			b := provisioned(t, "http://localhost:8080 {\nmcp_auth {\nstore memory\n"+tt.lines+"\n}\n}")
			t.Cleanup(func() { _ = b.app.Cleanup() })
			w := httptest.NewRecorder()
			r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8080/mcp", nil), w)
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			for _, key := range userPlaceholders {
				repl.Set(key, "mallory")
			}
			got := "the request was refused"
			next := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
				got = repl.ReplaceAll("{"+strings.Join(userPlaceholders[:], "}|{")+"}", "")
				return nil
			})
			if err := b.app.handlers[0].ServeHTTP(w, r, next); err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("the placeholders are %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBasicAuthInFrontOfOmittedAuthenticationIsNobody(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\n}", `http://localhost:%[1]d {
	route {
		basic_auth {
			mallory `+cheapBcrypt+`
		}
		mcp_auth {
			dangerously_omit_auth
		}
		respond "user <{http.auth.user.id}>"
	}
}`)
	r := m.request(m.url("localhost", 1)+"/mcp", "", nil)
	r.SetBasicAuth("mallory", testPassword)
	if got := m.do(r); got.status != http.StatusOK || got.body != "user <>" {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

func TestPlaceholdersOfAToken(t *testing.T) {
	claims := &token.Claims{}
	claims.Subject, claims.ClientID, claims.Scope = "alice", "app", "a b"
	claims.Email, claims.Name, claims.Groups = "alice@example.com", "Alice", []string{"staff", "mcp users"}
	prepareBearer(claims)
	repl := caddy.NewReplacer()
	setPlaceholders(repl, claims)
	for key, want := range map[string]string{
		"id": "alice", "email": "alice@example.com", "name": "Alice", "groups": "staff,mcp users", "scopes": "a b", "client_id": "app",
	} {
		if got, known := repl.GetString("http.auth.user." + key); got != want || !known {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got, known := repl.GetString("http.auth.user.other"); known {
		t.Errorf("a placeholder that is none of ours is %q", got)
	}
}

func TestHeaderValue(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"alice":                    "alice",
		"Jürgen Ω 日本":              "Jürgen Ω 日本",
		"a\r\nX-Admin: yes":        "aX-Admin: yes",
		"a\x00b\x1fc\x7fd":         "abcd",
		"a\tb":                     "a\tb",
		"\r\n":                     "",
		"no \xff utf-8":            "no \ufffd utf-8",
		"\u0085 and \u009f remain": "\u0085 and \u009f remain",
	} {
		if got := headerValue(in); got != want {
			t.Errorf("of %q comes %q, want %q", in, got, want)
		}
	}
}
