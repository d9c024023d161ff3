package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestFaults has a subtest for each fault that was measured on other gateways and must not be one of ours.
func TestFaults(t *testing.T) {
	t.Parallel()
	runRows(t, []row{
		{"no_challenge", everyRefusalHasChallenge},
		{"pkce_is_optional", pkceIsOptional},
		{"any_address_registers", anyAddressRegisters},
		{"refresh_token_works_for_ever", refreshTokenWorksForEver},
		{"state_has_to_be_long", anyState},
		{"token_for_nobody", tokenForNobody},
		{"identity_from_the_client", identityFromTheClient},
		{"preflight_refused", preflightNeedsNoToken},
		{"mixed_list_refused", cursorRegistersThreeKinds},
		{"unknown_client_is_invalid_grant", clientThatTheServerHasLost},
		{"code_without_verifier", codeWithoutVerifier},
		{"refreshed_token_is_refused", refreshedTokenIsRefused},
		{"token_for_another_server", tokenForAnotherServer},
		{"loopback_port_refused", loopbackPortAtSignIn},
		{"registration_is_200", registrationIsEchoed},
		{"path_metadata_names_the_root", wellKnownBelowAnyPath},
		{"token_reaches_upstream", tokenReachesUpstream},
		{"path_with_slash_is_404", pathAndWhatIsBelow},
		{"open_redirect", openRedirect},
		{"garbage_in_the_challenge", oneBearerChallenge},
		{"metadata_without_resource", resourceIsTheExactAddress},
		{"stream_fails", streamsComeAtOnce},
	})
}

func pkceIsOptional(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	for what, change := range map[string]url.Values{
		"no challenge": {"code_challenge": {}, "code_challenge_method": {}}, "no method": {"code_challenge_method": {}},
		"plain": {"code_challenge": {strings.Repeat("v", 43)}, "code_challenge_method": {"plain"}}, "an empty challenge": {"code_challenge": {""}},
	} {
		got := s.newVisitor(t).get(s.authorizeURL(id, change)).callback()
		if got.Get("error") != "invalid_request" || got.Has("code") {
			t.Errorf("%s: the answer is %v", what, got)
		}
	}
}

func anyAddressRegisters(t *testing.T, s *ground) {
	for _, uri := range []string{"javascript:alert(1)", "javascript://x.example/%0Aalert(1)", "http://evil.example/callback", "data:text/html,x", "//evil.example/callback", "https://evil.example/#x", ""} {
		s.wantRefusedRegistration(t, []string{uri}, "redirect_uris[0]")
	}
	s.wantRefusedRegistration(t, nil, "redirect_uris is missing")
}

// refreshTokenWorksForEver uses a refresh token again after its successor was used, which ends all access.
func refreshTokenWorksForEver(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	old := gr.refresh
	gr.renew(t)
	gr.renew(t)
	wantError(t, "the old token", s.refresh(t, gr.clientID, old), "invalid_grant")
	wantStatus(t, "the access token then", s.call(t, s.client, "/mcp", gr.access), http.StatusUnauthorized)
	wantError(t, "the new token then", s.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
}

func tokenForNobody(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	if got := claims(t, gr.access); got.Audience != s.origin+"/mcp" || got.Subject != userName || got.Client != gr.clientID {
		t.Errorf("the token is for %v, of %q by the client %q", got.Audience, got.Subject, got.Client)
	}
}

func identityFromTheClient(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	s.wantCaller(t, gr, "X-Forwarded-User", "forged", "Remote-User", "forged", "X-Forwarded-Email", "forged", "X-Auth-Request-User", "forged",
		"X-Forwarded-Access-Token", "forged", "Cookie", "__Host-mcp_session=forged; __Host-mcp_browser=forged")
}

func codeWithoutVerifier(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	form := s.codeFor(t, s.newVisitor(t), id, nil)
	wantError(t, "without a verifier", s.postForm(t, "/token", with(form, "code_verifier", "")), "invalid_request")
	wantError(t, "with the challenge for a verifier", s.postForm(t, "/token", with(form, "code_verifier", strings.Repeat("c", 43))), "invalid_grant")
	wantStatus(t, "with the verifier", s.postForm(t, "/token", form), http.StatusOK)
}

func refreshedTokenIsRefused(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	for range 3 {
		gr.renew(t)
		wantStatus(t, "the access token of the refresh", s.call(t, s.client, "/mcp", gr.access), http.StatusOK)
	}
}

// tokenForAnotherServer uses tokens of the same keys for other audiences, and of other keys for the same.
func tokenForAnotherServer(t *testing.T, s *ground) {
	g := s.paths
	reading := g.newGrant(t, url.Values{"resource": {g.origin + "/reading/mcp"}})
	wantStatus(t, "its own server", g.call(t, g.client, "/reading/mcp", reading.access), http.StatusOK)
	wantStatus(t, "another server of the same issuer", g.call(t, g.client, "/writing/mcp", reading.access), http.StatusUnauthorized)
	wantStatus(t, "a server of another issuer", s.call(t, s.client, "/mcp", reading.access), http.StatusUnauthorized)
	parts := strings.Split(reading.access, ".")
	for what, token := range map[string]string{
		"no signature":           parts[0] + "." + parts[1] + ".",
		"the algorithm none":     "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + ".",
		"another's signature":    strings.Join(strings.Split(g.newGrant(t, nil).access, ".")[:2], ".") + "." + parts[2],
		"a refresh token for it": reading.refresh,
	} {
		wantStatus(t, what, g.call(t, g.client, "/reading/mcp", token), http.StatusUnauthorized)
	}
	if n := len(s.writing.seen()); n > 0 {
		t.Errorf("%d requests with tokens for another server got through", n)
	}
}

func tokenReachesUpstream(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	for _, token := range []string{gr.access, groundScript} {
		s.rec.reset()
		wantStatus(t, "a call", s.call(t, s.client, "/mcp?access_token="+token[:10], token), http.StatusOK)
		if raw := s.rec.bytes(); strings.Contains(raw, token) || strings.Contains(strings.ToLower(raw), "authorization:") || strings.Contains(raw, "access_token") {
			t.Errorf("this has reached the upstream:\n%s", strings.ReplaceAll(raw, token, "<TOKEN>"))
		}
	}
}

// openRedirect asks for what is wrong, with an address that is not the client's: nothing leads there, not even the error.
func openRedirect(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	for _, uri := range []string{"https://evil.example/cb", "http://127.0.0.1:33333@evil.example/callback", "javascript:alert(1)", redirectURI + "/../x"} {
		for _, change := range []url.Values{{}, {"response_type": {"token"}}, {"scope": {"a", "b"}}, {"code_challenge": {}}, {"prompt": {"none"}}, {"resource": {"https://evil.example"}}} {
			change.Set("redirect_uri", uri)
			a := send(t, s.client, "GET", s.authorizeURL(id, change), "")
			wantStatus(t, uri, a, http.StatusBadRequest)
			if a.header.Get("Location") != "" || strings.Contains(a.body, `http-equiv="refresh"`) || strings.Contains(a.body, `href="`+uri) {
				t.Errorf("the error leads to %s", uri)
			}
		}
	}
}
