package oidclogin_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

// reply answers everything alike.
func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestProvidersThatMisbehave(t *testing.T) {
	const discovery = "/.well-known/openid-configuration"
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range 64 {
			_, _ = w.Write([]byte(strings.Repeat(" ", 64<<10)))
		}
	}
	tests := []struct {
		name   string
		path   string
		answer http.HandlerFunc
		change func(*fake)
		outage bool
		want   string
	}{
		{name: "discovery fails", path: discovery, answer: reply(500, "boom <secret>"), outage: true, want: "500"},
		{name: "discovery is missing", path: discovery, answer: reply(404, "nope"), outage: true, want: "404"},
		{name: "discovery is no JSON", path: discovery, answer: reply(200, "<html>"), outage: true, want: "cannot be read"},
		{name: "discovery has no end", path: discovery, answer: endless, outage: true},
		{name: "discovery redirects to itself", path: discovery, answer: redirect(307, discovery), outage: true, want: "redirects"},
		{name: "discovery redirects elsewhere", path: discovery, answer: redirect(302, "http://127.0.0.1:1/"), outage: true, want: "redirects"},
		{name: "another issuer in discovery", change: func(f *fake) { f.discovery["issuer"] = f.URL + "/" }, want: "has to say the same"},
		{name: "no token endpoint", change: func(f *fake) { f.discovery["token_endpoint"] = "" }, want: "token_endpoint"},
		{name: "no keys", change: func(f *fake) { f.discovery["jwks_uri"] = nil }, want: "jwks_uri"},
		{name: "odd authorization endpoint", change: func(f *fake) { f.discovery["authorization_endpoint"] = "javascript:alert(1)" }, want: "authorization_endpoint"},
		{name: "token endpoint fails", path: "/token", answer: reply(502, "boom"), outage: true, want: "502"},
		{name: "token endpoint is busy", path: "/token", answer: reply(429, "{}"), outage: true, want: "429"},
		{name: "token endpoint refuses", path: "/token", answer: reply(400, `{"error":"invalid_grant"}`), want: "invalid_grant"},
		{name: "token endpoint refuses oddly", path: "/token", answer: reply(400, "<secret>"), want: "refuses"},
		{name: "token endpoint has no end", path: "/token", answer: endless, want: "cannot be read"},
		{name: "token endpoint redirects", path: "/token", answer: redirect(307, "/token2"), want: "cannot be read"},
		{name: "keys fail", path: "/keys", answer: reply(500, "boom"), outage: true, want: "keys"},
		{name: "keys have no end", path: "/keys", answer: endless, outage: true, want: "keys"},
		{name: "the connection breaks", path: "/token", answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.answer, f.only = tt.answer, tt.path
			if tt.change != nil {
				tt.change(f)
			}
			_, err := f.signIn()
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret>") {
				t.Fatalf("got %v, want an error with %q and without what the provider sent", err, tt.want)
			}
			if tt.want != "" && errors.Is(err, login.ErrUnreachable) != tt.outage {
				t.Errorf("%v counts as an outage: %t", err, !tt.outage)
			}
		})
	}
}

func redirect(status int, target string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, status) }
}

func TestSlowProviderIsAnOutage(t *testing.T) {
	f := newFake(t)
	done := make(chan struct{})
	defer close(done)
	f.answer = func(http.ResponseWriter, *http.Request) { <-done }
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.login().Begin(ctx, attempt()); !errors.Is(err, login.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestDiscoveryIsRemembered(t *testing.T) {
	const discovery = "/.well-known/openid-configuration"
	f := newFake(t)
	l := f.login()
	f.set(func(f *fake) { f.answer = reply(503, "") })
	for range 5 {
		if _, err := l.Begin(t.Context(), attempt()); !errors.Is(err, login.ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
	}
	if n := f.requests(discovery); n != 2 {
		t.Errorf("a provider that is down was asked %d times, want one try and one more", n)
	}
	f.set(func(f *fake) { f.answer = nil })
	time.Sleep(2100 * time.Millisecond)
	for range 5 {
		if _, err := l.Begin(t.Context(), attempt()); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.requests(discovery); n != 3 {
		t.Errorf("a provider that is back was asked %d times", n)
	}
}

// transport answers without a network, for tests that let time pass.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOldDiscoveryIsBetterThanNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		l := oidclogin.New(oidclogin.Config{ID: "acme", Issuer: "https://id.example.com", ClientID: clientID, Transport: transport(func(r *http.Request) (*http.Response, error) {
			if down {
				return nil, errors.New("no route to host")
			}
			return response(r, `{"issuer":"https://id.example.com","authorization_endpoint":"https://id.example.com/a",`+
				`"token_endpoint":"https://id.example.com/t","jwks_uri":"https://id.example.com/k"}`), nil
		})})
		for range 3 {
			if _, err := l.Begin(t.Context(), attempt()); err != nil {
				t.Fatal(err)
			}
			down = true
			time.Sleep(2 * time.Hour)
		}
	})
}

func TestKeysOfTheProviderRotate(t *testing.T) {
	f := newFake(t)
	l := f.login()
	finish := func() error {
		_, err := l.Finish(t.Context(), attempt(), url.Values{"code": {"c"}})
		return err
	}
	if err := finish(); err != nil {
		t.Fatal(err)
	}
	f.set(func(f *fake) {
		f.kid = "2"
		f.sign(jose.RS256, otherRSA, otherRSA.Public())
	})
	if err := finish(); err != nil {
		t.Errorf("a new key of the provider is not fetched: %v", err)
	}
	f.set(func(f *fake) { f.kid, f.key = "1", jose.SigningKey{Algorithm: jose.RS256, Key: rsaKey} })
	if err := finish(); err == nil {
		t.Error("a key that the provider has taken away is still good")
	}
}

func TestUsersOfAnotherIssuerAreNotRecognized(t *testing.T) {
	f, other := newFake(t), newFake(t)
	id, err := f.signIn()
	if err != nil {
		t.Fatal(err)
	}
	if other.login().Recognizes(id) {
		t.Error("a line that leads to another provider now takes over the users of the old one")
	}
	id.Provider = "other"
	if f.login().Recognizes(id) {
		t.Error("a user of another login is recognized")
	}
}
