package authserver_test

import (
	"net/http"
	"net/url"
	"testing"
)

func TestAClientAuthenticatesInExactlyOneWay(t *testing.T) {
	for _, c := range []struct {
		rule   string
		pairs  []string // changes to a request with client_id and client_secret
		header []string // Authorization
		status int
		code   string
	}{
		{"the secret in the body", nil, nil, 200, ""},
		{"the secret in the header, encoded", []string{"client_id", "-", "client_secret", "-"}, []string{basic(webID, url.QueryEscape(webPass))}, 200, ""},
		{"the secret in the header, as it is", []string{"client_id", "-", "client_secret", "-"}, []string{basic(webID, webPass)}, 200, ""},
		{"the same client_id in both places", []string{"client_secret", "-"}, []string{basic(webID, webPass)}, 200, ""},
		{"any case of the scheme", []string{"client_secret", "-"}, []string{"bAsIc" + basic(webID, webPass)[len("Basic"):]}, 200, ""},
		{"two ways at once", nil, []string{basic(webID, webPass)}, 400, "invalid_request"},
		{"two headers", []string{"client_secret", "-"}, []string{basic(webID, webPass), basic(webID, webPass)}, 400, "invalid_request"},
		{"two client ids", []string{"client_secret", "-"}, []string{basic("other", webPass)}, 400, "invalid_request"},
		{"no secret", []string{"client_secret", "-"}, nil, 401, "invalid_client"},
		{"an empty secret", []string{"client_secret", ""}, nil, 401, "invalid_client"},
		{"an empty secret in the header", []string{"client_secret", "-"}, []string{basic(webID, "")}, 401, "invalid_client"},
		{"a wrong secret", []string{"client_secret", "wrong"}, nil, 401, "invalid_client"},
		{"a wrong secret in the header", []string{"client_secret", "-"}, []string{basic(webID, "wrong")}, 401, "invalid_client"},
		{"a secret without a client", []string{"client_id", "-"}, nil, 401, "invalid_client"},
		{"another scheme", []string{"client_secret", "-"}, []string{"Bearer " + webPass}, 401, "invalid_client"},
		{"a header that is no base64", []string{"client_secret", "-"}, []string{"Basic %%%"}, 401, "invalid_client"},
		{"a header without a colon", []string{"client_secret", "-"}, []string{"Basic d2ViLWFwcA=="}, 401, "invalid_client"},
		{"an empty header", []string{"client_secret", "-"}, []string{""}, 401, "invalid_client"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t)
			const uri = "https://app.example.net/cb"
			code := s.browser().code(authorization(webID, "redirect_uri", uri))
			values := with(redemption(webID, code, "redirect_uri", uri, "client_secret", webPass), c.pairs...)
			r := request(http.MethodPost, "/token", values)
			if c.header != nil {
				r.Header["Authorization"] = c.header
			}
			a := s.program(r)
			if c.status == http.StatusOK {
				if a.StatusCode != http.StatusOK {
					t.Errorf("refused: %v", a.fields)
				}
				return
			}
			a.refused(t, c.status, c.code)
			if challenge := a.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == 401 && c.header != nil) {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
			s.issued(with(values, "client_id", webID, "client_secret", webPass))
		})
	}
}

func basic(id, secret string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(id, secret)
	return r.Header.Get("Authorization")
}

func TestAnEmptySecretInTheHeaderMeansAPublicClient(t *testing.T) {
	s := newSite(t)
	id := s.register()
	s.issued(redemption(id, s.browser().code(authorization(id)), "client_id", "-"), id, "")
}

func TestAConfidentialClientIsAskedForItsSecretWhenItRefreshes(t *testing.T) {
	s := newSite(t)
	const uri = "https://app.example.net/cb"
	code := s.browser().code(authorization(webID, "redirect_uri", uri))
	refresh := s.issued(redemption(webID, code, "redirect_uri", uri, "client_secret", webPass)).text("refresh_token")
	s.token(renewal(webID, refresh)).refused(t, 401, "invalid_client")
	s.token(renewal("-", refresh)).refused(t, 401, "invalid_client")
	s.issued(renewal(webID, refresh, "client_secret", webPass))
}

func TestAPublicClientRefreshesWithNothingButItsToken(t *testing.T) {
	s := newSite(t)
	refresh := s.tokens(s.register()).text("refresh_token")
	s.issued(renewal("-", refresh))
}
