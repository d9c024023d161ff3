package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the adapter says into testdata/adapt")

// environment are the variables that the examples read. Tests start without
// them, whatever the machine has.
var environment = []string{
	"AUTH_TYPE", "DANGEROUSLY_OMIT_AUTH", "MCP_AUTH_EXTRA", "MCP_UPSTREAM", "OAUTH2_ALLOW_DYNAMIC_REGISTRATION",
	"OAUTH2_ISSUER_URL", "ENTRA_TENANT",
}

const adaptSeparator = "\n----------\n"

// adaptCase is a file of testdata/adapt: a Caddyfile, a line of dashes, and the
// JSON or the error that comes of it. Comments of the form "# env NAME=value"
// set environment variables.
type adaptCase struct{ name, caddyfile, want string }

func adaptCases(t *testing.T) []adaptCase {
	t.Helper()
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/adapt: %v", err)
	}
	var cases []adaptCase
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, want, found := strings.Cut(string(data), adaptSeparator)
		if !found && !*update {
			t.Fatalf("%s has no line of dashes", file)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfiletest")
		cases = append(cases, adaptCase{name: name, caddyfile: strings.TrimSpace(input) + "\n", want: strings.TrimSpace(want)})
	}
	return cases
}

func TestAdapt(t *testing.T) {
	for _, tt := range adaptCases(t) {
		t.Run(tt.name, func(t *testing.T) {
			setEnvironment(t, tt.caddyfile)
			got, ok := adapt(t, tt.caddyfile)
			if *update {
				file := filepath.Join("testdata/adapt", tt.name+".caddyfiletest")
				if err := os.WriteFile(file, []byte(strings.TrimSpace(tt.caddyfile)+adaptSeparator+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("unexpected result (-want +got):\n%s", diff)
			}
			if wantError := strings.HasPrefix(tt.name, "error_"); wantError == ok {
				t.Errorf("adapted: %t, but the name of the file begins with error_: %t", ok, wantError)
			}
			if ok {
				checkModules(t, []byte(got))
			}
		})
	}
}

// adapt returns the indented JSON, or the text of the error and false.
func adapt(t *testing.T, input string) (string, bool) {
	t.Helper()
	got, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
	if err != nil {
		// Errors name imported files by their absolute paths.
		dir, pathErr := filepath.Abs(".")
		if pathErr != nil {
			t.Fatal(pathErr)
		}
		return strings.ReplaceAll(err.Error(), dir, "."), false
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, got, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return out.String(), true
}

func setEnvironment(t *testing.T, input string) {
	t.Helper()
	for _, name := range environment {
		t.Setenv(name, "") // restores the value afterwards
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(input) {
		if setting, ok := strings.CutPrefix(strings.TrimSpace(line), "# env "); ok {
			name, value, _ := strings.Cut(setting, "=")
			t.Setenv(name, value)
		}
	}
}

// checkModules reads every part of the configuration that is ours as Caddy
// does, and asks that it comes back the same: then no field of the Caddyfile is
// lost or unknown in JSON.
func checkModules(t *testing.T, config []byte) {
	t.Helper()
	var root struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &root); err != nil {
		t.Fatal(err)
	}
	found := 0
	if app, ok := root.Apps["mcp_auth"]; ok {
		found++
		checkRoundTrip(t, app, new(App))
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if v["handler"] == "mcp_auth" {
				found++
				delete(v, "handler")
				raw, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				checkRoundTrip(t, raw, new(Handler))
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	var http any
	if raw, ok := root.Apps["http"]; ok {
		if err := json.Unmarshal(raw, &http); err != nil {
			t.Fatal(err)
		}
	}
	walk(http)
	if found == 0 {
		t.Error("there is neither the app nor the handler mcp_auth in the configuration")
	}
}

func checkRoundTrip(t *testing.T, raw []byte, module any) {
	t.Helper()
	if err := caddy.StrictUnmarshalJSON(raw, module); err != nil {
		t.Fatalf("Caddy would refuse %s: %v", raw, err)
	}
	again, err := json.Marshal(module)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the module reads something else than was written (-written +read):\n%s", diff)
	}
}

func TestEveryAdaptedCaddyfileIsFormatted(t *testing.T) {
	for _, tt := range adaptCases(t) {
		if diff := cmp.Diff(string(caddyfile.Format([]byte(tt.caddyfile))), tt.caddyfile); diff != "" {
			t.Errorf("%s is not as 'caddy fmt' writes it (-fmt +file):\n%s", tt.name, diff)
		}
	}
}
