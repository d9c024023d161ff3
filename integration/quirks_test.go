package integration

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestQuirks has a subtest for each surprise of real clients that the gateway has to cope with: the rows S1 to S25 that
// the README lists. Those with other tests of their own are named there.
func TestQuirks(t *testing.T) {
	t.Parallel()
	runRows(t, []row{
		{"S01_basic_with_empty_secret", basicWithEmptySecret},
		{"S03_optional_scopes_are_not_advertised", optionalScopesAreNotAdvertised},
		{"S04_one_bearer_challenge", oneBearerChallenge},
		{"S05_resource_is_the_exact_address", resourceIsTheExactAddress},
		{"S06_one_issuer_string", oneIssuerString},
		{"S07_issuer_sent_and_advertised", issuerSentAndAdvertised},
		{"S08_hand_off_page_after_consent", handOffPageAfterConsent},
		{"S09_no_307_after_a_form", no307AfterForm},
		{"S10_any_loopback_port", anyLoopbackPort},
		{"S11_cursor_registers_three_kinds", cursorRegistersThreeKinds},
		{"S12_registration_is_echoed", registrationIsEchoed},
		{"S13_no_method_means_public", noMethodMeansPublic},
		{"S14_probe_before_the_browser", probeBeforeTheBrowser},
		{"S15_codes_that_clients_act_on", codesThatClientsActOn},
		{"S16_clients_register_freely", clientsRegisterFreely},
		{"S17_scopes_of_other_servers", scopesOfOtherServers},
		{"S18_scope_in_every_answer", scopeInEveryAnswer},
		{"S19_lifetimes_and_races", lifetimesAndRaces},
		{"S20_endpoints_stay_at_the_origin", endpointsStayAtTheOrigin},
		{"S21_unknown_metadata", unknownMetadata},
		{"S22_audiences_of_assertions", audiencesOfAssertions},
		{"S23_empty_parameter_is_absent", emptyParameterIsAbsent},
		{"S24_no_partial_openid_configuration", noPartialOpenIDConfiguration},
		{"S25_metadata_at_root_and_alias", metadataAtRootAndAlias},
	})
}

// row is a row of a list that the README maps to tests.
type row struct {
	name string
	test func(*testing.T, *ground)
}

// ground is what rows share, since each of them is about a few answers: a gateway with the paths that it has by default,
// and one with paths and scopes of its own.
type ground struct {
	*gateway
	rec      *recorder
	docs     *documentServer
	document string // the client_id of a client that has a metadata document
	key      string // the private key of the client robot

	paths   *gateway  // with the resources /reading/mcp and /writing/mcp
	writing *recorder // behind the latter
}

// What the configuration of a ground names.
const (
	groundScript  = "script_token_12345678" // a static token with all scopes
	groundReader  = "reader_token_12345678" // a static token of paths with the scope read only
	groundSecret  = "report-secret-1234"    // of the client report
	groundWebsite = "https://report.example/callback"
	groundPage    = "https://inspector.example.com" // a page that may call the server
)

// runRows runs rows one after the other on a ground of their own.
func runRows(t *testing.T, rows []row) {
	t.Helper()
	s := &ground{rec: startRecorder(t), writing: startRecorder(t), docs: newDocumentServer(t)}
	s.document = s.docs.publishClient(t, "/client.json", "Journey")
	keys, key := s.docs.publishKey(t, "/jwks.json")
	s.key = key
	reading := startRecorder(t)
	all := startGateways(t, gatewayConfig{env: s.docs.trust(), site: scopedSite(s.rec.address, `
		`+onLoopback+`
		bearer_token `+groundScript+`
		cors_origins `+groundPage+`
		forward X-Mcp-User {http.auth.user.id}
		forward X-Caller-Email {http.auth.user.email}
		forward X-Caller-Client {http.auth.user.client_id}
		client robot {
			jwks_uri `+keys+`
			grant_types client_credentials
		}
		client report {
			name "Report"
			secret `+groundSecret+`
			redirect_uris `+groundWebsite+` `+redirectURI+`
			grant_types authorization_code refresh_token client_credentials
		}`)}, gatewayConfig{site: `mcp_auth {
		` + userLine + `
		auth_type both
		bearer_token ` + groundReader + ` read
		scope read "Read"
		scope write "Write"
		resource /reading/mcp {
			scopes read
		}
		resource /writing/mcp {
			scopes write
		}
	}
	handle_path /reading/* {
		reverse_proxy ` + reading.address + `
	}
	handle_path /writing/* {
		reverse_proxy ` + s.writing.address + `
	}`})
	s.gateway, s.paths = all[0], all[1]
	s.keepSecret(groundScript, groundSecret)
	s.paths.keepSecret(groundReader)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			s.rec.reset()
			r.test(t, s)
		})
	}
}

// registerAt registers a public client that is called back at the addresses.
func (s *ground) registerAt(t *testing.T, redirectURIs ...string) string {
	t.Helper()
	return s.register(t, map[string]any{"client_name": "Test client", "redirect_uris": redirectURIs})
}

// metadata reads a document of discovery.
func (g *gateway) metadata(t *testing.T, path string) (m metadata) {
	t.Helper()
	a := send(t, g.client, "GET", g.origin+path, "")
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || a.status != 200 {
		t.Fatalf("%s answers %d: %v: %s", path, a.status, err, a.body)
	}
	return m
}

// claims reads an access token as only its resource server should.
func claims(t *testing.T, token string) (out struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience any    `json:"aud"`
	Client   string `json:"client_id"`
	Grant    string `json:"grant_id"`
	Scope    string
}) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the access token has %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// authorizeAt asks for an authorization without signing in: 200 is the page to sign in on.
func (s *ground) authorizeAt(t *testing.T, clientID, redirectURI string) *answer {
	t.Helper()
	return send(t, s.client, "GET", s.authorizeURL(clientID, url.Values{"redirect_uri": {redirectURI}}), "")
}

// storedRecord is a record of the store, as an export has it.
type storedRecord struct {
	Key     string
	Expires int64 // Unix milliseconds; 0 for never
	Value   []byte
}

// stored is everything that the gateway has stored, by its admin endpoint.
func (g *gateway) stored(t *testing.T) (out []storedRecord) {
	t.Helper()
	a := send(t, http.DefaultClient, "GET", "http://"+g.admin+"/mcp_auth/store", "")
	wantStatus(t, "exporting the store", a, http.StatusOK)
	for line := range strings.Lines(a.body) {
		var r storedRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if r.Key != "" {
			out = append(out, r)
		}
	}
	return out
}
