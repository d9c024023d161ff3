package integration

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// authorizeURL is an authorization request. change sets parameters, or removes those it has with no value.
func (g *gateway) authorizeURL(clientID string, change url.Values) string {
	request := authorizeRequest(clientID, rand.Text()+rand.Text())
	maps.Copy(request, change)
	return g.origin + "/authorize?" + request.Encode()
}

// TestAuthorizationRefusedOnPage refuses what is wrong before the redirect URI is known to be the client's. Nothing may
// lead away from the site then, for people or for programs.
func TestAuthorizationRefusedOnPage(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	const website = "https://app.example/callback?a=1"
	id := g.register(t, map[string]any{"client_name": "Test", "redirect_uris": []string{redirectURI, "http://localhost/cb", website}})
	for _, tt := range []struct {
		name   string
		change url.Values
		good   bool
	}{
		{"as registered", nil, true},
		{"as registered, with a query", url.Values{"redirect_uri": {website}}, true},
		{"loopback with another port", url.Values{"redirect_uri": {"http://127.0.0.1:1/callback"}}, true},
		{"loopback with a port, registered without", url.Values{"redirect_uri": {"http://localhost:33333/cb"}}, true},
		{"another loopback name", url.Values{"redirect_uri": {"http://localhost:33333/callback"}}, false},
		{"another path", url.Values{"redirect_uri": {"http://127.0.0.1:33333/callback/"}}, false},
		{"another case", url.Values{"redirect_uri": {"http://127.0.0.1:33333/Callback"}}, false},
		{"https on loopback", url.Values{"redirect_uri": {"https://127.0.0.1:33333/callback"}}, false},
		{"a query that was not registered", url.Values{"redirect_uri": {redirectURI + "?x=1"}}, false},
		{"a query that was changed", url.Values{"redirect_uri": {"https://app.example/callback?a=2"}}, false},
		{"no query", url.Values{"redirect_uri": {"https://app.example/callback"}}, false},
		{"another port of a website", url.Values{"redirect_uri": {"https://app.example:8443/callback?a=1"}}, false},
		{"another host", url.Values{"redirect_uri": {"https://evil.example/callback?a=1"}}, false},
		{"user information", url.Values{"redirect_uri": {"https://app.example@evil.example/callback?a=1"}}, false},
		{"a backslash", url.Values{"redirect_uri": {`https://app.example\@evil.example/callback?a=1`}}, false},
		{"a fragment", url.Values{"redirect_uri": {website + "#x"}}, false},
		{"script", url.Values{"redirect_uri": {"javascript:alert(1)"}}, false},
		{"two addresses", url.Values{"redirect_uri": {redirectURI, "https://evil.example/"}}, false},
		{"none of several", url.Values{"redirect_uri": {}}, false},
		{"an unknown client", url.Values{"client_id": {"nobody"}}, false},
		{"no client", url.Values{"client_id": {}}, false},
		{"two clients", url.Values{"client_id": {id, "x"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := g.authorizeURL(id, tt.change)
			p := g.newVisitor(t).get(address)
			if p.next != "" {
				t.Fatalf("the page leads to %s", p.next)
			}
			if tt.good {
				if p.status != http.StatusOK || p.form("password") == nil {
					t.Errorf("the page is %v", p)
				}
				return
			}
			if p.status != http.StatusBadRequest || len(p.forms) > 0 || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
				t.Errorf("the page is %v", p)
			}
			a := send(t, g.client, "GET", address, "", "Accept", "application/json")
			wantStatus(t, "for a program", a, http.StatusBadRequest)
			if a.field(t, "error") == "" || a.header.Get("Location") != "" {
				t.Errorf("for a program: %s, to %q", a.body, a.header.Get("Location"))
			}
		})
	}
}

// TestAuthorizationRefusedAtClient tells the client what is wrong with its request, with the state as it came, and
// with the issuer.
func TestAuthorizationRefusedAtClient(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	id := g.register(t, map[string]any{"client_name": "Test", "redirect_uris": []string{redirectURI}})
	const state = "a state +&=%\"<>é"
	for _, tt := range []struct {
		name   string
		change url.Values
		want   string
	}{
		{"no PKCE", url.Values{"code_challenge": {}, "code_challenge_method": {}}, "invalid_request"},
		{"a challenge without a method", url.Values{"code_challenge_method": {}}, "invalid_request"},
		{"the method plain", url.Values{"code_challenge_method": {"plain"}}, "invalid_request"},
		{"another method", url.Values{"code_challenge_method": {"S512"}}, "invalid_request"},
		{"a malformed challenge", url.Values{"code_challenge": {"x"}}, "invalid_request"},
		{"a token in the answer", url.Values{"response_type": {"token"}}, "unsupported_response_type"},
		{"no response type", url.Values{"response_type": {}}, "invalid_request"},
		{"two response types", url.Values{"response_type": {"code", "code"}}, "invalid_request"},
		{"two scopes", url.Values{"scope": {"a", "b"}}, "invalid_request"},
		{"another server", url.Values{"resource": {"https://evil.example/mcp"}}, "invalid_target"},
		{"no page, nobody signed in", url.Values{"prompt": {"none"}}, "login_required"},
		{"a request object", url.Values{"request": {"x"}}, "request_not_supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			change := url.Values{"state": {state}}
			maps.Copy(change, tt.change)
			a := send(t, g.client, "GET", g.authorizeURL(id, change), "")
			wantStatus(t, "the answer", a, http.StatusSeeOther)
			location, err := url.Parse(a.header.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			got := location.Query()
			if !strings.HasPrefix(location.String(), redirectURI+"?") || got.Get("error") != tt.want || got.Get("state") != state || got.Get("iss") != g.origin {
				t.Errorf("the answer leads to %s, want the error %s with state and issuer", location, tt.want)
			}
			if got.Has("code") {
				t.Error("the answer has a code")
			}
		})
	}
}

// TestConsent checks what a person sees and what the answer is made of.
func TestConsent(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	id := g.register(t, map[string]any{"client_name": `<b>Claude</b>"&`, "redirect_uris": []string{"https://app.example/callback"}})
	change := url.Values{"redirect_uri": {"https://app.example/callback"}, "scope": {"openid bugs:read unknown"}, "state": {"s"}}
	v := g.newVisitor(t)
	signIn := v.get(g.authorizeURL(id, change))
	wantSafePage(t, signIn)
	consent := signIn.signIn()
	wantSafePage(t, consent)
	for _, text := range []string{"app.example", "Search and read Cisco bugs", "Change support cases", "&lt;b&gt;Claude"} {
		if !strings.Contains(consent.body, text) {
			t.Errorf("the consent page does not show %q", text)
		}
	}
	if strings.Contains(consent.body, "<b>Claude") || consent.form("client_id") != nil || consent.form("redirect_uri") != nil {
		t.Error("the page shows markup of the client, or its form carries parameters of the request")
	}
	if boxes := consent.form("allow").boxes; !slices.Equal(boxes, []string{"cases:write"}) {
		t.Errorf("the page offers %q", boxes)
	}

	t.Run("only this browser can answer", func(t *testing.T) {
		other := g.newVisitor(t)
		other.get(g.origin + "/account").signIn()
		theirs := *consent
		theirs.v = other
		if p := theirs.submit("allow", nil); p.status != http.StatusBadRequest || p.next != "" {
			t.Errorf("the form of another browser leads to %v and %q", p, p.next)
		}
	})
	t.Run("only a form of the site can answer", func(t *testing.T) {
		req := newRequest(t, g.origin+"/authorize", strings.NewReader(url.Values{"decision": {"allow"}, "token": consent.form("allow").fields["token"]}.Encode()))
		req.Header.Set("Content-Type", formType)
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		if p := v.do(req); p.status != http.StatusForbidden || p.next != "" {
			t.Errorf("a form of another site leads to %v and %q", p, p.next)
		}
	})
	handOff := consent.submit("allow", url.Values{
		"client_id": {"other"}, "redirect_uri": {"https://evil.example/"}, "scope": {"cases:write", "admin"}, "state": {"forged"},
	})
	wantSafePage(t, handOff)
	callback := handOff.callback()
	if !strings.HasPrefix(handOff.next, "https://app.example/callback?") || callback.Get("code") == "" || callback.Get("state") != "s" || callback.Get("iss") != g.origin {
		t.Fatalf("the answer is %s", handOff.next)
	}
	if again := consent.submit("allow", nil).callback(); again.Get("code") != callback.Get("code") {
		t.Error("a form that is sent twice makes two codes")
	}
	if p := consent.submit("deny", nil); p.next != "" || p.status != http.StatusBadRequest {
		t.Errorf("a request that was allowed can be denied: %v", p)
	}

	denied := v.get(g.authorizeURL(id, change)).submit("deny", nil).callback()
	if denied.Get("error") != "access_denied" || denied.Get("state") != "s" || denied.Get("iss") != g.origin || denied.Has("code") {
		t.Errorf("Cancel answers %v", denied)
	}
	stranger := g.newVisitor(t).get(g.authorizeURL(id, change)).submit("deny", nil).callback()
	if stranger.Get("error") != "access_denied" {
		t.Errorf("Cancel before signing in answers %v", stranger)
	}
}

// wantSafePage checks the headers of a page: no script, no frame, no cache, nothing for the next site.
func wantSafePage(t *testing.T, p *page) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": `^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
		"Cache-Control":           `no-store`, "Referrer-Policy": `^no-referrer$`, "X-Content-Type-Options": `^nosniff$`, "Content-Type": `^text/html`,
	} {
		if got := p.header.Get(name); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%v: %s is %q", p, name, got)
		}
	}
	if strings.Contains(p.body, "<script") {
		t.Errorf("%v: there is script", p)
	}
	for _, line := range p.header.Values("Set-Cookie") {
		if !regexp.MustCompile(`^__Host-[a-z_]+=[^;]*; Path=/; (Max-Age=\d+; )?HttpOnly; Secure; SameSite=Lax$`).MatchString(line) {
			t.Errorf("%v: the cookie is %q", p, line)
		}
	}
}

// TestSignIn refuses wrong names and wrong passwords alike, and stops guessing.
func TestSignIn(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "rate_limit login 4 1h")})
	v := g.newVisitor(t)
	try := func(name, password string) *page {
		return v.get(g.origin+"/account").submit("password", url.Values{"username": {name}, "password": {password}})
	}
	wrong, unknown := try(userName, "wrong"), try("nobody", "wrong")
	tries := regexp.MustCompile(`\d+ (try|tries)`)
	if tries.ReplaceAllString(wrong.visible(), "") != strings.ReplaceAll(tries.ReplaceAllString(unknown.visible(), ""), "nobody", userName) {
		t.Errorf("the pages tell whether a user exists:\n%s\n%s", wrong.visible(), unknown.visible())
	}
	if wrong.status != http.StatusForbidden || unknown.status != http.StatusForbidden {
		t.Errorf("wrong passwords get %v and %v", wrong, unknown)
	}
	if p := try(userName, userPassword); p.status != http.StatusOK || p.form("/logout") == nil {
		t.Fatalf("the right password gets %v", p)
	}
	v = g.newVisitor(t)
	for range 2 {
		try(strings.ToUpper(userName)+" ", "wrong") // the same account for whoever counts
	}
	held := try(userName, userPassword)
	if held.status != http.StatusTooManyRequests || held.header.Get("Retry-After") == "" {
		t.Errorf("after too many tries there is %v", held)
	}
}

// visible is the text of a page without what is new in each: the sealed values.
func (p *page) visible() string {
	return regexp.MustCompile(`name="token" value="[^"]*"|continue=[^"]*`).ReplaceAllString(p.body, "")
}
