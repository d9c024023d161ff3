package integration

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEachVersionOfHTTP calls a tool over HTTP/1.1, HTTP/2 and HTTP/3, with a token and without.
func TestEachVersionOfHTTP(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}"})
	gr := g.newGrant(t, nil)
	for protocol, client := range protocolClients(g) {
		t.Run(protocol, func(t *testing.T) {
			wantTools(t, "with a token", g.call(t, client, "/mcp", gr.access))
			refused := g.call(t, client, "/mcp", "")
			wantStatus(t, "without a token", refused, http.StatusUnauthorized)
			if challenge := refused.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer resource_metadata=") {
				t.Errorf("the challenge is %q", challenge)
			}
			req := newRequest(t, g.origin+"/mcp", strings.NewReader(toolsCall))
			req.Header.Set("Authorization", "Bearer "+gr.access)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := strings.TrimSuffix(resp.Proto, ".0"); got != protocol {
				t.Errorf("this was %s", got)
			}
		})
	}
}

// TestModules finds the modules in the program.
func TestModules(t *testing.T) {
	t.Parallel()
	out, stderr, err := runCommand(t, nil, caddyBinary, "list-modules", "--skip-standard")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	modules := strings.Fields(out)
	for _, want := range []string{
		"mcp_auth", "http.handlers.mcp_auth", "admin.api.mcp_auth", "mcp_auth.stores.file", "mcp_auth.stores.memory",
	} {
		if !strings.Contains(" "+strings.Join(modules, " ")+" ", " "+want+" ") {
			t.Errorf("there is no module %s", want)
		}
	}
}

// TestExamplesAreGood adapts, formats and validates every Caddyfile that users are told to write: those of the manual,
// the one of the repository, and the examples with which the adapter is tested.
func TestExamplesAreGood(t *testing.T) {
	t.Parallel()
	for name, caddyfile := range examples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "Caddyfile")
			// Validating opens log files.
			caddyfile = strings.ReplaceAll(caddyfile, "/var/log/caddy", dir)
			if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
				t.Fatal(err)
			}
			env := append(exampleEnv(caddyfile), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			for _, args := range [][]string{
				{"fmt", "--diff", file},
				{"adapt", "--adapter", "caddyfile", "--config", file},
				{"validate", "--adapter", "caddyfile", "--config", file},
			} {
				out, stderr, err := runCommand(t, env, caddyBinary, args...)
				if err != nil {
					t.Errorf("caddy %s: %v\n%s", args[0], err, tail(stderr, 2000))
				}
				if args[0] == "fmt" && regexp.MustCompile(`(?m)^[+-]`).MatchString(out) {
					t.Errorf("this is not how caddy fmt writes it:\n%s", out)
				}
				if strings.Contains(stderr, "not formatted") {
					t.Errorf("caddy %s: %s", args[0], tail(stderr, 2000))
				}
			}
		})
	}
}

// examples are Caddyfiles by where they come from.
func examples(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{"Caddyfile": readFile(t, filepath.Join("..", "Caddyfile"))}
	golden, err := filepath.Glob(filepath.Join("..", "caddymodule", "testdata", "adapt", "example_*.caddyfiletest"))
	if err != nil || len(golden) == 0 {
		t.Fatalf("no examples of the adapter: %v", err)
	}
	for _, file := range golden {
		caddyfile, _, found := strings.Cut(readFile(t, file), "\n----------\n")
		if !found {
			t.Fatalf("%s has no line of dashes", file)
		}
		out[filepath.Base(file)] = caddyfile + "\n"
	}
	manual, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)\n```caddyfile\n(.*?\n)```\n")
	found := 0
	for _, file := range append(manual, filepath.Join("..", "README.md")) {
		for i, match := range block.FindAllStringSubmatch(readFile(t, file), -1) {
			out[fmt.Sprintf("%s, example %d", filepath.Base(file), i+1)] = match[1]
			found++
		}
	}
	if found == 0 {
		t.Fatal("the manual has no examples")
	}
	return out
}

// exampleEnv are the variables of an example: those of its comments "# env NAME=value", and something for each secret.
func exampleEnv(caddyfile string) []string {
	var env []string
	for _, match := range regexp.MustCompile(`(?m)^# env (.*)$`).FindAllStringSubmatch(caddyfile, -1) {
		value := strings.Replace(match[1], "=testdata/", "=../caddymodule/testdata/", 1)
		if abs, err := filepath.Abs(strings.TrimPrefix(value, "MCP_AUTH_EXTRA=")); err == nil && strings.HasPrefix(value, "MCP_AUTH_EXTRA=") {
			value = "MCP_AUTH_EXTRA=" + abs
		}
		env = append(env, value)
	}
	for _, match := range regexp.MustCompile(`\{env\.([A-Z_]+)\}`).FindAllStringSubmatch(caddyfile, -1) {
		value := cmp.Or(map[string]string{
			"REDIS_URL":       "redis://127.0.0.1:6379",
			"MCP_STORAGE_KEY": strings.Repeat("0123456789abcdef", 4),
		}[match[1]], "a_value_of_some_length")
		env = append(env, match[1]+"="+value)
	}
	return env
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
