package external_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

const opaque = "opaque-0123456789abcdef"

// asking is a verifier for opaque tokens of an issuer that answers in some way.
func asking(i *issuer, answer func(w http.ResponseWriter, r *http.Request)) *external.Verifier {
	i.change(func() { i.answer = answer })
	return verifier(external.Server{Issuer: i.url, Introspection: &external.Introspection{
		Endpoint: strings.TrimSuffix(i.url, "/realm") + "/introspect", ClientID: "gate:way", ClientSecret: "s3cret/+",
	}})
}

// says answers with members in JSON.
func says(members map[string]any) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(members) }
}

func TestIntrospection(t *testing.T) {
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		changes map[string]any // of the answer
		want    error
	}{
		"active":                    {nil, nil},
		"not active":                {map[string]any{"active": false}, token.ErrMalformed},
		"active as text":            {map[string]any{"active": "true"}, token.ErrMalformed},
		"active as a number":        {map[string]any{"active": 1}, token.ErrMalformed},
		"nothing about it":          {map[string]any{"active": nil}, token.ErrMalformed},
		"no issuer":                 {map[string]any{"iss": nil}, nil},
		"another issuer":            {map[string]any{"iss": "https://other.example.com"}, token.ErrMalformed},
		"an issuer that is no text": {map[string]any{"iss": 1}, token.ErrMalformed},
		"no aud":                    {map[string]any{"aud": nil}, token.ErrMalformed},
		"another aud":               {map[string]any{"aud": "account"}, token.ErrAudience},
		"aud in a list":             {map[string]any{"aud": []string{"account", resource}}, nil},
		"no exp":                    {map[string]any{"exp": nil}, nil},
		"expired":                   {map[string]any{"exp": now - 1}, token.ErrExpired},
		"not yet":                   {map[string]any{"nbf": now + 600}, token.ErrMalformed},
		"a refresh token":           {map[string]any{"token_type": "refresh_token"}, token.ErrMalformed},
		"a bound token":             {map[string]any{"token_type": "DPoP"}, token.ErrMalformed},
		"a bound bearer token":      {map[string]any{"cnf": map[string]any{"jkt": "x"}}, token.ErrMalformed},
		"no sub":                    {map[string]any{"sub": nil}, token.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t, "/realm")
			members := i.claims(map[string]any{"active": true, "token_type": "Bearer"})
			for name, value := range tt.changes {
				if members[name] = value; value == nil {
					delete(members, name)
				}
			}
			v := asking(i, says(members))
			for range 3 {
				got, err := verify(t, v, opaque)
				if !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if err == nil && (got.Subject != "alice-1" || got.Scope != "mcp bugs:read" || got.ClientID != "app") {
					t.Errorf("got %+v", got)
				}
			}
			if n := i.asked.Load(); n != 1 {
				t.Errorf("the issuer was asked %d times about one token", n)
			}
		})
	}
}

// A failure of the endpoint says nothing about the token.
func TestIntrospectionThatFails(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"our secret is wrong": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"it is overloaded":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"it sends us away": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/realm/.well-known/openid-configuration", http.StatusTemporaryRedirect)
		},
		"it answers in HTML": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"it never ends": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"active":true,"x":"`+strings.Repeat("x", 100<<10)+`"}`)
		},
		"it breaks off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			v := asking(newIssuer(t, "/realm"), answer)
			for range 2 {
				if _, err := verify(t, v, opaque); !errors.Is(err, token.ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
			}
		})
	}
}

func TestTheIntrospectionRequest(t *testing.T) {
	i := newIssuer(t, "/realm")
	v := asking(i, func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != "gate%3Away" || secret != "s3cret%2F%2B" || r.Method != http.MethodPost ||
			r.PostFormValue("token") != opaque || r.PostFormValue("token_type_hint") != "access_token" || r.URL.RawQuery != "" {
			t.Errorf("%s %s: %q %q %v", r.Method, r.URL, id, secret, r.PostForm)
		}
		says(i.claims(map[string]any{"active": true}))(w, r)
	})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := verify(t, v, opaque); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times at once about one token", n)
	}
	key := i.newKey("k1")
	if _, err := verify(t, v, sign(t, key, nil, i.claims(nil))); err != nil || i.asked.Load() != 1 {
		t.Errorf("a JWT: %v, asked %d times; want no question", err, i.asked.Load())
	}
}
