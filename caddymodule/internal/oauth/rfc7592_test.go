package oauth_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestDecodeClientUpdate(t *testing.T) {
	const uris = `"redirect_uris":["https://app.example/cb"]`
	for _, tc := range []struct {
		rule, body string
		want       oauth.ClientUpdate
		refusal    string // a part of the description
	}{
		{"all that there can be", `{"client_id":"mcp_1","client_secret":"s",` + uris + `,"client_name":"App"}`, oauth.ClientUpdate{
			ClientID: "mcp_1", ClientSecret: "s",
			ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://app.example/cb"}, ClientName: "App"},
		}, ""},
		{"no secret", `{"client_id":"mcp_1","client_secret":null,"client_id_issued_at":null}`, oauth.ClientUpdate{ClientID: "mcp_1"}, ""},
		{"no id", `{}`, oauth.ClientUpdate{}, ""},
		{"unknown fields", `{"client_id":"mcp_1","Client_Secret":1,"x":{}}`, oauth.ClientUpdate{ClientID: "mcp_1"}, ""},
		{"an id of another type", `{"client_id":1}`, oauth.ClientUpdate{}, "client_id has"},
		{"a secret of another type", `{"client_id":"mcp_1","client_secret":["s"]}`, oauth.ClientUpdate{}, "client_secret has"},
		{"metadata of another type", `{"client_id":"mcp_1","redirect_uris":"x"}`, oauth.ClientUpdate{}, "redirect_uris has"},
		{"the registration access token", `{"client_id":"mcp_1","registration_access_token":"t"}`, oauth.ClientUpdate{}, "registration_access_token must"},
		{"the address", `{"client_id":"mcp_1","registration_client_uri":"t"}`, oauth.ClientUpdate{}, "registration_client_uri must"},
		{"an expiry", `{"client_id":"mcp_1","client_secret_expires_at":0}`, oauth.ClientUpdate{}, "client_secret_expires_at must"},
		{"a date", `{"client_id":"mcp_1","client_id_issued_at":1}`, oauth.ClientUpdate{}, "client_id_issued_at must"},
		{"no object", `[]`, oauth.ClientUpdate{}, "not a JSON object"},
		{"null", `null`, oauth.ClientUpdate{}, "not a JSON object"},
		{"nothing", ``, oauth.ClientUpdate{}, "not a JSON object"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			got, err := oauth.DecodeClientUpdate([]byte(tc.body))
			if tc.refusal != "" {
				if err == nil || codeOf(t, err) != "invalid_client_metadata" || !strings.Contains(err.Error(), tc.refusal) {
					t.Errorf("got %v, want an error with %q", err, tc.refusal)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClientInformationOfAManagedClient(t *testing.T) {
	got, err := json.Marshal(oauth.ClientInformation{
		ClientID: "mcp_1", ClientIDIssuedAt: 7,
		ClientManagement: oauth.ClientManagement{RegistrationAccessToken: "t", RegistrationClientURI: "https://mcp.example/register/mcp_1"},
	})
	const want = `{"client_id":"mcp_1","client_id_issued_at":7,"registration_access_token":"t",` +
		`"registration_client_uri":"https://mcp.example/register/mcp_1","redirect_uris":null}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func FuzzDecodeClientUpdate(f *testing.F) {
	for _, body := range []string{
		`{"client_id":"mcp_1","client_secret":"s","redirect_uris":["https://app.example/cb"]}`,
		`{"client_id":"mcp_1","registration_access_token":"t"}`, `{"client_secret":null}`, `null`, `[`, "{\"client_id\":\"\xff\"}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		u, err := oauth.DecodeClientUpdate(body)
		m, registered := oauth.DecodeClientMetadata(body)
		if err != nil {
			if c := codeOf(t, err); c != "invalid_client_metadata" {
				t.Fatalf("the code is %s", c)
			}
			return
		}
		if registered != nil {
			t.Fatalf("what cannot be registered can be an update: %v", registered)
		}
		if diff := cmp.Diff(m, u.ClientMetadata); diff != "" {
			t.Fatal(diff)
		}
	})
}
