package caddymodule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
)

func TestPlaceholdersAreReplacedWhenTheConfigurationIsLoaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from-a-file-1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MCP_TEST_HASH", cheapBcrypt)
	t.Setenv("MCP_TEST_TOKEN", "from-the-environment")
	t.Setenv("MCP_TEST_HOST", "mcp.example.com")
	o := Options{
		Name: "At {env.MCP_TEST_HOST}", Issuer: "https://{env.MCP_TEST_HOST}",
		Users: []User{{Name: "alice", Hash: "{env.MCP_TEST_HASH}", Email: "alice@{env.MCP_TEST_HOST}"}, {Name: "bob", Hash: cheapArgon2}},
		BearerTokens: []BearerToken{
			{Token: "{env.MCP_TEST_TOKEN}", Scopes: []string{"a"}}, {Token: "{env.MCP_TEST_UNSET}"}, {Token: "{file." + file + "}"},
		},
		Clients: []Client{
			{ID: "robot", Secret: "{file." + file + "}"}, {ID: "signer", JWKSURI: "https://{env.MCP_TEST_HOST}/jwks"},
			{ID: "app", RedirectURIs: []string{"https://{env.MCP_TEST_HOST}/cb", "{env.MCP_TEST_UNSET}", "http://localhost/cb"}},
		},
		CORSOrigins: []string{"https://{env.MCP_TEST_HOST}", "{env.MCP_TEST_UNSET}"}, AllowOrigins: []string{"null", "{env.MCP_TEST_UNSET}"},
	}
	if err := o.provision(); err != nil {
		t.Fatal(err)
	}
	want := Options{
		Name: "At mcp.example.com", Issuer: "https://mcp.example.com",
		Users:        []User{{Name: "alice", Hash: cheapBcrypt, Email: "alice@mcp.example.com"}, {Name: "bob", Hash: cheapArgon2}},
		BearerTokens: []BearerToken{{Token: "from-the-environment", Scopes: []string{"a"}}, {Token: "from-a-file-1234"}},
		Clients: []Client{
			{ID: "robot", Secret: "from-a-file-1234"}, {ID: "signer", JWKSURI: "https://mcp.example.com/jwks"},
			{ID: "app", RedirectURIs: []string{"https://mcp.example.com/cb", "http://localhost/cb"}},
		},
		CORSOrigins: []string{"https://mcp.example.com"}, AllowOrigins: []string{"null"},
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestWhatPlaceholdersStandForIsChecked(t *testing.T) {
	t.Setenv("MCP_TEST_TEMPLATE", "{{ .Secret }}")
	t.Setenv("MCP_TEST_SHORT", "hunter2")
	t.Setenv("MCP_TEST_PASSWORD", "correct horse")
	const set = ". Set the variable, or write the file, before Caddy starts"
	const nested = "what the placeholder stands for has a placeholder itself, which is not replaced. Write the value there"
	const unknown = "unrecognized placeholder {en.X}. Write, for example: {env.NAME}"
	user := func(hash string) Options { return Options{Users: []User{{Name: "alice", Hash: hash}}} }
	client := func(secret string) Options { return Options{Clients: []Client{{ID: "robot", Secret: secret}}} }
	token := func(token string) Options { return Options{BearerTokens: []BearerToken{{Token: token}}} }
	for name, tt := range map[string]struct {
		options Options
		want    string
	}{
		"hash that is not set":     {user("{env.MCP_TEST_UNSET}"), "the hash of the user alice: evaluated placeholder {env.MCP_TEST_UNSET} is empty" + set},
		"hash in a missing file":   {user("{file./nowhere/hash}"), "the hash of the user alice: evaluated placeholder {file./nowhere/hash} is empty" + set},
		"hash misspelled":          {user("{en.X}"), "the hash of the user alice: unrecognized placeholder {en.X}" + set},
		"hash of a template":       {user("{env.MCP_TEST_TEMPLATE}"), "the hash of the user alice: " + nested},
		"password for a hash":      {user("{env.MCP_TEST_PASSWORD}"), "users[0]: the user 'alice' has a password where its hash belongs. Run 'caddy hash-password' and write what it prints: user alice $2a$14$…"},
		"secret that is not set":   {client("{env.MCP_TEST_UNSET}"), "the client robot: secret: evaluated placeholder {env.MCP_TEST_UNSET} is empty" + set},
		"secret that is too short": {client("{env.MCP_TEST_SHORT}"), "clients[0].secret: the secret is too short to be safe: 7 characters of at least 12. Make one with 'openssl rand -hex 32', and write: secret {env.CLIENT_SECRET}"},
		"secret of a template":     {client("{env.MCP_TEST_TEMPLATE}"), "the client robot: secret: " + nested},
		"token misspelled":         {token("{en.X}"), "bearer_token: " + unknown},
		"token of a template":      {token("{env.MCP_TEST_TEMPLATE}"), "bearer_token: " + nested},
		"token that is too short":  {token("{env.MCP_TEST_SHORT}"), "bearer_tokens[0]: the bearer_token is too short to be safe: 7 characters of at least 12. Make one with 'openssl rand -hex 32', and write: bearer_token {env.MCP_BEARER_TOKEN}"},
		"token twice":              {Options{BearerTokens: []BearerToken{{Token: "dev_token_12345"}, {Token: "dev_token_{env.MCP_TEST_UNSET}12345"}}}, "bearer_tokens[1]: the same bearer_token is there twice; name all its scopes on one line: bearer_token <token> [<scopes...>]"},
		"issuer misspelled":        {Options{Issuer: "https://{en.X}"}, "issuer: " + unknown},
		"issuer of nothing":        {Options{Issuer: "https://{env.MCP_TEST_UNSET}"}, "issuer: the issuer 'https://' is not an origin, which is a scheme and a host. Write, for example: issuer https://mcp.example.com"},
		"name misspelled":          {Options{Name: "{en.X}"}, "name: " + unknown},
		"e-mail address":           {Options{Users: []User{{Name: "a", Hash: cheapBcrypt, Email: "{en.X}"}}}, "the e-mail address of the user a: " + unknown},
		"redirect URI":             {Options{Clients: []Client{{ID: "a", RedirectURIs: []string{"{en.X}"}}}}, "the client a: redirect_uris: " + unknown},
		"redirect URIs of nothing": {Options{Clients: []Client{{ID: "a", RedirectURIs: []string{"{env.MCP_TEST_UNSET}"}}}}, "clients[0]: the client 'a' has neither redirect_uris, for people who sign in, nor a secret, for a machine. Add a line, for example: secret {env.CLIENT_SECRET}"},
		"origin of a template":     {Options{CORSOrigins: []string{"{env.MCP_TEST_TEMPLATE}"}}, "cors_origins: " + nested},
		"origin misspelled":        {Options{AllowOrigins: []string{"{en.X}"}}, "allow_origins: " + unknown},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.options.provision()
			if got := fmt.Sprint(err); got != tt.want {
				t.Errorf("got the error\n%s\nwant\n%s", got, tt.want)
			}
			for _, secret := range []string{"hunter2", "correct horse", ".Secret"} {
				if strings.Contains(fmt.Sprint(err), secret) {
					t.Errorf("the error holds what the placeholder stands for: %v", err)
				}
			}
		})
	}
}

func TestAdaptedConfigurationHoldsNoSecret(t *testing.T) {
	t.Setenv("MCP_TEST_HASH", cheapBcrypt)
	t.Setenv("MCP_TEST_TOKEN", "from-the-environment")
	lines := "user alice {env.MCP_TEST_HASH}\nbearer_token {env.MCP_TEST_TOKEN}\nclient robot {\nsecret {env.MCP_TEST_TOKEN}\n}\n"
	got, ok := adapt(t, string(caddyfile.Format([]byte("{\nmcp_auth {\n"+lines+"}\n}\nmcp.example.com {\nmcp_auth localhost:3000 {\n"+lines+"}\n}"))))
	if !ok {
		t.Fatal(got)
	}
	if strings.Contains(got, cheapBcrypt) || strings.Contains(got, "from-the-environment") {
		t.Error("there is a secret in the adapted configuration")
	}
	if n := strings.Count(got, "{env.MCP_TEST_TOKEN}"); n != 4 {
		t.Errorf("the placeholder is there %d times, want 4", n)
	}
}

func TestThePathOfTheFileStore(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Setenv("MCP_TEST_DIR", "/srv/mcp")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                            "/data/caddy/mcp_auth/state.db",
		"/srv/state.db":               "/srv/state.db",
		"state.db":                    wd + "/state.db",
		"/srv//a/../state.db":         "/srv/state.db",
		"{env.MCP_TEST_DIR}/x.db":     "/srv/mcp/x.db",
		"{env.MCP_TEST_UNSET}":        "error",
		"{env.MCP_TEST_UNSET}/x.db":   "error",
		"{en.X}/state.db":             "error",
		"{file./nowhere/at/all}/x.db": "error",
	} {
		s := &FileStore{Path: path}
		err := s.Provision(caddy.Context{})
		if want == "error" {
			if err == nil || !strings.HasPrefix(err.Error(), "path: ") {
				t.Errorf("%q: got the path %q and the error %v", path, s.Path, err)
			}
			continue
		}
		if err != nil || s.Identity() != "file:"+want {
			t.Errorf("%q: got %q and the error %v, want %q", path, s.Identity(), err, want)
		}
	}
}
