package integration

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"testing"
)

// codeFor lets a person agree and returns the token request that redeems the code.
func (g *gateway) codeFor(t testing.TB, v *visitor, clientID string, change url.Values) url.Values {
	t.Helper()
	verifier := rand.Text() + rand.Text()
	request := authorizeRequest(clientID, verifier)
	g.keepSecret(request.Get("state"), verifier)
	maps.Copy(request, change)
	callback := v.authorize(g.origin + "/authorize?" + request.Encode())
	return url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "client_id": {clientID},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}
}

// with is a copy of form fields with changes; a field without a value is left out.
func with(fields url.Values, pairs ...string) url.Values {
	out := url.Values{}
	maps.Copy(out, fields)
	for i := 0; i < len(pairs); i += 2 {
		out.Del(pairs[i])
		if pairs[i+1] != "" {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	return out
}

// TestCodes redeems codes in the wrong ways first: they consume nothing. Then in the right way, once.
func TestCodes(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	v := g.newVisitor(t)
	metadata := map[string]any{"client_name": "Test", "redirect_uris": []string{redirectURI}}
	id, other := g.register(t, metadata), g.register(t, metadata)
	form := g.codeFor(t, v, id, url.Values{"resource": {g.origin + "/mcp"}, "scope": {"bugs:read cases:write openid"}})
	for _, tt := range []struct {
		name  string
		form  url.Values
		error string
	}{
		{"no verifier", with(form, "code_verifier", ""), "invalid_request"},
		{"another verifier", with(form, "code_verifier", rand.Text()+rand.Text()), "invalid_grant"},
		{"another client", with(form, "client_id", other), "invalid_grant"},
		{"an unknown client", with(form, "client_id", "nobody"), "invalid_client"},
		{"no client", with(form, "client_id", ""), "invalid_client"},
		{"a secret where there is none", with(form, "client_secret", "x"), "invalid_client"},
		{"another address", with(form, "redirect_uri", "http://127.0.0.1:1/callback"), "invalid_grant"},
		{"another server", with(form, "resource", g.origin+"/sse"), "invalid_target"},
		{"an unknown server", with(form, "resource", "https://evil.example/mcp"), "invalid_target"},
		{"no code", with(form, "code", ""), "invalid_request"},
		{"junk for a code", with(form, "code", "mcpc_x"), "invalid_grant"},
		{"no grant type", with(form, "grant_type", ""), "invalid_request"},
		{"the grant type of passwords", with(form, "grant_type", "password"), "unsupported_grant_type"},
		{"the code as a refresh token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": form["code"], "client_id": {id}}, "invalid_grant"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, "redeeming", g.postForm(t, "/token", tt.form), tt.error)
		})
	}
	t.Run("in the query", func(t *testing.T) {
		a := send(t, g.client, "POST", g.origin+"/token?"+form.Encode(), "", "Content-Type", formType)
		wantError(t, "redeeming", a, "invalid_request")
	})

	// Clients of OAuth 2.1 leave the address out.
	tokens := g.postForm(t, "/token", with(form, "redirect_uri", ""))
	wantStatus(t, "redeeming", tokens, http.StatusOK)
	if scope := tokens.field(t, "scope"); scope != "bugs:read cases:write" || tokens.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the scope is %q, Cache-Control %q", scope, tokens.header.Get("Cache-Control"))
	}
	access, refresh := tokens.field(t, "access_token"), tokens.field(t, "refresh_token")
	wantError(t, "the code again, with another verifier", g.postForm(t, "/token", with(form, "code_verifier", rand.Text()+rand.Text())), "invalid_grant")
	wantStatus(t, "the access token after a replay by who knows only the code", g.call(t, g.client, "/mcp", access), http.StatusOK)
	wantError(t, "the code again", g.postForm(t, "/token", form), "invalid_grant")
	wantStatus(t, "the access token after a replay", g.call(t, g.client, "/mcp", access), http.StatusUnauthorized)
	wantError(t, "the refresh token after a replay", g.refresh(t, id, refresh), "invalid_grant")
}

// TestCodeHasOneWinner redeems one code many times at once.
func TestCodeHasOneWinner(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	id := g.register(t, map[string]any{"client_name": "Test", "redirect_uris": []string{redirectURI}})
	form := g.codeFor(t, g.newVisitor(t), id, nil)
	won := 0
	for _, a := range g.postAtOnce(t, 20, form) {
		if a.status == http.StatusOK {
			won++
		} else {
			wantError(t, "a loser", a, "invalid_grant")
		}
	}
	if won != 1 {
		t.Errorf("%d of 20 requests got tokens for one code", won)
	}
}

// TestRefreshTokens rotates. Clients that race each other get the same successor; whoever comes with an older token has
// stolen one, and all access ends.
func TestRefreshTokens(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	gr := g.newGrant(t, url.Values{"scope": {"bugs:read cases:write"}})
	other := g.newGrant(t, nil)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID}}

	for name, tt := range map[string]struct {
		form  url.Values
		error string
	}{
		"another client":                     {with(form, "client_id", other.clientID), "invalid_grant"},
		"another server":                     {with(form, "resource", g.origin+"/sse"), "invalid_target"},
		"only scopes that were not granted":  {with(form, "scope", "admin"), "invalid_scope"},
		"an access token":                    {with(form, "refresh_token", gr.access), "invalid_grant"},
		"a token with one character changed": {with(form, "refresh_token", gr.refresh[:len(gr.refresh)-1]+"_"), "invalid_grant"},
		"no token":                           {with(form, "refresh_token", ""), "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, "refreshing", g.postForm(t, "/token", tt.form), tt.error) })
	}

	narrow := g.postForm(t, "/token", with(form, "scope", "bugs:read", "client_id", ""))
	wantStatus(t, "with fewer scopes and no client", narrow, http.StatusOK)
	if scope := narrow.field(t, "scope"); scope != "bugs:read" {
		t.Errorf("the scope is %q", scope)
	}
	second := narrow.field(t, "refresh_token")
	for _, a := range g.postAtOnce(t, 8, form) {
		wantStatus(t, "the previous token in a race", a, http.StatusOK)
		if a.status == http.StatusOK && a.field(t, "refresh_token") != second {
			t.Error("the previous token gets another successor")
		}
	}
	third := g.refresh(t, gr.clientID, second)
	wantStatus(t, "the second token", third, http.StatusOK)
	if scope := third.field(t, "scope"); scope != "bugs:read cases:write" {
		t.Errorf("the scope is %q: a narrow access token must not narrow the grant", scope)
	}
	wantError(t, "the first token, two rotations later", g.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
	wantError(t, "the third token after that", g.refresh(t, gr.clientID, third.field(t, "refresh_token")), "invalid_grant")
	wantStatus(t, "its access token", g.call(t, g.client, "/mcp", third.field(t, "access_token")), http.StatusUnauthorized)
	wantStatus(t, "another grant", g.call(t, g.client, "/mcp", other.access), http.StatusOK)
}

// TestRevocation ends what the client has, on the next request, and nothing of others.
func TestRevocation(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	v := g.newVisitor(t)
	byRefresh, byAccess, other := g.newGrantFor(t, v, nil), g.newGrantFor(t, v, nil), g.newGrantFor(t, v, nil)
	for what, tt := range map[string]struct {
		token, client string
		gr            *grant
	}{
		"the refresh token": {byRefresh.refresh, byRefresh.clientID, byRefresh},
		"the access token":  {byAccess.access, byAccess.clientID, byAccess},
	} {
		foreign := g.postForm(t, "/revoke", url.Values{"token": {tt.token}, "client_id": {other.clientID}})
		wantStatus(t, "another client revokes "+what, foreign, http.StatusOK)
		wantStatus(t, "the access token then", g.call(t, g.client, "/mcp", tt.gr.access), http.StatusOK)
		wantStatus(t, "revoking "+what, g.postForm(t, "/revoke", url.Values{"token": {tt.token}, "client_id": {tt.client}}), http.StatusOK)
		wantStatus(t, "the access token then", g.call(t, g.client, "/mcp", tt.gr.access), http.StatusUnauthorized)
		wantError(t, "the refresh token then", g.refresh(t, tt.client, tt.gr.refresh), "invalid_grant")
	}
	wantStatus(t, "revoking junk", g.postForm(t, "/revoke", url.Values{"token": {"x"}, "client_id": {other.clientID}}), http.StatusOK)
	wantError(t, "revoking without a client", g.postForm(t, "/revoke", url.Values{"token": {other.refresh}}), "invalid_client")
	wantError(t, "revoking nothing", g.postForm(t, "/revoke", url.Values{"client_id": {other.clientID}}), "invalid_request")
	wantStatus(t, "the other grant", g.call(t, g.client, "/mcp", other.access), http.StatusOK)

	// A person can do the same on the account page.
	account := v.get(g.origin + "/account")
	account.submit("grant", nil)
	wantStatus(t, "what was removed by its user", g.call(t, g.client, "/mcp", other.access), http.StatusUnauthorized)
}

// TestClientAuthentication sends the secrets of confidential clients in each way that clients in the field use, and in
// ways that must not count.
func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	const secret = "s3cret+with/odd%20chars"
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, `client report {
		secret "`+secret+`"
		scopes bugs:read
	}`)})
	basic := func(id, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	for _, tt := range []struct {
		name, authorization string
		form                url.Values
		error               string
	}{
		{"in the form", "", with(form, "client_id", "report", "client_secret", secret), ""},
		{"in the header, encoded", basic("report", url.QueryEscape(secret)), form, ""},
		{"in the header, plain", basic("report", secret), form, ""},
		{"in the header, with the id in the form", basic("report", secret), with(form, "client_id", "report"), ""},
		{"a wrong secret in the form", "", with(form, "client_id", "report", "client_secret", "wrong"), "invalid_client"},
		{"a wrong secret in the header", basic("report", "wrong"), form, "invalid_client"},
		{"no secret", "", with(form, "client_id", "report"), "invalid_client"},
		{"an empty secret in the header", basic("report", ""), form, "invalid_client"},
		{"in both places", basic("report", secret), with(form, "client_secret", secret), "invalid_request"},
		{"two ids", basic("report", secret), with(form, "client_id", "other"), "invalid_request"},
		{"a bearer token", "Bearer " + secret, form, "invalid_client"},
		{"nothing", "", form, "invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			headers := []string{"Content-Type", formType}
			if tt.authorization != "" {
				headers = append(headers, "Authorization", tt.authorization)
			}
			a := send(t, g.client, "POST", g.origin+"/token", tt.form.Encode(), headers...)
			if tt.error != "" {
				wantError(t, "asking for a token", a, tt.error)
				if challenge := a.header.Get("WWW-Authenticate"); (challenge != "") != (tt.authorization != "" && tt.error == "invalid_client") {
					t.Errorf("the challenge is %q", challenge)
				}
				return
			}
			wantStatus(t, "asking for a token", a, http.StatusOK)
			if a.field(t, "scope") != "bugs:read" || a.field(t, "refresh_token") != "" {
				t.Errorf("the answer is for %q, with a refresh token: %v", a.field(t, "scope"), a.field(t, "refresh_token") != "")
			}
			wantStatus(t, "the token", g.call(t, g.client, "/mcp", a.field(t, "access_token")), http.StatusOK)
		})
	}
	t.Run("a public client with an empty secret", func(t *testing.T) {
		id := g.register(t, map[string]any{"client_name": "Go", "redirect_uris": []string{redirectURI}})
		redeem := with(g.codeFor(t, g.newVisitor(t), id, nil), "client_id", "")
		a := send(t, g.client, "POST", g.origin+"/token", redeem.Encode(), "Content-Type", formType, "Authorization", basic(id, ""))
		wantStatus(t, "redeeming", a, http.StatusOK)
	})
	t.Run("a public client for itself", func(t *testing.T) {
		id := g.register(t, map[string]any{"client_name": "x", "redirect_uris": []string{redirectURI}})
		wantError(t, "asking for a token", g.postForm(t, "/token", with(form, "client_id", id)), "unauthorized_client")
	})
}

// postAtOnce posts the same form to the token endpoint n times at the same time.
func (g *gateway) postAtOnce(t *testing.T, n int, form url.Values) []*answer {
	t.Helper()
	answers, errs := make([]*answer, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answers[i], errs[i] = trySend(t.Context(), g.client, http.MethodPost, g.origin+"/token", form.Encode(), "Content-Type", formType)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return answers
}
