package caddymodule

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestTheStoresOfAConfiguration(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	data := filepath.Join(caddy.AppDataDir(), "mcp_auth", "state.db")
	for rule, tt := range map[string]struct {
		config string
		want   []string
	}{
		"nothing of ours":         {`{"apps":{"http":{}}}`, nil},
		"an empty configuration":  {`null`, nil},
		"a handler with no store": {`{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"mcp_auth"}]}]}}}}}`, []string{"file:" + data}},
		"the store of the app": {
			`{"apps":{"mcp_auth":{"store":{"backend":"file","path":"/a"}},"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"mcp_auth"}]}]}}}}}`,
			[]string{"file:/a"},
		},
		"a handler below others": {
			`{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[
				{"handler":"mcp_auth","store":{"backend":"file","path":"/b"}},{"handler":"mcp_auth","store":{"backend":"memory"}}]}]}]}]}}}}}`,
			[]string{"file:/b", "memory"},
		},
		"an app that nobody uses": {`{"apps":{"mcp_auth":{"store":{"backend":"memory"}}}}`, []string{"memory"}},
		"an app without a store":  {`{"apps":{"mcp_auth":{}}}`, nil},
	} {
		t.Run(rule, func(t *testing.T) {
			modules, done, err := storesOf([]byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			if got := slices.Sorted(maps.Keys(modules)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, config := range []string{
		`{"apps":{"http":{"x":{"handler":"mcp_auth","store":"file"}}}}`,
		`{"apps":{"http":{"x":{"handler":"mcp_auth","store":{"backend":"paper"}}}}}`,
		`{"apps":{"http":{"x":{"handler":"mcp_auth","store":{"backend":"file","paht":"/a"}}}}}`,
		`{`,
	} {
		if modules, _, err := storesOf([]byte(config)); err == nil {
			t.Errorf("%s has the stores %v", config, modules)
		}
	}
}
