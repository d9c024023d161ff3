package oidclogin_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

func response(r *http.Request, body string) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}
}

const fuzzedIssuer = "https://id.example.com"

// inMemory is a provider without a network whose ID tokens have any claims. What its
// token endpoint answers may be another thing.
func inMemory(claims []byte, answer ...func(*http.Request) *http.Response) *oidclogin.Provider {
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey}, nil))
	token := must(must(signer.Sign(claims)).CompactSerialize())
	keys := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey.Public()}}}))
	return oidclogin.New(oidclogin.Config{
		ID: "acme", Issuer: fuzzedIssuer, ClientID: clientID, Scopes: []string{"openid"},
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/keys":
				return response(r, string(keys)), nil
			case "/token":
				for _, a := range answer {
					return a(r), nil
				}
				return response(r, `{"access_token":"at","token_type":"Bearer","id_token":"`+token+`"}`), nil
			}
			return response(r, `{"issuer":"`+fuzzedIssuer+`","authorization_endpoint":"`+fuzzedIssuer+`/a","token_endpoint":"`+
				fuzzedIssuer+`/token","jwks_uri":"`+fuzzedIssuer+`/keys"}`), nil
		}),
	})
}

// FuzzClaims looks for claims that make a person somebody else, or that no header
// could carry.
func FuzzClaims(f *testing.F) {
	exp := time.Now().Add(24 * time.Hour).Unix()
	for _, extra := range []map[string]any{
		{}, {"email": "a@example.com", "email_verified": true}, {"email": "a@b@c", "email_verified": "true"},
		{"groups": []any{"a", 1, nil}, "name": "A\x00"}, {"sub": " a"}, {"azp": 7}, {"aud": []string{clientID, "b"}},
	} {
		claims := map[string]any{"iss": fuzzedIssuer, "aud": clientID, "sub": "alice", "exp": exp, "nonce": nonce}
		maps.Copy(claims, extra)
		f.Add(must(json.Marshal(claims)))
	}
	f.Fuzz(func(t *testing.T, claims []byte) {
		id, err := inMemory(claims).Finish(t.Context(), attempt(), url.Values{"code": {"c"}})
		if err != nil {
			return
		}
		var raw map[string]json.RawMessage
		if json.Unmarshal(claims, &raw) != nil {
			t.Fatalf("claims that are no JSON object make %+v", id)
		}
		for _, s := range append(id.Groups, id.Subject, id.Email, id.Name) {
			if strings.ContainsFunc(s, unicode.IsControl) || len(s) > 300 {
				t.Errorf("%q in %+v", s, id)
			}
		}
		if !strings.HasPrefix(id.Subject, "acme:") || len(id.Subject) == len("acme:") || id.Provider != "acme" {
			t.Errorf("unexpected identity %+v", id)
		}
		if id.Email != "" && (strings.TrimSpace(string(raw["email_verified"])) != "true" || strings.Count(id.Email, "@") != 1) {
			t.Errorf("%q from %s", id.Email, claims)
		}
	})
}

// FuzzCallback looks for answers that are believed without a code.
func FuzzCallback(f *testing.F) {
	for _, s := range []string{"code=c", "code=c&iss=" + fuzzedIssuer, "error=access_denied", "code=c&code=d", "error=&code=c", "iss=&code=c", "code=c&error=x"} {
		f.Add(s)
	}
	good := must(json.Marshal(map[string]any{
		"iss": fuzzedIssuer, "aud": clientID, "sub": "alice", "exp": time.Now().Add(24 * time.Hour).Unix(), "nonce": nonce,
	}))
	l := inMemory(good)
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		_, err = l.Finish(t.Context(), attempt(), values)
		believed := len(values["code"]) == 1 && values.Get("code") != "" && values.Get("error") == "" &&
			len(values["error"]) < 2 && (!values.Has("iss") || len(values["iss"]) == 1 && values.Get("iss") == fuzzedIssuer)
		if (err == nil) != believed {
			t.Errorf("%q: %v", query, err)
		}
		if errors.Is(err, login.ErrCancelled) && values.Get("error") != "access_denied" {
			t.Errorf("%q counts as cancelled", query)
		}
	})
}

// FuzzRenew looks for answers of a token endpoint whose tokens could not stand in a
// header or are somebody else's, and for errors that tell the refresh token.
func FuzzRenew(f *testing.F) {
	const subject, refresh = "acme:alice", "the-refresh-token"
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey}, nil))
	for _, sub := range []string{"alice", "bob"} {
		claims := must(json.Marshal(map[string]any{"iss": fuzzedIssuer, "aud": clientID, "sub": sub, "exp": 1}))
		token := must(must(signer.Sign(claims)).CompactSerialize())
		f.Add(200, `{"access_token":"at","token_type":"bearer","expires_in":"60","refresh_token":"rt","id_token":"`+token+`"}`)
	}
	f.Add(200, `{"access_token":"at\r\nX: y","expires_in":-1}`)
	f.Add(200, `{"access_token":"at","expires_in":99999999999999,"id_token":{}}`)
	f.Add(400, `{"error":"invalid_grant","error_description":"the-refresh-token"}`)
	f.Add(503, `the-refresh-token`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		l := inMemory(nil, func(r *http.Request) *http.Response {
			resp := response(r, body)
			resp.StatusCode = status
			return resp
		})
		got, err := l.Renew(t.Context(), subject, refresh)
		if err != nil {
			if got != (login.Tokens{}) || strings.Contains(err.Error(), refresh) {
				t.Errorf("%q: %+v, %v", body, got, err)
			}
			return
		}
		for _, text := range []string{got.Access, got.Refresh} {
			if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) || len(text) > 16<<10 {
				t.Errorf("%q yields the token %q", body, text)
			}
		}
		if got.Access == "" || got.Refresh == refresh {
			t.Errorf("%q yields %+v", body, got)
		}
	})
}
