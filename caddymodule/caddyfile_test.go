package caddymodule

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func TestModulesAreRegistered(t *testing.T) {
	for _, id := range []string{"mcp_auth", "http.handlers.mcp_auth", "mcp_auth.stores.file", "mcp_auth.stores.memory"} {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.New().CaddyModule().ID; string(got) != id {
			t.Errorf("the module %s makes a %s", id, got)
		}
	}
}

func TestUnknownFieldsOfJSONAreRefused(t *testing.T) {
	for name, module := range map[string]any{"app": new(App), "handler": new(Handler)} {
		err := caddy.StrictUnmarshalJSON([]byte(`{"issuer": "https://mcp.example.com", "isuer": "x"}`), module)
		if err == nil || !strings.Contains(err.Error(), `unknown field "isuer"`) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStoreOfEmbeddedOptionsLoads(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	app := new(App)
	if err := caddy.StrictUnmarshalJSON([]byte(`{"store": {"backend": "memory"}}`), app); err != nil {
		t.Fatal(err)
	}
	module, err := ctx.LoadModule(app, "StoreRaw")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := module.(*MemoryStore); !ok {
		t.Errorf("got a %T", module)
	}
}

// TestEverySubdirectiveIsInAnAdaptTest keeps the table of subdirectives and the
// golden files together.
func TestEverySubdirectiveIsInAnAdaptTest(t *testing.T) {
	adapted := map[string]bool{}
	for _, tt := range adaptCases(t) {
		if strings.HasPrefix(tt.name, "error_") {
			continue
		}
		for line := range strings.Lines(tt.caddyfile) {
			for word := range strings.FieldsSeq(line) {
				adapted[word] = true
				break
			}
		}
	}
	p := &parser{options: new(Options)}
	for _, name := range slices.Sorted(maps.Keys(p.subdirectives())) {
		if !adapted[name] {
			t.Errorf("no file of testdata/adapt has the subdirective %s", name)
		}
	}
}

// TestExamplesOfUsageParse asks of every line that errors tell people to write
// that it works.
func TestExamplesOfUsageParse(t *testing.T) {
	p := &parser{options: new(Options)}
	for name, sub := range p.subdirectives() {
		line := sub.example
		if line == "" || strings.Contains(line, "…") {
			continue
		}
		if !strings.HasPrefix(line, name+" ") {
			t.Errorf("the example of %s is another line: %s", name, line)
		}
		if _, err := parseOptions(block(t, "mcp_auth {\n"+line+"\n}")); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"name", "user", "resource", "registration", "session_lifetime", "code_lifetime"}
	for word, want := range map[string]string{
		"user":             "user",
		"users":            "user",
		"nane":             "name",
		"nome":             "name",
		"tame":             "name",
		"use":              "user",
		"game_":            "name",
		"uses":             "user",
		"core":             "",
		"resorce":          "resource",
		"registrtaion":     "registration",
		"sesion_lifetimes": "session_lifetime",
		"token_lifetime":   "",
		"":                 "",
		"ü":                "",
	} {
		if got := nearest(word, slices.Values(names)); got != want {
			t.Errorf("nearest to %q: got %q, want %q", word, got, want)
		}
	}
}

func TestNearestPrefersTheAlphabet(t *testing.T) {
	for range 10 {
		names := maps.Keys(map[string]bool{"scope": true, "scopf": true, "scoph": true})
		if got := nearest("scopx", names); got != "scope" {
			t.Fatalf("got %q", got)
		}
	}
}

// block returns a dispenser that stands on the first word of the text.
func block(t testing.TB, text string) *caddyfile.Dispenser {
	t.Helper()
	tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	d := caddyfile.NewDispenser(tokens)
	d.Next()
	return d
}

func FuzzUnmarshalCaddyfile(f *testing.F) {
	f.Add("mcp_auth localhost:3000")
	f.Add("mcp_auth /mcp* https://a:1-3 {\n\tname \"A\"\n}")
	f.Add("mcp_auth unix//run/mcp.sock {\n\tuser alice {env.HASH}\n\tstore file /tmp/x\n}")
	f.Add("mcp_auth {\n\tclient a {\n\t\tsecret {env.S}\n\t\tscopes a b\n\t}\n\tresource /mcp {\n\t\tname x\n\t}\n}")
	f.Add("mcp_auth {\n\tscope a \"B\" {\n\t\toptional\n\t}\n\tregistration {\n\t\tdynamic true\n\t}\n\tui {\n\t\taccent \"#fff\"\n\t}\n}")
	f.Add("mcp_auth {\n\trate_limit login 10 1m\n\tforward X-User {http.auth.user.id}\n\tissuer https://[::1]:8443\n}")
	f.Add("mcp_auth {\n\taccess_token_lifetime 1d\n\tcors_origins http://localhost:1\n\tdangerously_omit_auth\n\tpages off\n}")
	f.Add("mcp_auth {\n{\n}\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil || len(tokens) == 0 || len(text) > 4096 {
			return
		}
		values, err := parseDirective(httpcaddyfile.Helper{Dispenser: caddyfile.NewDispenser(slices.Clone(tokens))})
		if (err == nil) != (len(values) == 1) {
			t.Fatalf("%d routes and the error %v", len(values), err)
		}
		d := caddyfile.NewDispenser(slices.Clone(tokens))
		d.Next()
		options, err := parseOptions(d)
		if err != nil {
			return
		}
		if err := options.validate(); err != nil {
			t.Errorf("the parser lets in what JSON may not have: %v", err)
		}
		raw, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.StrictUnmarshalJSON(raw, new(Options)); err != nil {
			t.Errorf("Caddy would refuse %s: %v", raw, err)
		}
	})
}

func FuzzValidateOptions(f *testing.F) {
	f.Add([]byte(`{"issuer": "https://mcp.example.com/", "users": [{"name": "a", "hash": "$2a$14$"}]}`))
	f.Add([]byte(`{"resources": [{"path": "/mcp/*"}], "scopes": [{"name": "a", "description": "b"}]}`))
	f.Add([]byte(`{"cors_origins": ["http://[::1%25eth0]:1"], "rate_limits": {"login": {"max": -1}}}`))
	f.Add([]byte(`{"clients": [{"id": "a", "redirect_uris": ["https://a/b"]}], "registration": {"dynamic": ["on", "off"]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var o Options
		if json.Unmarshal(raw, &o) != nil {
			return
		}
		err := o.validate()
		if err == nil {
			return
		}
		if fault, ok := errors.AsType[*fieldError](err); !ok || fault.path == "" {
			t.Errorf("the error names no field: %v", err)
		}
	})
}
