package oauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestErrorCodesAndStatus(t *testing.T) {
	cause := errors.New("disk is gone")
	for _, tc := range []struct {
		err    *oauth.Error
		code   string
		status int
	}{
		{oauth.InvalidRequest("x"), "invalid_request", http.StatusBadRequest},
		{oauth.InvalidClient("x"), "invalid_client", http.StatusUnauthorized},
		{oauth.InvalidGrant("x"), "invalid_grant", http.StatusBadRequest},
		{oauth.UnauthorizedClient("x"), "unauthorized_client", http.StatusBadRequest},
		{oauth.UnsupportedGrantType(), "unsupported_grant_type", http.StatusBadRequest},
		{oauth.UnsupportedResponseType(), "unsupported_response_type", http.StatusBadRequest},
		{oauth.InvalidScope("x"), "invalid_scope", http.StatusBadRequest},
		{oauth.AccessDenied(), "access_denied", http.StatusBadRequest},
		{oauth.InvalidTarget("x"), "invalid_target", http.StatusBadRequest},
		{oauth.InvalidRedirectURI("x"), "invalid_redirect_uri", http.StatusBadRequest},
		{oauth.InvalidClientMetadata("x"), "invalid_client_metadata", http.StatusBadRequest},
		{oauth.ServerError(cause), "server_error", http.StatusInternalServerError},
		{oauth.TemporarilyUnavailable(cause), "temporarily_unavailable", http.StatusServiceUnavailable},
		{oauth.TooManyRequests("x", 0), "temporarily_unavailable", http.StatusTooManyRequests},
	} {
		if tc.err.Code != tc.code || tc.err.Status != tc.status || tc.err.Description == "" {
			t.Errorf("got %s %d %q, want %s %d and a description", tc.err.Code, tc.err.Status, tc.err.Description, tc.code, tc.status)
		}
	}
	if after := oauth.TooManyRequests("x", 0).RetryAfter; after < 1 {
		t.Errorf("Retry-After is %d, want at least a second", after)
	}
	if after := oauth.TemporarilyUnavailable(cause).RetryAfter; after < 1 {
		t.Errorf("Retry-After is %d, want at least a second", after)
	}
}

func TestErrorKeepsItsCauseForTheLog(t *testing.T) {
	cause := errors.New("disk is gone")
	base := oauth.InvalidGrant("the code is unknown")
	err := fmt.Errorf("token: %w", base.Because(cause))
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	refusal, ok := errors.AsType[*oauth.Error](err)
	if !ok || refusal.Code != "invalid_grant" || strings.Contains(refusal.Description, "disk") {
		t.Errorf("got %+v, want invalid_grant whose description does not tell the cause", refusal)
	}
	if base.Unwrap() != nil {
		t.Error("Because has changed the error that it was called on")
	}
	if want := "invalid_grant: the code is unknown: disk is gone"; base.Because(cause).Error() != want {
		t.Errorf("got %q, want %q", base.Because(cause), want)
	}
}

func TestParseScope(t *testing.T) {
	many := make([]string, oauth.MaxScopes+10)
	for i := range many {
		many[i] = fmt.Sprint("s", i)
	}
	for _, tc := range []struct {
		rule, value string
		want        oauth.Scopes
	}{
		{"nothing", "", nil},
		{"spaces only", "   ", nil},
		{"one", "mcp", oauth.Scopes{"mcp"}},
		{"the order stays", "b a c", oauth.Scopes{"b", "a", "c"}},
		{"repetitions are dropped", "a b a", oauth.Scopes{"a", "b"}},
		{"several spaces", " a   b ", oauth.Scopes{"a", "b"}},
		{"punctuation of real scopes", "mcp:tools https://x/y.z openid", oauth.Scopes{"mcp:tools", "https://x/y.z", "openid"}},
		{"a quote is no scope-token", `a" b`, oauth.Scopes{"b"}},
		{"a backslash is no scope-token", `a\ b`, oauth.Scopes{"b"}},
		{"a control character is no scope-token", "a\x01 b", oauth.Scopes{"b"}},
		{"non-ASCII is no scope-token", "é b", oauth.Scopes{"b"}},
		{"a scope that is too long", strings.Repeat("a", 129) + " b", oauth.Scopes{"b"}},
		{"the longest scope", strings.Repeat("a", 128), oauth.Scopes{strings.Repeat("a", 128)}},
		{"no more than the bound", strings.Join(many, " "), many[:oauth.MaxScopes]},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, oauth.ParseScope(tc.value)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScopesNarrow(t *testing.T) {
	for _, tc := range []struct {
		rule       string
		s, allowed oauth.Scopes
		want       oauth.Scopes
		within     bool
	}{
		{"a subset stays", oauth.Scopes{"b", "a"}, oauth.Scopes{"a", "b", "c"}, oauth.Scopes{"b", "a"}, true},
		{"what is not allowed goes", oauth.Scopes{"a", "admin"}, oauth.Scopes{"a"}, oauth.Scopes{"a"}, false},
		{"nothing is left", oauth.Scopes{"admin"}, oauth.Scopes{"a"}, oauth.Scopes{}, false},
		{"nothing is within everything", nil, oauth.Scopes{"a"}, oauth.Scopes{}, true},
		{"scopes are compared in their case", oauth.Scopes{"A"}, oauth.Scopes{"a"}, oauth.Scopes{}, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.s.Narrow(tc.allowed)); diff != "" {
				t.Error(diff)
			}
			if got := tc.s.Within(tc.allowed); got != tc.within {
				t.Errorf("Within = %v, want %v", got, tc.within)
			}
		})
	}
}

func FuzzParseScope(f *testing.F) {
	for _, value := range []string{"", "mcp", "a  b\ta", `"\`, "\u2003x", strings.Repeat("a ", 200)} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := oauth.ParseScope(value)
		if len(got) > oauth.MaxScopes {
			t.Fatalf("%d scopes", len(got))
		}
		for i, s := range got {
			if !oauth.ValidScopeToken(s) || slices.Contains(got[:i], s) {
				t.Fatalf("ParseScope(%q) has %q, which is malformed or there twice", value, s)
			}
		}
		if diff := cmp.Diff(got, oauth.ParseScope(got.String())); diff != "" {
			t.Fatalf("reading back what was written: %s", diff)
		}
	})
}
