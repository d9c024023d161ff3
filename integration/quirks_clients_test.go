package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// anyLoopbackPort lets apps on a person's computer listen where they can, by whichever name of the computer they have
// registered, but only by that one.
func anyLoopbackPort(t *testing.T, s *ground) {
	for what, tt := range map[string]struct {
		client     string
		good, evil []string
	}{
		"IPv4": {s.registerAt(t, "http://127.0.0.1:33418/"), []string{"http://127.0.0.1/", "http://127.0.0.1:1/"},
			[]string{"http://localhost:33418/", "http://[::1]:33418/", "http://127.0.0.2:33418/", "http://127.0.0.1:33418/x", "https://127.0.0.1:33418/"}},
		"IPv6": {s.registerAt(t, "http://[::1]/callback"), []string{"http://[::1]:5000/callback"},
			[]string{"http://127.0.0.1/callback", "http://localhost/callback", "http://[::2]:5000/callback"}},
		"localhost": {s.registerAt(t, "http://localhost:3000/callback?a=1"), []string{"http://localhost/callback?a=1", "http://localhost:65535/callback?a=1"},
			[]string{"http://127.0.0.1:3000/callback?a=1", "http://localhost:3000/callback", "http://localhost.evil.example:3000/callback?a=1"}},
		"a document without a port": {s.document, []string{"http://127.0.0.1:40000/callback", "http://localhost:40001/callback"},
			[]string{"http://[::1]:40000/callback", "http://127.0.0.1:40000/"}},
		"a website": {s.registerAt(t, "https://app.example/callback"), []string{"https://app.example/callback"},
			[]string{"https://app.example:8443/callback"}},
	} {
		for _, uri := range tt.good {
			wantStatus(t, what+": "+uri, s.authorizeAt(t, tt.client, uri), http.StatusOK)
		}
		for _, uri := range tt.evil {
			wantStatus(t, what+": "+uri, s.authorizeAt(t, tt.client, uri), http.StatusBadRequest)
		}
	}
}

// cursorRegistersThreeKinds registers a private-use scheme, a website and an app on the computer in one, as Cursor does, and
// goes back by the first. Schemes that a browser would act on itself are no addresses of apps.
func cursorRegistersThreeKinds(t *testing.T, s *ground) {
	const private = "cursor://anysphere.cursor-mcp/oauth/callback"
	uris := []string{private, "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"}
	for _, kind := range []string{"", "native", "web"} {
		metadata := map[string]any{"client_name": "Cursor", "redirect_uris": uris}
		if kind != "" {
			metadata["application_type"] = kind
		}
		id := s.register(t, metadata)
		p := s.newVisitor(t).get(s.authorizeURL(id, url.Values{"redirect_uri": {private}})).signIn().submit("allow", nil)
		if p.callback().Get("code") == "" || !strings.HasPrefix(p.next, private+"?") {
			t.Errorf("registered as %q, the app is called at %s", kind, p.next)
		}
	}
	for _, uri := range []string{"javascript:alert(1)", "javascript://x.example/%0Aalert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x", "blob:https://x.example/y", "about:blank"} {
		s.wantRefusedRegistration(t, append(slices.Clone(uris), uri), "redirect_uris[3]")
	}
}

// wantRefusedRegistration wants a registration to be refused for one of its addresses, in words that say for which.
func (s *ground) wantRefusedRegistration(t *testing.T, uris []string, names string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"client_name": "Test", "redirect_uris": uris})
	if err != nil {
		t.Fatal(err)
	}
	a := send(t, s.client, "POST", s.origin+"/register", string(body), "Content-Type", "application/json")
	wantError(t, "registering "+strings.Join(uris, " "), a, "invalid_redirect_uri")
	if says := a.field(t, "error_description"); !strings.Contains(says, names) {
		t.Errorf("the refusal of %q does not name %s: %s", uris, names, says)
	}
}

// registrationIsEchoed wants the answer that the strictest clients accept: all that was registered, nothing empty, and
// times as numbers.
func registrationIsEchoed(t *testing.T, s *ground) {
	asked := map[string]any{
		"client_name": "Test", "redirect_uris": []any{redirectURI, "https://app.example/cb"}, "client_uri": "https://app.example",
		"grant_types": []any{"authorization_code", "refresh_token"}, "response_types": []any{"code"}, "application_type": "native", "logo_uri": nil, "tos_uri": "",
	}
	for _, method := range []string{"none", "client_secret_post", "client_secret_basic"} {
		asked["token_endpoint_auth_method"] = method
		body, err := json.Marshal(asked)
		if err != nil {
			t.Fatal(err)
		}
		a := send(t, s.client, "POST", s.origin+"/register", string(body), "Content-Type", "application/json")
		wantStatus(t, method, a, http.StatusCreated)
		s.keepSecret(a.field(t, "client_secret"))
		var got map[string]any
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		for name, want := range asked {
			if have, ok := got[name]; want == nil || want == "" {
				if ok {
					t.Errorf("%s: the empty %s comes back as %v", method, name, have)
				}
			} else if !equalJSON(have, want) {
				t.Errorf("%s: %s is %v, want %v", method, name, have, want)
			}
		}
		_, secret := got["client_secret"]
		expires, number := got["client_secret_expires_at"].(float64)
		if secret != (method != "none") || number != secret || expires != 0 {
			t.Errorf("%s: there is a secret: %v, and it expires at %v", method, secret, got["client_secret_expires_at"])
		}
		if _, ok := got["client_id_issued_at"].(float64); !ok || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: issued at %v, Cache-Control %q", method, got["client_id_issued_at"], a.header.Get("Cache-Control"))
		}
		if strings.Contains(a.body, "null") || strings.Contains(a.body, `""`) {
			t.Errorf("%s: something is empty in %s", method, a.body)
		}
	}
}

func equalJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// noMethodMeansPublic registers without a method, as most clients do that never send a secret. Those that ask for one get
// it, and may send it in both ways, whatever they asked for.
func noMethodMeansPublic(t *testing.T, s *ground) {
	a := send(t, s.client, "POST", s.origin+"/register", `{"redirect_uris":["`+redirectURI+`"]}`, "Content-Type", "application/json")
	if a.field(t, "token_endpoint_auth_method") != "none" || strings.Contains(a.body, "client_secret") {
		t.Errorf("the answer is %s", a.body)
	}
	tokens := s.postForm(t, "/token", s.codeFor(t, s.newVisitor(t), a.field(t, "client_id"), nil))
	wantStatus(t, "a code with the client's id and the verifier only", tokens, http.StatusOK)
	anonymous := s.postForm(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.field(t, "refresh_token")}})
	wantStatus(t, "a refresh token and nothing else", anonymous, http.StatusOK)

	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		a := send(t, s.client, "POST", s.origin+"/register",
			`{"redirect_uris":["`+redirectURI+`"],"token_endpoint_auth_method":"`+method+`"}`, "Content-Type", "application/json")
		id, secret := a.field(t, "client_id"), a.field(t, "client_secret")
		s.keepSecret(secret)
		v := s.newVisitor(t)
		form := s.codeFor(t, v, id, nil)
		wantError(t, method+": without the secret", s.postForm(t, "/token", form), "invalid_client")
		wantStatus(t, method+": in the form", s.postForm(t, "/token", with(form, "client_secret", secret)), http.StatusOK)
		inHeader := with(s.codeFor(t, v, id, nil), "client_id", "")
		wantStatus(t, method+": in the header", s.postBasic(t, inHeader, id, secret), http.StatusOK)
	}
}

// clientsRegisterFreely registers as often as the Go SDK does, which does so for each step-up. All of the registrations work.
func clientsRegisterFreely(t *testing.T, s *ground) {
	var ids []string
	for range 12 {
		ids = append(ids, s.registerAt(t, redirectURI))
	}
	slices.Sort(ids)
	if distinct := slices.Compact(slices.Clone(ids)); len(distinct) != len(ids) {
		t.Errorf("%d registrations have %d ids", len(ids), len(distinct))
	}
	for _, id := range ids {
		wantStatus(t, "a request of one of them", s.authorizeAt(t, id, redirectURI), http.StatusOK)
	}
}

// unknownMetadata registers with all that clients send and nobody here reads.
func unknownMetadata(t *testing.T, s *ground) {
	for _, more := range []string{
		`"application_type":"native"`, `"software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.15.1"`,
		`"logo_uri":"https://app.example/logo.png","tos_uri":"https://app.example/tos","policy_uri":null`,
		`"contacts":["someone@app.example"]`, `"jwks":{"keys":[{"kty":"EC"}]}`, `"dpop_bound_access_tokens":true`,
		`"x":{"y":[1,{"z":null}]}`, `"client_name#de":"Anwendung","default_max_age":3600.5`,
	} {
		a := send(t, s.client, "POST", s.origin+"/register", `{"redirect_uris":["`+redirectURI+`"],`+more+`}`, "Content-Type", "application/json")
		wantStatus(t, more, a, http.StatusCreated)
	}
}
