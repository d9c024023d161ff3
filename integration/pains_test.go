package integration

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPains has a subtest for each of the twenty pains of users that the README lists, and for those that it adds to them.
func TestPains(t *testing.T) {
	t.Parallel()
	runRows(t, []row{
		{"01_refresh_race", refreshRace},
		{"02_client_that_the_server_has_lost", clientThatTheServerHasLost},
		{"03_trailing_slashes", trailingSlashes},
		{"04_well_known_below_any_path", wellKnownBelowAnyPath},
		{"05_every_refusal_has_a_challenge", everyRefusalHasChallenge},
		{"06_probes_for_openid_configuration", probesForOpenIDConfiguration},
		{"07_misses_are_json", missesAreJSON},
		{"08_preflight_needs_no_token", preflightNeedsNoToken},
		{"09_any_state", anyState},
		{"10_private_use_schemes", privateUseSchemes},
		{"11_loopback_port_at_sign_in", loopbackPortAtSignIn},
		{"12_client_with_document_refreshes", clientWithDocumentRefreshes},
		{"13_scopes_are_narrowed", scopesAreNarrowed},
		{"14_forwarded_headers_say_nothing", forwardedHeadersSayNothing},
		{"15_streams_come_at_once", streamsComeAtOnce},
		{"15_idle_streams_stay_open", idleStreamsStayOpen},
		{"16_upstream_knows_the_caller", upstreamKnowsTheCaller},
		{"17_consent_is_bound", consentIsBound},
		{"18_unused_registrations_lapse", unusedRegistrationsLapse},
		{"19_plain_tokens_beside_oauth", plainTokensBesideOAuth},
		{"20_errors_of_the_token_endpoint", errorsOfTheTokenEndpoint},
		{"also_a_path_and_what_is_below", pathAndWhatIsBelow},
		{"also_list_of_connected_apps", listOfConnectedApps},
		{"also_codes_do_not_leak_by_referer", codesDoNotLeakByReferer},
	})
}

// refreshRace lets instances of one client race with their refresh token. All of them go on with what they get; only who
// comes with an older token has stolen it.
func refreshRace(t *testing.T, s *ground) {
	gr := s.newGrant(t, nil)
	first := gr.refresh
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}, "client_id": {gr.clientID}}
	for _, a := range s.postAtOnce(t, 5, form) {
		gr.take(t, a)
		s.keepSecret(gr.access, gr.refresh)
		wantStatus(t, "the access token of one of them", s.call(t, s.client, "/mcp", gr.access), http.StatusOK)
	}
	late := s.refresh(t, gr.clientID, first)
	wantStatus(t, "one that is late", late, http.StatusOK)
	gr.renew(t)
	wantStatus(t, "the grant afterwards", s.call(t, s.client, "/mcp", gr.access), http.StatusOK)
	wantError(t, "the first token after the next rotation", s.refresh(t, gr.clientID, first), "invalid_grant")
	wantError(t, "the newest token then", s.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
	wantStatus(t, "the newest access token then", s.call(t, s.client, "/mcp", gr.access), http.StatusUnauthorized)
}

// clientThatTheServerHasLost tells programs to register anew, and people what to do in the app.
func clientThatTheServerHasLost(t *testing.T, s *ground) {
	const lost = "mcp_ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, grant := range []string{"authorization_code", "refresh_token"} {
		form := url.Values{"grant_type": {grant}, "client_id": {lost}, "code": {"x"}, "refresh_token": {"x"}}
		wantError(t, grant, s.postForm(t, "/token", form), "invalid_client")
	}
	p := s.newVisitor(t).get(s.authorizeURL(lost, nil))
	if p.status != http.StatusBadRequest || p.next != "" || !strings.Contains(p.body, "Remove the server in the app and add it again") {
		t.Errorf("a person sees %v, leading to %q:\n%s", p, p.next, tail(p.body, 2000))
	}
}

// anyState gives clients their state back as it came: none, short, long or odd.
func anyState(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	v := s.newVisitor(t)
	for _, state := range []string{"x", "0", strings.Repeat("long", 1500), "a b+c&d=e%20%f\"<>'é日本", `{"a":[1]}`, "  "} {
		got := v.authorize(s.authorizeURL(id, url.Values{"state": {state}}))
		if got.Get("state") != state || got.Get("code") == "" {
			t.Errorf("the state %.20q comes back as %.20q, with a code: %v", state, got.Get("state"), got.Has("code"))
		}
	}
	if got := v.authorize(s.authorizeURL(id, url.Values{"state": {}})); got.Has("state") || got.Get("code") == "" {
		t.Errorf("without a state the answer is %v", got)
	}
}

// privateUseSchemes connects apps that are called by a scheme of their own, and says of a list which entry is wrong.
func privateUseSchemes(t *testing.T, s *ground) {
	for _, uri := range []string{"cursor://anysphere.cursor-mcp/oauth/callback", "vscode://vscode.github-authentication/did-authenticate", "com.example.app:/oauth"} {
		id := s.registerAt(t, "https://app.example/callback", uri)
		p := s.newVisitor(t).get(s.authorizeURL(id, url.Values{"redirect_uri": {uri}})).signIn().submit("allow", nil)
		if p.callback().Get("code") == "" || !strings.HasPrefix(p.next, uri+"?") {
			t.Errorf("the app at %s is called at %s", uri, p.next)
		}
	}
	s.wantRefusedRegistration(t, []string{"cursor://x/y", "javascript://x/%0Aalert(1)", "https://app.example/c"}, "redirect_uris[1]")
	s.wantRefusedRegistration(t, []string{"https://app.example/c", "cursor://x/y", "http://app.example/c"}, "redirect_uris[2]")
}

// loopbackPortAtSignIn goes the whole way with a port that was never registered.
func loopbackPortAtSignIn(t *testing.T, s *ground) {
	for what, tt := range map[string]struct{ client, uri string }{
		"127.0.0.1":              {s.registerAt(t, "http://127.0.0.1:3000/callback"), "http://127.0.0.1:49152/callback"},
		"localhost":              {s.registerAt(t, "http://localhost/callback"), "http://localhost:49153/callback"},
		"[::1]":                  {s.registerAt(t, "http://[::1]:3000/callback"), "http://[::1]:49154/callback"},
		"a client with document": {s.document, "http://localhost:49155/callback"},
	} {
		form := s.codeFor(t, s.newVisitor(t), tt.client, url.Values{"redirect_uri": {tt.uri}})
		wantError(t, what+": redeeming with another port", s.postForm(t, "/token", form), "invalid_grant")
		wantStatus(t, what+": redeeming", s.postForm(t, "/token", with(form, "redirect_uri", tt.uri)), http.StatusOK)
	}
}

// clientWithDocumentRefreshes lets a client with a metadata document do all that others can, also while its website is down.
func clientWithDocumentRefreshes(t *testing.T, s *ground) {
	gr, _ := s.newGrantByDocument(t, s.document)
	s.docs.answerWith(http.StatusServiceUnavailable)
	defer s.docs.answerWith(0)
	for range 2 {
		gr.renew(t)
		wantStatus(t, "the next access token", s.call(t, s.client, "/mcp", gr.access), http.StatusOK)
	}
	gr.revoke(t)
	wantStatus(t, "the access token after its revocation", s.call(t, s.client, "/mcp", gr.access), http.StatusUnauthorized)
}

// scopesAreNarrowed grants what can be granted of what clients ask for, says what that is, and gives a refresh token to
// whoever asks for no offline_access.
func scopesAreNarrowed(t *testing.T, s *ground) {
	for asked, want := range map[string]string{
		"": "bugs:read", "openid": "bugs:read", "openid email profile offline_access": "bugs:read",
		"bugs:read unknown:scope": "bugs:read", "cases:write bugs:read offline_access": "cases:write bugs:read", "*": "bugs:read",
	} {
		if got := s.scopeOf(t, url.Values{"scope": {asked}}); got != want {
			t.Errorf("who asks for %q gets %q, want %q", asked, got, want)
		}
	}
}

// unusedRegistrationsLapse lets a registration that nobody uses go after a day, and keeps one that somebody has agreed to.
func unusedRegistrationsLapse(t *testing.T, s *ground) {
	unused := s.registerAt(t, redirectURI)
	used := s.newGrant(t, nil).clientID
	lifetime := map[string]time.Duration{}
	for _, r := range s.stored(t) {
		lifetime[r.Key[strings.LastIndexByte(r.Key, '/')+1:]] = time.Until(time.UnixMilli(r.Expires))
	}
	if lives := lifetime[strings.TrimPrefix(unused, "mcp_")]; lives <= 0 || lives > 24*time.Hour {
		t.Errorf("a registration that nobody has used lives for %v", lives)
	}
	if lives := lifetime[strings.TrimPrefix(used, "mcp_")]; lives < 30*24*time.Hour {
		t.Errorf("a registration in use lives for %v", lives)
	}
}

// listOfConnectedApps shows people which apps they have connected, and lets them end one.
func listOfConnectedApps(t *testing.T, s *ground) {
	id := s.register(t, map[string]any{"client_name": "To be removed", "redirect_uris": []string{redirectURI}})
	v := s.newVisitor(t)
	tokens := s.postForm(t, "/token", s.codeFor(t, v, id, nil))
	access := tokens.field(t, "access_token")
	grant := claims(t, access).Grant
	lists := func(p *page) bool {
		return slices.ContainsFunc(p.forms, func(f form) bool { return f.fields.Get("grant") == grant })
	}
	account := v.get(s.origin + "/account")
	if !strings.Contains(account.body, "To be removed") || !lists(account) {
		t.Fatalf("the page does not list the app: %v", account)
	}
	if after := account.submit("grant", url.Values{"grant": {grant}}); lists(after) {
		t.Errorf("the app is still listed on %v", after)
	}
	wantStatus(t, "the app's access token", s.call(t, s.client, "/mcp", access), http.StatusUnauthorized)
	wantError(t, "the app's refresh token", s.refresh(t, id, tokens.field(t, "refresh_token")), "invalid_grant")
}

// codesDoNotLeakByReferer keeps the address of a request, and the code in that of its answer, from the next site.
func codesDoNotLeakByReferer(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	v := s.newVisitor(t)
	signIn := v.get(s.authorizeURL(id, nil))
	consent := signIn.signIn()
	handOff := consent.submit("allow", nil)
	s.keepSecret(handOff.callback().Get("code"))
	for what, p := range map[string]*page{
		"the sign-in page": signIn, "the consent page": consent, "the hand-off page": handOff,
		"an error for the client": v.get(s.authorizeURL(id, url.Values{"response_type": {"token"}})),
		"an error for people":     v.get(s.authorizeURL("nobody", nil)),
	} {
		if policy := p.header.Get("Referrer-Policy"); policy != "no-referrer" {
			t.Errorf("%s has the policy %q", what, policy)
		}
		if strings.Contains(p.body, `src="http`) || strings.Contains(p.body, "url(http") {
			t.Errorf("%s loads something from elsewhere", what)
		}
	}
}
