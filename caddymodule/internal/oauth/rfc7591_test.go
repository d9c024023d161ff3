package oauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// register decodes and normalizes, as the endpoint does.
func register(body string) (oauth.ClientMetadata, error) {
	m, err := oauth.DecodeClientMetadata([]byte(body))
	if err != nil {
		return m, err
	}
	return m, m.Normalize()
}

// codeOf is the code of a refusal, "" for none.
func codeOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var refusal *oauth.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("%v is no *oauth.Error", err)
	}
	return refusal.Code
}

var (
	bothGrants = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
	code       = []string{oauth.ResponseTypeCode}
)

// The bodies that clients in the field were seen to send.
var realRegistrations = []struct {
	client, body string
	want         oauth.ClientMetadata
}{
	{
		"mcp-remote",
		`{"redirect_uris":["http://localhost:21033/oauth/callback"],"token_endpoint_auth_method":"none",
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP CLI Client",
		"client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
		"software_version":"0.15.1","scope":"mcp:tools","application_type":"native"}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{"http://localhost:21033/oauth/callback"}, TokenEndpointAuthMethod: oauth.AuthNone,
			GrantTypes: bothGrants, ResponseTypes: code, ClientName: "MCP CLI Client",
			ClientURI: "https://github.com/modelcontextprotocol/mcp-cli", Scope: "mcp:tools",
			SoftwareID: "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d", SoftwareVersion: "0.15.1", ApplicationType: "native",
		},
	},
	{
		"MCP Inspector",
		`{"redirect_uris":["http://127.0.0.1:6276/oauth/callback"],"token_endpoint_auth_method":"none",
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP Inspector","application_type":"native"}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{"http://127.0.0.1:6276/oauth/callback"}, TokenEndpointAuthMethod: oauth.AuthNone,
			GrantTypes: bothGrants, ResponseTypes: code, ClientName: "MCP Inspector", ApplicationType: "native",
		},
	},
	{
		"VS Code, with a grant type that is not offered",
		`{"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com",
		"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],
		"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://127.0.0.1/","http://127.0.0.1:33418/"],
		"token_endpoint_auth_method":"none","application_type":"native"}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{
				"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/",
			},
			TokenEndpointAuthMethod: oauth.AuthNone, GrantTypes: bothGrants, ResponseTypes: code,
			ClientName: "Visual Studio Code", ClientURI: "https://code.visualstudio.com", ApplicationType: "native",
		},
	},
	{
		"Cursor, a mixed list with a scheme without a dot",
		`{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback",
		"https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{
				"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback",
				"http://localhost:8787/callback",
			},
			TokenEndpointAuthMethod: oauth.AuthNone, GrantTypes: bothGrants, ResponseTypes: code, ClientName: "Cursor",
		},
	},
	{
		"the Go SDK, which leaves out the authentication method",
		`{"redirect_uris":["http://localhost:3142/"],"client_name":"go","application_type":"native"}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{"http://localhost:3142/"}, TokenEndpointAuthMethod: oauth.AuthNone,
			GrantTypes: bothGrants, ResponseTypes: code, ClientName: "go", ApplicationType: "native",
		},
	},
	{
		"the TypeScript SDK, with what only hosts know",
		`{"redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"client_name":"Claude","token_endpoint_auth_method":"client_secret_post",
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"scope":"claudeai openid  email",
		"logo_uri":"https://claude.ai/logo.png","contacts":["a@b.example"],"tos_uri":"","policy_uri":null,"jwks":{"keys":[]}}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{"https://claude.ai/api/mcp/auth_callback"}, TokenEndpointAuthMethod: oauth.AuthClientSecretPost,
			GrantTypes: bothGrants, ResponseTypes: code, ClientName: "Claude", Scope: "claudeai openid email",
		},
	},
	{
		"a service account",
		`{"client_name":"nightly","grant_types":["client_credentials"]}`,
		oauth.ClientMetadata{
			RedirectURIs: []string{}, TokenEndpointAuthMethod: oauth.AuthClientSecretBasic,
			GrantTypes: []string{oauth.GrantClientCredentials}, ClientName: "nightly",
		},
	},
}

func TestRegistrationsOfRealClients(t *testing.T) {
	for _, tc := range realRegistrations {
		t.Run(tc.client, func(t *testing.T) {
			got, err := register(tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRegistrationRules(t *testing.T) {
	const uris = `"redirect_uris":["https://app.example/cb"]`
	many := strings.Repeat(`"https://app.example/cb",`, oauth.MaxRedirectURIs) + `"https://app.example/cb"`
	for _, tc := range []struct {
		rule, body, code, says string
	}{
		// JSON.
		{"nothing", ``, "invalid_client_metadata", "not a JSON object"},
		{"null", `null`, "invalid_client_metadata", "not a JSON object"},
		{"an array", `[{` + uris + `}]`, "invalid_client_metadata", "not a JSON object"},
		{"a string", `"x"`, "invalid_client_metadata", "not a JSON object"},
		{"two objects", `{` + uris + `}{}`, "invalid_client_metadata", "not a JSON object"},
		{"a body that was cut off", `{` + uris, "invalid_client_metadata", "not a JSON object"},
		{"bytes that are not UTF-8", "{" + uris + ",\"client_name\":\"\xff\"}", "invalid_client_metadata", "not UTF-8"},
		{"nesting without end", strings.Repeat(`{"a":`, 20_000), "invalid_client_metadata", "not a JSON object"},
		{"deep nesting in an unknown field", `{` + uris + `,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, "invalid_client_metadata", "not a JSON object"},
		{"white space around", " \n{" + uris + "}\n ", "", ""},
		{"unknown fields of any type", `{` + uris + `,"x":{"y":[1]},"jwks_uri":7,"logo_uri":false}`, "", ""},
		{"null counts as absent", `{` + uris + `,"scope":null,"grant_types":null,"client_name":null}`, "", ""},

		// Wrong types name their field.
		{"redirect_uris is a string", `{"redirect_uris":"https://app.example/cb"}`, "invalid_client_metadata", "redirect_uris has the wrong"},
		{"redirect_uris holds a number", `{"redirect_uris":[1]}`, "invalid_client_metadata", "redirect_uris has the wrong"},
		{"grant_types is a string", `{` + uris + `,"grant_types":"authorization_code"}`, "invalid_client_metadata", "grant_types has the wrong"},
		{"client_name is a number", `{` + uris + `,"client_name":1}`, "invalid_client_metadata", "client_name has the wrong"},
		{"scope is an array", `{` + uris + `,"scope":["mcp"]}`, "invalid_client_metadata", "scope has the wrong"},
		{"the method is an object", `{` + uris + `,"token_endpoint_auth_method":{}}`, "invalid_client_metadata", "token_endpoint_auth_method has the wrong"},

		// Redirect URIs.
		{"none", `{}`, "invalid_redirect_uri", "redirect_uris is missing"},
		{"an empty list", `{"redirect_uris":[]}`, "invalid_redirect_uri", "redirect_uris is missing"},
		{"null in the list", `{"redirect_uris":[null]}`, "invalid_redirect_uri", "redirect_uris[0] is empty"},
		{"the bad entry is named", `{"redirect_uris":["https://app.example/cb","javascript:alert(1)"]}`, "invalid_redirect_uri", "redirect_uris[1] has a scheme"},
		{"http elsewhere", `{"redirect_uris":["http://app.example/cb"]}`, "invalid_redirect_uri", "redirect_uris[0] uses http"},
		{"too many", `{"redirect_uris":[` + many + `]}`, "invalid_redirect_uri", "more than 32"},
		{"field names count in their case", `{"Redirect_URIs":["https://app.example/cb"]}`, "invalid_redirect_uri", "redirect_uris is missing"},
		{"an escaped name is the same name", `{"\u0072edirect_uris":["https://app.example/cb"]}`, "", ""},

		// Grants, response types, authentication.
		{"an unknown grant type alone", `{` + uris + `,"grant_types":["implicit"]}`, "invalid_client_metadata", "grant_types has none"},
		{"refresh alone", `{` + uris + `,"grant_types":["refresh_token"]}`, "invalid_client_metadata", "grant_types has none"},
		{"an unknown response type alone", `{` + uris + `,"response_types":["token"]}`, "invalid_client_metadata", "response_types has none"},
		{"code among other response types", `{` + uris + `,"response_types":["token","code"]}`, "", ""},
		{"private_key_jwt", `{` + uris + `,"token_endpoint_auth_method":"private_key_jwt"}`, "invalid_client_metadata", "token_endpoint_auth_method must be"},
		{"a public service account", `{"grant_types":["client_credentials"],"token_endpoint_auth_method":"none"}`, "invalid_client_metadata", "needs a client secret"},

		// Texts.
		{"a name that is too long", `{` + uris + `,"client_name":"` + strings.Repeat("a", 513) + `"}`, "invalid_client_metadata", "client_name is longer"},
		{"the longest name", `{` + uris + `,"client_name":"` + strings.Repeat("a", 512) + `"}`, "", ""},
		{"a software_id that is too long", `{` + uris + `,"software_id":"` + strings.Repeat("a", 513) + `"}`, "invalid_client_metadata", "software_id is longer"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			_, err := register(tc.body)
			if got := codeOf(t, err); got != tc.code {
				t.Fatalf("got %q (%v), want %q", got, err, tc.code)
			}
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %q, which does not say %q", err, tc.says)
			}
		})
	}
}

func TestOfEqualFieldNamesTheLastCounts(t *testing.T) {
	got, err := register(`{"redirect_uris":["javascript:1"],"REDIRECT_URIS":["http://evil.example/"],"redirect_uris":["https://app.example/cb"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://app.example/cb"}, got.RedirectURIs); diff != "" {
		t.Error(diff)
	}
}

func TestNamesLoseWhatActsUnseen(t *testing.T) {
	got, err := register(`{"redirect_uris":["https://app.example/cb"],"client_name":"Cl\u0000\u001b[31m\u202eau\u2066\u200bde\u2028\n Größe 🙂"}`)
	if err != nil {
		t.Fatal(err)
	}
	if want := "Cl[31maude Größe 🙂"; got.ClientName != want {
		t.Errorf("got %q, want %q", got.ClientName, want)
	}
}

// Clients parse the answer strictly: no null, no empty address, redirect_uris
// always, and an expiry beside every secret.
func TestClientInformationAsClientsParseIt(t *testing.T) {
	for _, tc := range []struct{ rule, body, want string }{
		{
			"a public client",
			`{"redirect_uris":["https://app.example/cb"],"client_uri":"","client_name":null}`,
			`{"client_id":"mcp_1","client_id_issued_at":7,"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"none",` +
				`"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`,
		},
		{
			"a service account",
			`{"grant_types":["client_credentials"]}`,
			`{"client_id":"mcp_1","client_id_issued_at":7,"client_secret":"s","client_secret_expires_at":0,"redirect_uris":[],` +
				`"token_endpoint_auth_method":"client_secret_basic","grant_types":["client_credentials"]}`,
		},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			m, err := register(tc.body)
			if err != nil {
				t.Fatal(err)
			}
			info := oauth.ClientInformation{ClientID: "mcp_1", ClientIDIssuedAt: 7, ClientMetadata: m}
			if m.TokenEndpointAuthMethod != oauth.AuthNone {
				info.ClientSecret, info.ClientSecretExpiresAt = "s", new(int64)
			}
			got, err := json.Marshal(info)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func FuzzClientMetadata(f *testing.F) {
	for _, body := range []string{
		`{"redirect_uris":["https://app.example/cb"],"client_name":"x"}`,
		`{"redirect_uris":["cursor://x/cb"],"grant_types":["authorization_code","x"],"scope":"a a \""}`,
		`{"grant_types":["client_credentials"],"token_endpoint_auth_method":"client_secret_post"}`,
		`{"client_name":"\ud800\u202e"}`, `null`, `{"redirect_uris":null}`, "{\"x\":\"\xff\"}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := oauth.DecodeClientMetadata(body)
		if err == nil {
			err = m.Normalize()
		}
		if err != nil {
			if c := codeOf(t, err); c != "invalid_client_metadata" && c != "invalid_redirect_uri" {
				t.Fatalf("%s is no code of RFC 7591", c)
			}
			return
		}
		if err := checkNormal(m); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		again := m
		if err := again.Normalize(); err != nil {
			t.Fatalf("what was normalized is refused: %v", err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatalf("normalizing twice is not normalizing once: %s", diff)
		}
	})
}

// checkNormal holds what is true of every accepted registration.
func checkNormal(m oauth.ClientMetadata) error {
	machine := false
	for _, g := range m.GrantTypes {
		machine = machine || g == oauth.GrantClientCredentials
	}
	if machine && m.TokenEndpointAuthMethod == oauth.AuthNone {
		return errors.New("a public client may act for itself")
	}
	if m.RedirectURIs == nil || len(m.RedirectURIs) > oauth.MaxRedirectURIs {
		return fmt.Errorf("%d redirect URIs", len(m.RedirectURIs))
	}
	for _, uri := range m.RedirectURIs {
		if err := oauth.CheckRedirectURI(uri); err != nil {
			return fmt.Errorf("%s %w", uri, err)
		}
	}
	for _, text := range []string{m.ClientName, m.ClientURI, m.SoftwareID, m.SoftwareVersion, m.ApplicationType} {
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }) {
			return fmt.Errorf("%q has a character that acts unseen", text)
		}
	}
	return nil
}
