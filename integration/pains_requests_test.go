package integration

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// streamsComeAtOnce opens streams as browsers do, which ask for compression: what the upstream has written is there, while
// it writes nothing more.
func streamsComeAtOnce(t *testing.T, s *ground) {
	for protocol, client := range protocolClients(s.gateway) {
		stream := openStream(t, client, s.origin+"/sse", groundScript)
		stream.want(endpointEvent)
		if encoding := stream.header.Get("Content-Encoding"); encoding != "" {
			t.Errorf("%s: the stream is encoded with %s", protocol, encoding)
		}
		s.rec.proceed <- struct{}{}
		stream.want("event: message\ndata: {\"n\":2}\n")
		stream.cancel()
	}
}

// idleStreamsStayOpen writes comments into a stream of which the upstream says nothing, and none into what it says.
func idleStreamsStayOpen(t *testing.T, _ *ground) {
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + ` {
		bearer_token ` + groundScript + `
		stream_keep_alive 1s
	}`})
	for protocol, client := range protocolClients(g) {
		t.Run(protocol, func(t *testing.T) {
			stream := openStream(t, client, g.origin+"/sse", groundScript)
			stream.want(endpointEvent)
			stream.want(":\n")
			stream.want(":\n")
			rec.proceed <- struct{}{}
			next := stream.next()
			for next == ":\n" {
				next = stream.next()
			}
			if next != "event: message\ndata: {\"n\":2}\n" {
				t.Errorf("the event after them is %q", next)
			}
			stream.cancel()
		})
	}
}

// upstreamKnowsTheCaller tells the upstream who is calling, whatever the caller says about that.
func upstreamKnowsTheCaller(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	s.wantCaller(t, gr, "X-Mcp-User", "forged", "X-Caller-Email", "forged", "x_mcp_user", "forged")

	// Nothing overwrites the address of a caller who has none.
	a := send(t, s.client, "POST", s.origin+"/mcp", toolsCall, "Authorization", "Bearer "+groundScript, "X-Caller-Email", "forged")
	wantStatus(t, "a call of a script", a, http.StatusOK)
	if got := s.rec.last(t).Header; got.Get("X-Mcp-User") != "bearer" || got.Get("X-Caller-Email") != "" {
		t.Errorf("the upstream sees %q with the address %q", got.Get("X-Mcp-User"), got.Get("X-Caller-Email"))
	}
}

// wantCaller sends a request with forged headers. The upstream has to see who is calling, and nothing that is forged.
func (s *ground) wantCaller(t *testing.T, gr *grant, forged ...string) {
	t.Helper()
	s.rec.reset()
	headers := append([]string{"Authorization", "Bearer " + gr.access, "Content-Type", "application/json"}, forged...)
	wantStatus(t, "a call", send(t, s.client, "POST", s.origin+"/mcp", toolsCall, headers...), http.StatusOK)
	wantIdentity(t, s.rec.last(t), gr)
	if raw := s.rec.bytes(); strings.Contains(raw, "forged") || strings.Contains(raw, gr.access) {
		t.Errorf("this has reached the upstream:\n%s", strings.ReplaceAll(raw, gr.access, "<TOKEN>"))
	}
}

// consentIsBound gives nothing to a client that a person has not agreed to in this browser, on a form of this site, with
// the address in sight to which the answer goes.
func consentIsBound(t *testing.T, s *ground) {
	good := s.registerAt(t, "https://good.example/callback")
	evil := s.registerAt(t, "https://evil.example/callback")
	v := s.newVisitor(t)
	change := func(host string) url.Values { return url.Values{"redirect_uri": {"https://" + host + "/callback"}} }
	consent := v.get(s.authorizeURL(good, change("good.example"))).signIn()
	if !strings.Contains(consent.body, "good.example") {
		t.Error("the page does not show where the answer goes")
	}
	handOff := consent.submit("allow", nil)
	if again := consent.submit("allow", nil); again.callback().Get("code") != handOff.callback().Get("code") {
		t.Error("a form that is sent twice makes two codes")
	}

	form := s.codeFor(t, v, good, change("good.example"))
	wantStatus(t, "redeeming", s.postForm(t, "/token", with(form, "redirect_uri", "https://good.example/callback")), http.StatusOK)

	// The same browser, still signed in, with another client of the same name.
	next := v.get(s.authorizeURL(evil, change("evil.example")))
	if next.next != "" || next.form("allow") == nil || !strings.Contains(next.body, "evil.example") {
		t.Fatalf("the other client gets %v, leading to %q", next, next.next)
	}
	stranger := s.newVisitor(t)
	stranger.get(s.origin + "/account").signIn()
	stolen := *next
	stolen.v = stranger
	if p := stolen.submit("allow", nil); p.status != http.StatusBadRequest || p.next != "" {
		t.Errorf("the form works in another browser: %v, leading to %q", p, p.next)
	}
	answer := url.Values{"decision": {"allow"}, "token": next.form("allow").fields["token"]}
	for _, site := range []string{"cross-site", "same-site"} {
		req := newRequest(t, s.origin+"/authorize", strings.NewReader(answer.Encode()))
		req.Header.Set("Content-Type", formType)
		req.Header.Set("Sec-Fetch-Site", site)
		if p := v.do(req); p.status != http.StatusForbidden || p.next != "" {
			t.Errorf("a form of another site works: %v, leading to %q", p, p.next)
		}
	}
	if got := next.submit("allow", change("good.example")); !strings.HasPrefix(got.next, "https://evil.example/callback?") {
		t.Errorf("the form can say where the answer goes: %s", got.next)
	}
}

// plainTokensBesideOAuth serves scripts and people on one path, and tells the upstream about both in the same way.
func plainTokensBesideOAuth(t *testing.T, s *ground) {
	person := s.newGrant(t, nil)
	machine := s.postForm(t, "/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"report"}, "client_secret": {groundSecret}})
	for who, token := range map[string]string{"bearer": groundScript, userName: person.access, "report": machine.field(t, "access_token")} {
		wantStatus(t, who, s.call(t, s.client, "/mcp", token), http.StatusOK)
		if got := s.rec.last(t).Header.Values("X-Mcp-User"); len(got) != 1 || got[0] != who {
			t.Errorf("the upstream sees %q, want %s", got, who)
		}
	}
	wantStatus(t, "a token that is almost right", s.call(t, s.client, "/mcp", groundScript+"9"), http.StatusUnauthorized)
}

// errorsOfTheTokenEndpoint wants the codes of RFC 6749: with others clients try for ever.
func errorsOfTheTokenEndpoint(t *testing.T, s *ground) {
	gr, other := s.newGrant(t, nil), s.newGrant(t, nil)
	other.revoke(t)
	code := s.codeFor(t, s.newVisitor(t), gr.clientID, nil)
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID}}
	for what, tt := range map[string]struct {
		form  url.Values
		error string
	}{
		"a dead refresh token":            {with(refresh, "client_id", other.clientID, "refresh_token", other.refresh), "invalid_grant"},
		"a refresh token of junk":         {with(refresh, "refresh_token", "mcpr_junk"), "invalid_grant"},
		"a refresh token of another":      {with(refresh, "client_id", other.clientID), "invalid_grant"},
		"no refresh token":                {with(refresh, "refresh_token", ""), "invalid_request"},
		"no grant type":                   {with(refresh, "grant_type", ""), "invalid_request"},
		"another grant type":              {with(refresh, "grant_type", "password"), "unsupported_grant_type"},
		"a scope that was not granted":    {with(refresh, "scope", "cases:write"), "invalid_scope"},
		"a server that is not this one":   {with(refresh, "resource", "https://evil.example/mcp"), "invalid_target"},
		"a code of junk":                  {with(code, "code", "junk"), "invalid_grant"},
		"a verifier that is another":      {with(code, "code_verifier", strings.Repeat("w", 43)), "invalid_grant"},
		"no verifier":                     {with(code, "code_verifier", ""), "invalid_request"},
		"an unknown client":               {with(code, "client_id", "nobody"), "invalid_client"},
		"a machine without its secret":    {url.Values{"grant_type": {"client_credentials"}, "client_id": {"report"}}, "invalid_client"},
		"a person's client as a machine":  {url.Values{"grant_type": {"client_credentials"}, "client_id": {gr.clientID}}, "unauthorized_client"},
		"a parameter twice":               {url.Values{"grant_type": {"refresh_token", "refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID}}, "invalid_request"},
		"the code with another address":   {with(code, "redirect_uri", "http://127.0.0.1:1/callback"), "invalid_grant"},
		"a machine with the wrong secret": {url.Values{"grant_type": {"client_credentials"}, "client_id": {"report"}, "client_secret": {"x"}}, "invalid_client"},
	} {
		a := s.postForm(t, "/token", tt.form)
		wantError(t, what, a, tt.error)
		if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the answer is %s, to be kept %q", what, a.header.Get("Content-Type"), a.header.Get("Cache-Control"))
		}
	}
	wantStatus(t, "the code in the end", s.postForm(t, "/token", code), http.StatusOK)
	gr.renew(t)
	wrong := base64.StdEncoding.EncodeToString([]byte("report:x"))
	a := send(t, s.client, "POST", s.origin+"/token", "grant_type=client_credentials", "Content-Type", formType, "Authorization", "Basic "+wrong)
	wantError(t, "a wrong secret in the header", a, "invalid_client")
	if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Basic ") {
		t.Errorf("the challenge is %q", challenge)
	}
}
