package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestTheGeneratedTokenIsShownAndNeverLogged(t *testing.T) {
	m := newMachine(t).withAdmin()
	global := "mcp_auth {\nstore file " + m.dir + "/state.db\n}"
	sites := "http://localhost:%[1]d {\nlog\nmcp_auth\nrespond ok\n}\nhttp://localhost:%[2]d {\nlog\nmcp_auth {\nbearer_token dev_token_12345\n}\n}"
	m.mustLoad(global, sites)
	origin := m.url("localhost", 1)

	shown := generatedTokens(t, m)
	if len(shown) != 1 || shown[0].Site != origin || shown[0].Resource != origin+"/mcp" {
		t.Fatalf("the admin endpoint shows %+v", shown)
	}
	secret := shown[0].Token
	if len(secret) < 40 || !strings.HasPrefix(secret, "mcp_") {
		t.Errorf("the token is %q", secret)
	}
	m.status("the token", origin+"/mcp", secret, http.StatusOK)
	m.status("another one", origin+"/mcp", secret+"x", http.StatusUnauthorized)
	m.status("the token of another site", m.url("localhost", 2)+"/mcp", secret, http.StatusUnauthorized)

	if err := m.load(global, sites+"\nhttp://no.example {\nmcp_auth\n}"); err == nil {
		t.Fatal("a site over plain http is let in")
	}
	if diff := cmp.Diff(shown, generatedTokens(t, m)); diff != "" {
		t.Errorf("after a rejected reload (-want +got):\n%s", diff)
	}
	m.mustLoad(global, sites+"\n")
	if diff := cmp.Diff(shown, generatedTokens(t, m)); diff != "" {
		t.Errorf("after a reload (-want +got):\n%s", diff)
	}
	logs := m.logs()
	if !strings.Contains(logs, "requests need the generated bearer token; 'caddy mcp-auth token show' prints it") {
		t.Error("the log does not say that there is a generated token")
	}
	for _, secret := range []string{secret, secret[4:]} {
		if strings.Contains(logs, secret) {
			t.Error("the token is in the log")
		}
	}
}

func generatedTokens(t *testing.T, m *machine) (tokens []generatedToken) {
	t.Helper()
	answer := m.get("http://"+m.admin+adminTokenPath, "")
	if answer.status != http.StatusOK || answer.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("the admin endpoint answers %d with %v", answer.status, answer.header)
	}
	if err := json.Unmarshal([]byte(answer.body), &tokens); err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestGeneratedTokensDifferFromSiteToSite(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nauth_type bearer\nissuer http://auth.localhost:%[1]d\n}", severalHosts)
	app, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, h := range app.handlers {
		if other, twice := seen[h.site.generated]; twice || h.site.generated == "" {
			t.Errorf("%s and %s have the token %q", other, h.site.origin, h.site.generated)
		}
		seen[h.site.generated] = h.site.origin
	}
}

func TestTheAdminEndpointForTokens(t *testing.T) {
	m := newMachine(t).withAdmin()
	address := "http://" + m.admin + adminTokenPath
	for name, tt := range map[string]struct {
		sites, method string
		status        int
		want          string
	}{
		"no generated token": {"http://localhost:%[1]d {\nmcp_auth {\nstore memory\nbearer_token dev_token_12345\n}\n}", http.MethodGet, 200, "[]\n"},
		"another method":     {"http://localhost:%[1]d {\nmcp_auth {\nstore memory\n}\n}", http.MethodPost, 405, `{"error":"method POST is not allowed"}` + "\n"},
		"no directive":       {"http://localhost:%[1]d {\nrespond ok\n}", http.MethodGet, 404, `{"error":"the running configuration has no mcp_auth directive"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m.mustLoad("", tt.sites)
			r := m.request(address, "", nil)
			r.Method = tt.method
			if got := m.do(r); got.status != tt.status || got.body != tt.want {
				t.Errorf("got %d %q, want %d %q", got.status, got.body, tt.status, tt.want)
			}
		})
	}
}

// runCommand runs "caddy mcp-auth …" and returns what it prints.
func runCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	saved := os.Stdout
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	printed := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(r)
		printed <- string(data)
	}()
	root := &cobra.Command{Use: "mcp-auth", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(tokenCommand(), clientCommand(), grantCommand(), userCommand(), keyCommand())
	root.SetArgs(args)
	os.Stdout = w
	err = root.ExecuteContext(t.Context())
	os.Stdout = saved
	w.Close()
	return <-printed, err
}

func TestTokenShow(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n}\n}")
	shown := generatedTokens(t, m)
	url := m.url("localhost", 1) + "/mcp"

	got, err := runCommand(t, "token", "show", "--address", m.admin)
	want := url + "\n  token:        " + shown[0].Token + "\n  Claude Code:  claude mcp add --transport http mcp " + url +
		` --header "Authorization: Bearer ` + shown[0].Token + "\"\n"
	if err != nil || got != want {
		t.Errorf("got the error %v and\n%s\nwant\n%s", err, got, want)
	}

	got, err = runCommand(t, "token", "show", "--json", "--address", m.admin)
	var tokens []generatedToken
	if err != nil || json.Unmarshal([]byte(got), &tokens) != nil || !cmp.Equal(tokens, shown) {
		t.Errorf("got the error %v and %s", err, got)
	}

	config := m.dir + "/Caddyfile"
	if err := os.WriteFile(config, []byte("{\n\tadmin "+m.admin+"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := runCommand(t, "token", "show", "--config", config); err != nil || got != want {
		t.Errorf("by the configuration: got the error %v and %s", err, got)
	}

	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\nbearer_token dev_token_12345\n}\n}")
	if got, err := runCommand(t, "token", "show", "--address", m.admin); got != "" || err == nil ||
		err.Error() != "no site uses a generated token: each has a bearer_token line, or people who sign in" {
		t.Errorf("got %q and the error %v", got, err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", m.ports[3])
	if _, err := runCommand(t, "token", "show", "--address", nobody); err == nil || !strings.Contains(err.Error(), "asking Caddy at "+nobody+"; is it running?") {
		t.Errorf("got the error %v", err)
	}
}
