package oauth_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestClientIDURLs(t *testing.T) {
	for rule, id := range map[string]string{
		"a path":                         "https://client.example/metadata.json",
		"a short path":                   "https://client.example/a",
		"a slash at its end":             "https://client.example/oauth/",
		"a port":                         "https://client.example:8443/metadata.json",
		"a query, which is frowned upon": "https://client.example/metadata?v=1",
		"dots that are no segment":       "https://client.example/.well-known/a..b/...",
		"an escape":                      "https://client.example/a%20b",
		"a name that looks like a number at first": "https://1.example/a",
	} {
		if err := oauth.CheckClientIDURL(id, false); err != nil {
			t.Errorf("%s: %q %v", rule, id, err)
		}
	}
	for rule, id := range map[string]string{
		"empty":                        "",
		"http":                         "http://client.example/metadata.json",
		"another scheme":               "ftp://client.example/metadata.json",
		"no scheme":                    "client.example/metadata.json",
		"an upper-case scheme":         "HTTPS://client.example/metadata.json",
		"no host":                      "https:///metadata.json",
		"opaque":                       "https:client.example/metadata.json",
		"no path":                      "https://client.example",
		"the root":                     "https://client.example/",
		"a query without a path":       "https://client.example?a=/b",
		"a fragment":                   "https://client.example/metadata.json#a",
		"an empty fragment":            "https://client.example/metadata.json#",
		"a user":                       "https://user@client.example/metadata.json",
		"a user and a password":        "https://user:password@client.example/metadata.json",
		"an empty user":                "https://@client.example/metadata.json",
		"an escaped at sign in it":     "https://user%40client.example/metadata.json",
		"a dot segment":                "https://client.example/a/./b",
		"two dots":                     "https://client.example/a/../b",
		"two dots at the end":          "https://client.example/a/..",
		"an escaped dot":               "https://client.example/a/%2e/b",
		"escaped dots":                 "https://client.example/a/%2E%2e/b",
		"half escaped dots":            "https://client.example/a/.%2e/b",
		"a space":                      "https://client.example/a b",
		"a line break":                 "https://client.example/a\nb",
		"a backslash":                  `https://client.example\@evil.example/a`,
		"a letter of another script":   "https://clіent.example/a",
		"a broken escape":              "https://client.example/a%zz",
		"an upper-case host":           "https://Client.example/a",
		"port zero":                    "https://client.example:0/a",
		"an empty port":                "https://client.example:/a",
		"a port that is too large":     "https://client.example:65536/a",
		"a port with a leading zero":   "https://client.example:0443/a",
		"a port that is no number":     "https://client.example:https/a",
		"localhost":                    "https://localhost/a",
		"localhost with a port":        "https://localhost:8443/a",
		"a name of one label":          "https://intranet/a",
		"a name with a dot at its end": "https://client.example./a",
		"loopback":                     "https://127.0.0.1/a",
		"an address":                   "https://8.8.8.8/a",
		"an address of IPv6":           "https://[2606:4700::1111]/a",
		"loopback of IPv6":             "https://[::1]/a",
		"a mapped address":             "https://[::ffff:127.0.0.1]/a",
		"a zone":                       "https://[fe80::1%25eth0]/a",
		"an address as a number":       "https://2130706433/a",
		"a short address":              "https://127.1/a",
		"an address in octal":          "https://0177.0.0.01/a",
		"an address in hexadecimal":    "https://0x7f.0.0.1/a",
		"an escape in the host":        "https://client%2eexample/a",
		"too long":                     "https://client.example/" + strings.Repeat("a", oauth.MaxClientIDLength),
	} {
		if oauth.CheckClientIDURL(id, false) == nil {
			t.Errorf("%s: %q is let through", rule, id)
		}
	}
}

func TestTheSwitchForTestsOpensLoopbackOnly(t *testing.T) {
	for _, id := range []string{"http://localhost:1234/a", "https://localhost/a", "http://127.0.0.1:1/a", "https://[::1]:8443/a"} {
		if err := oauth.CheckClientIDURL(id, true); err != nil {
			t.Errorf("%q %v", id, err)
		}
	}
	for _, id := range []string{
		"http://client.example/a", "https://10.0.0.1/a", "http://127.0.0.2/a", "http://localhost.evil.example/a",
		"http://localhost/", "ftp://localhost/a", "http://user@localhost/a", "http://169.254.169.254/a", "http://intranet/a",
	} {
		if oauth.CheckClientIDURL(id, true) == nil {
			t.Errorf("%q is let through", id)
		}
	}
}

const documentURL = "https://client.example/metadata.json"

// document returns a document that is fine but for the changes: pairs of a member
// and its JSON, of which "" takes the member away.
func document(pairs ...string) []byte {
	fields := map[string]json.RawMessage{
		"client_id": json.RawMessage(`"` + documentURL + `"`), "client_name": json.RawMessage(`"Client"`),
		"redirect_uris": json.RawMessage(`["https://client.example/cb"]`),
	}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i]] = json.RawMessage(pairs[i+1])
		if pairs[i+1] == "" {
			delete(fields, pairs[i])
		}
	}
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return data
}

func TestDocumentsOfClientsInTheField(t *testing.T) {
	for rule, body := range map[string][]byte{
		"the least that is required": document(),
		"Claude Code": document("client_name", `"Claude Code"`, "client_uri", `"https://claude.ai"`,
			"redirect_uris", `["http://localhost/callback","http://127.0.0.1/callback"]`,
			"grant_types", `["authorization_code","refresh_token"]`, "response_types", `["code"]`, "token_endpoint_auth_method", `"none"`),
		"VS Code": document("redirect_uris", `["http://127.0.0.1/","https://vscode.dev/redirect","vscode://dynamicauthprovider/redirect"]`,
			"grant_types", `["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"]`,
			"application_type", `"native"`, "token_endpoint_auth_method", `"none"`),
		"unknown members, and null": document("logo_uri", `"https://client.example/logo.png"`, "x", `{"a":[1]}`, "scope", `null`),
		"keys":                      document("token_endpoint_auth_method", `"private_key_jwt"`, "jwks", `{"keys":[]}`),
		"the address of keys":       document("token_endpoint_auth_method", `"private_key_jwt"`, "jwks_uri", `"https://client.example/jwks"`),
	} {
		doc, err := oauth.DecodeClientDocument(body, documentURL)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		if signs := doc.TokenEndpointAuthMethod == oauth.AuthPrivateKeyJWT; signs != (doc.JWKS != nil || doc.JWKSURI != "") ||
			slices.Contains(doc.GrantTypes, oauth.GrantClientCredentials) || !slices.Contains(doc.GrantTypes, oauth.GrantAuthorizationCode) {
			t.Errorf("%s: %+v", rule, doc)
		}
	}
	doc, err := oauth.DecodeClientDocument(document("grant_types", `["authorization_code","client_credentials"]`), documentURL)
	if err != nil || slices.Contains(doc.GrantTypes, oauth.GrantClientCredentials) {
		t.Errorf("client_credentials beside another grant: %+v, %v", doc, err)
	}
	doc, err = oauth.DecodeClientDocument(document("grant_types", `["urn:ietf:params:oauth:grant-type:device_code"]`, "redirect_uris", ""), documentURL)
	if err != nil || !slices.Equal(doc.GrantTypes, []string{oauth.GrantDeviceCode}) {
		t.Errorf("a client of the device grant alone: %+v, %v", doc, err)
	}
}

// A provider may vouch for a client in place of a person, but it is the client that
// says so.
func TestDocumentsOfClientsThatAProviderVouchesFor(t *testing.T) {
	const assertions = `"` + oauth.GrantJWTBearer + `"`
	for rule, tt := range map[string]struct {
		body []byte
		want []string
	}{
		"beside people":          {document("grant_types", `["authorization_code",`+assertions+`,"refresh_token"]`), []string{"authorization_code", oauth.GrantJWTBearer, "refresh_token"}},
		"alone":                  {document("grant_types", `[`+assertions+`]`, "redirect_uris", ""), []string{oauth.GrantJWTBearer}},
		"beside what is not":     {document("grant_types", `["client_credentials",`+assertions+`]`), []string{oauth.GrantJWTBearer}},
		"by people only":         {document("grant_types", `["authorization_code"]`), []string{"authorization_code"}},
		"where nothing is said":  {document(), []string{"authorization_code", "refresh_token"}},
		"in a word like it":      {document("grant_types", `["authorization_code","jwt-bearer"]`), []string{"authorization_code"}},
		"twice, and with a name": {document("grant_types", `[`+assertions+`,`+assertions+`]`, "client_name", `" A "`), []string{oauth.GrantJWTBearer}},
	} {
		doc, err := oauth.DecodeClientDocument(tt.body, documentURL)
		if err != nil || !slices.Equal(doc.GrantTypes, tt.want) {
			t.Errorf("%s: %q, %v, want %q", rule, doc.GrantTypes, err, tt.want)
		}
		if !slices.Contains(tt.want, oauth.GrantAuthorizationCode) && len(doc.RedirectURIs) > 0 {
			t.Errorf("%s: answers may go to %q", rule, doc.RedirectURIs)
		}
	}
	if doc, err := oauth.DecodeClientDocument(document("grant_types", `[`+assertions+`]`, "client_name", `" "`), documentURL); err == nil {
		t.Errorf("without a name: %+v", doc)
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	for rule, body := range map[string][]byte{
		"nothing":                                nil,
		"no JSON":                                []byte("<html>"),
		"a list":                                 []byte("[]"),
		"null":                                   []byte("null"),
		"two objects":                            append(document(), document()...),
		"no UTF-8":                               document("client_name", "\"\xff\""),
		"no client_id":                           document("client_id", ""),
		"another client_id":                      document("client_id", `"https://client.example/other.json"`),
		"client_id of another host":              document("client_id", `"https://evil.example/metadata.json"`),
		"client_id in other letters":             document("client_id", `"https://client.example/Metadata.json"`),
		"client_id with a slash more":            document("client_id", `"`+documentURL+`/"`),
		"client_id that is equal in normal form": document("client_id", `"https://client.example:443/metadata.json"`),
		"client_id that is no text":              document("client_id", `["`+documentURL+`"]`),
		"Client_ID":                              document("client_id", "", "Client_ID", `"`+documentURL+`"`),
		"no client_name":                         document("client_name", ""),
		"an empty client_name":                   document("client_name", `""`),
		"a client_name of spaces":                document("client_name", `"  "`),
		"a client_name nobody can see":           document("client_name", `"\u200b\u202e"`),
		"a client_name that is no text":          document("client_name", `1`),
		"a client_name that is too long":         document("client_name", `"`+strings.Repeat("a", 513)+`"`),
		"no redirect_uris":                       document("redirect_uris", ""),
		"empty redirect_uris":                    document("redirect_uris", `[]`),
		"redirect_uris that are text":            document("redirect_uris", `"https://client.example/cb"`),
		"a redirect URI with script":             document("redirect_uris", `["https://client.example/cb","javascript:alert(1)"]`),
		"a redirect URI over http":               document("redirect_uris", `["http://client.example/cb"]`),
		"a redirect URI with a fragment":         document("redirect_uris", `["https://client.example/cb#a"]`),
		"a redirect URI with a wildcard":         document("redirect_uris", `["https://*.client.example/cb"]`),
		"a client_secret":                        document("client_secret", `"s3cret"`),
		"an empty client_secret":                 document("client_secret", `""`),
		"a client_secret that is null":           document("client_secret", `null`),
		"when a secret expires":                  document("client_secret_expires_at", `0`),
		"a secret in other letters":              document("Client_Secret", `"s3cret"`),
		"client_secret_basic":                    document("token_endpoint_auth_method", `"client_secret_basic"`),
		"client_secret_post":                     document("token_endpoint_auth_method", `"client_secret_post"`),
		"client_secret_jwt":                      document("token_endpoint_auth_method", `"client_secret_jwt"`),
		"a method that is not offered":           document("token_endpoint_auth_method", `"tls_client_auth"`),
		"a method in other letters":              document("token_endpoint_auth_method", `"None"`),
		"a key method without keys":              document("token_endpoint_auth_method", `"private_key_jwt"`),
		"a key method with null":                 document("token_endpoint_auth_method", `"private_key_jwt"`, "jwks", `null`),
		"a key method with both":                 document("token_endpoint_auth_method", `"private_key_jwt"`, "jwks", `{"keys":[]}`, "jwks_uri", `"https://client.example/jwks"`),
		"a jwks_uri that is no text":             document("token_endpoint_auth_method", `"private_key_jwt"`, "jwks_uri", `1`),
		"client_credentials":                     document("grant_types", `["client_credentials"]`),
		"refresh_token alone":                    document("grant_types", `["refresh_token"]`),
		"client_credentials and refresh":         document("grant_types", `["client_credentials","refresh_token"]`),
		"a grant that is not offered":            document("grant_types", `["implicit"]`),
		"a response that is not offered":         document("response_types", `["token"]`),
	} {
		if doc, err := oauth.DecodeClientDocument(body, documentURL); err == nil {
			t.Errorf("%s: %+v is let through", rule, doc)
		}
	}
}

// Whatever is let through is https and a public name, and parses to what it says.
func FuzzCheckClientIDURL(f *testing.F) {
	for _, id := range []string{documentURL, "https://a.b:1/c?d", "https://u@a.b/c", "https://a.b/%2e%2e/c", `https://a.b\c`, "https://[::1]/a", "https://127.1/a"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if oauth.CheckClientIDURL(id, false) != nil {
			return
		}
		u, err := url.Parse(id)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || strings.Contains(id, "#") ||
			u.String() != id || !strings.Contains(u.Hostname(), ".") || strings.Contains(u.Hostname(), ":") || len(u.Path) < 2 {
			t.Errorf("%q is let through", id)
		}
		// What a URL library makes of the path goes nowhere else.
		if joined := u.JoinPath(); strings.TrimSuffix(joined.EscapedPath(), "/") != strings.TrimSuffix(u.EscapedPath(), "/") && !strings.Contains(u.EscapedPath(), "//") {
			t.Errorf("%q is cleaned to %q", id, joined)
		}
	})
}

// Whatever is let through has the properties that the server relies on.
func FuzzDecodeClientDocument(f *testing.F) {
	f.Add(document())
	f.Add(document("token_endpoint_auth_method", `"private_key_jwt"`, "jwks", `{"keys":[]}`))
	f.Add(document("client_secret", `"s"`))
	f.Add([]byte(`{"client_id":"` + documentURL + `","client_id":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, err := oauth.DecodeClientDocument(body, documentURL)
		if err != nil {
			return
		}
		var fields map[string]any
		if json.Unmarshal(body, &fields) != nil || fields["client_id"] != documentURL || fields["client_secret"] != nil {
			t.Errorf("%s is let through", body)
		}
		code, device := slices.Contains(doc.GrantTypes, oauth.GrantAuthorizationCode), slices.Contains(doc.GrantTypes, oauth.GrantDeviceCode)
		if strings.TrimSpace(doc.ClientName) == "" || !code && !device || code != (len(doc.RedirectURIs) > 0) ||
			slices.Contains(doc.GrantTypes, oauth.GrantClientCredentials) {
			t.Errorf("%s becomes %+v", body, doc)
		}
		for _, uri := range doc.RedirectURIs {
			if oauth.CheckRedirectURI(uri) != nil {
				t.Errorf("the redirect URI %q is let through", uri)
			}
		}
		switch doc.TokenEndpointAuthMethod {
		case oauth.AuthNone:
			if doc.JWKS != nil || doc.JWKSURI != "" {
				t.Errorf("a public client with keys: %s", body)
			}
		case oauth.AuthPrivateKeyJWT:
			if (doc.JWKS == nil) == (doc.JWKSURI == "") {
				t.Errorf("a client without one source of keys: %s", body)
			}
		default:
			t.Errorf("the method %q is let through", doc.TokenEndpointAuthMethod)
		}
	})
}
