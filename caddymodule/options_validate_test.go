package caddymodule

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

const testHash = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"

// The texts of the errors are in testdata/adapt; here it is the field that
// users of JSON are told.
func TestValidateNamesTheField(t *testing.T) {
	for name, tt := range map[string]struct {
		options string
		want    string
	}{
		"auth type":                   {`{"auth_type": "oauth2"}`, "auth_type"},
		"name with a line break":      {`{"name": "A\nB"}`, "name"},
		"issuer with a slash":         {`{"issuer": "https://mcp.example.com/"}`, "issuer"},
		"omitted authentication":      {`{"dangerously_omit_auth": "yes"}`, "dangerously_omit_auth"},
		"omission by a placeholder":   {`{"dangerously_omit_auth": "{env.OMIT}"}`, "dangerously_omit_auth"},
		"user without a name":         {`{"users": [{"name": "", "hash": "` + testHash + `"}]}`, "users[0]"},
		"second user of a name":       {`{"users": [{"name": "a", "hash": "{env.A}"}, {"name": "a", "hash": "{env.B}"}]}`, "users[1]"},
		"bearer token without token":  {`{"bearer_tokens": [{"token": ""}]}`, "bearer_tokens[0]"},
		"scope of a bearer token":     {`{"bearer_tokens": [{"token": "{env.T}", "scopes": ["a", "b c"]}]}`, "bearer_tokens[0].scopes[1]"},
		"client without anything":     {`{"clients": [{"id": "a"}]}`, "clients[0]"},
		"client without identifier":   {`{"clients": [{"secret": "{env.S}"}]}`, "clients[0]"},
		"redirect URI":                {`{"clients": [{"id": "a", "redirect_uris": ["https://a.example", "b"]}]}`, "clients[0].redirect_uris[1]"},
		"secret":                      {`{"clients": [{"id": "a", "secret": "x"}]}`, "clients[0].secret"},
		"grant type":                  {`{"clients": [{"id": "a", "secret": "{env.S}", "grant_types": ["password"]}]}`, "clients[0].grant_types[0]"},
		"registration in words":       {`{"registration": {"dynamic": ["true"]}}`, "registration.dynamic[0]"},
		"registration off and hosts":  {`{"registration": {"dynamic": ["claude.ai", "off"]}}`, "registration.dynamic[1]"},
		"documents in words":          {`{"registration": {"metadata_documents": ["true"]}}`, "registration.metadata_documents[0]"},
		"documents on and hosts":      {`{"registration": {"metadata_documents": ["claude.ai", "on"]}}`, "registration.metadata_documents[1]"},
		"documents of loopback":       {`{"registration": {"metadata_documents": ["localhost"]}}`, "registration.metadata_documents[0]"},
		"documents of a pattern":      {`{"registration": {"metadata_documents": ["*.example.com"]}}`, "registration.metadata_documents[0]"},
		"keys over http":              {`{"clients": [{"id": "a", "jwks_uri": "http://a.example/jwks"}]}`, "clients[0].jwks_uri"},
		"keys with a user":            {`{"clients": [{"id": "a", "jwks_uri": "https://u@a.example/jwks"}]}`, "clients[0].jwks_uri"},
		"keys and a secret":           {`{"clients": [{"id": "a", "secret": "{env.S}", "jwks_uri": "{env.J}"}]}`, "clients[0].jwks_uri"},
		"expiry of registrations":     {`{"registration": {"expire_after": -1}}`, "registration.expire_after"},
		"service accounts":            {`{"registration": {"service_accounts": "all"}}`, "registration.service_accounts"},
		"resource without a path":     {`{"resources": [{"name": "A"}]}`, "resources[0]"},
		"resource by a placeholder":   {`{"resources": [{"path": "/{env.X}"}]}`, "resources[0]"},
		"scope without a sentence":    {`{"scopes": [{"name": "a"}]}`, "scopes[0]"},
		"short access tokens":         {`{"access_token_lifetime": "4m"}`, "access_token_lifetime"},
		"negative refresh tokens":     {`{"refresh_token_lifetime": -1}`, "refresh_token_lifetime"},
		"long grace":                  {`{"refresh_token_grace": "10m1s"}`, "refresh_token_grace"},
		"negative sessions":           {`{"session_lifetime": -1}`, "session_lifetime"},
		"long codes":                  {`{"code_lifetime": "1h"}`, "code_lifetime"},
		"header with a space":         {`{"forward": [{"header": "X User", "value": "a"}]}`, "forward[0]"},
		"header with a line break":    {`{"forward": [{"header": "X-User", "value": "a\nb"}]}`, "forward[0]"},
		"header in two spellings":     {`{"forward": [{"header": "X-User", "value": "a"}, {"header": "x.user", "value": "b"}]}`, "forward[1]"},
		"limit that there is none of": {`{"rate_limits": {"logins": {"max": 1, "window": "1m"}}}`, "rate_limits.logins"},
		"limit without a window":      {`{"rate_limits": {"login": {"max": 1}}}`, "rate_limits.login"},
		"first of two faulty limits":  {`{"rate_limits": {"token": {}, "login": {"max": -1}}}`, "rate_limits.login"},
		"origin of everyone":          {`{"cors_origins": ["*"]}`, "cors_origins[0]"},
		"null for CORS":               {`{"cors_origins": ["https://a.example", "null"]}`, "cors_origins[1]"},
		"origin header":               {`{"allow_origins": ["null", "a"]}`, "allow_origins[1]"},
		"colour":                      {`{"ui": {"accent": "#12"}}`, "ui.accent"},
		"help over http":              {`{"ui": {"help_url": "http://a.example"}}`, "ui.help_url"},
		"help with script":            {`{"ui": {"help_url": "javascript:alert(1)"}}`, "ui.help_url"},
	} {
		var o Options
		if err := caddy.StrictUnmarshalJSON([]byte(tt.options), &o); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		fault, ok := errors.AsType[*fieldError](o.validate())
		if !ok {
			t.Errorf("%s: is accepted", name)
			continue
		}
		if fault.path != tt.want {
			t.Errorf("%s: the field is %s, want %s", name, fault.path, tt.want)
		}
		if !strings.HasPrefix(fault.Error(), tt.want+": ") {
			t.Errorf("%s: the text does not begin with the field: %v", name, fault)
		}
	}
}

func TestValidateAccepts(t *testing.T) {
	for name, options := range map[string]string{
		"nothing":                 `{}`,
		"issuer by a placeholder": `{"issuer": "https://{env.HOST}"}`,
		"issuers on loopback":     `{"issuer": "http://mcp.localhost:8080"}`,
		"issuer on IPv6 loopback": `{"issuer": "http://[::1]:8080"}`,
		"secrets by placeholders": `{"users": [{"name": "a", "hash": "{file./run/secrets/a}", "email": "{env.MAIL}"}],
			"bearer_tokens": [{"token": "{env.T}"}], "clients": [{"id": "a", "secret": "{env.S}"}]}`,
		"documents of hosts":             `{"registration": {"metadata_documents": ["claude.ai", "vscode.dev"], "metadata_documents_on_loopback": true}}`,
		"documents off":                  `{"registration": {"metadata_documents": ["off"]}}`,
		"keys in a private network":      `{"clients": [{"id": "a", "jwks_uri": "https://10.0.0.1:8443/", "grant_types": ["client_credentials"]}]}`,
		"keys by a placeholder":          `{"clients": [{"id": "a", "jwks_uri": "{env.J}"}]}`,
		"hash as a client secret":        `{"clients": [{"id": "a", "secret": "` + testHash + `"}]}`,
		"bounds of lifetimes":            `{"access_token_lifetime": "5m", "refresh_token_grace": "10m", "code_lifetime": "10m"}`,
		"a limit that is off":            `{"rate_limits": {"login": {"max": 0, "window": 0}}}`,
		"names in other scripts":         `{"name": "Müller 株式会社", "users": [{"name": "Zoë", "hash": "` + testHash + `"}]}`,
		"paths of several segments":      `{"resources": [{"path": "/a/b-c_d.e~1"}, {"path": "/token/mcp"}]}`,
		"registration from loopback":     `{"registration": {"dynamic": ["localhost", "127.0.0.1", "claude.ai"]}}`,
		"origins of extensions and apps": `{"cors_origins": ["chrome-extension://abc"], "allow_origins": ["app://obsidian.md", "null"]}`,
	} {
		var o Options
		if err := caddy.StrictUnmarshalJSON([]byte(options), &o); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := o.validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsNameNoSecret(t *testing.T) {
	for name, o := range map[string]Options{
		"password for a hash":      {Users: []User{{Name: "alice", Hash: "hunter2hunter2"}}},
		"damaged hash":             {Users: []User{{Name: "alice", Hash: "$2a$14$hunter2hunter2"}}},
		"short bearer token":       {BearerTokens: []BearerToken{{Token: "hunter2"}}},
		"bearer token with spaces": {BearerTokens: []BearerToken{{Token: "hunter2 hunter2 hunter2"}}},
		"bearer token twice":       {BearerTokens: []BearerToken{{Token: "hunter2hunter2hunter2"}, {Token: "hunter2hunter2hunter2"}}},
		"short client secret":      {Clients: []Client{{ID: "a", Secret: "hunter2"}}},
		"value of a header":        {Forward: []Forward{{Header: "Authorization", Value: "Bearer hunter2\n"}}},
	} {
		err := o.validate()
		if err == nil {
			t.Errorf("%s: is accepted", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells it: %v", name, err)
		}
	}
}
