package caddymodule_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/caddy-mcp-auth/caddy-mcp-auth/"

// allowed lists, for each package, the packages of this module that its
// production code may import. A package that is not listed may not exist, so a
// new one has to find its place here first. docs/architecture.md draws the same
// picture.
var allowed = map[string][]string{
	"caddymodule": {
		"caddymodule/store", "caddymodule/store/filestore", "caddymodule/store/memstore", "caddymodule/store/redisstore",
		"caddymodule/login", "caddymodule/login/oidclogin", "caddymodule/internal/oauth", "caddymodule/internal/seal", "caddymodule/internal/token", "caddymodule/internal/client",
		"caddymodule/internal/apitoken", "caddymodule/internal/audit", "caddymodule/internal/mcpsession", "caddymodule/internal/authserver", "caddymodule/internal/external", "caddymodule/internal/gate", "caddymodule/internal/policy", "caddymodule/internal/respond",
		"caddymodule/internal/transfer", "caddymodule/internal/metrics", "caddymodule/internal/identity", "caddymodule/internal/delegation", "caddymodule/internal/checkup",
		"caddymodule/internal/limit",
	},
	"caddymodule/internal/checkup":           {"caddymodule/internal/oauth"},
	"caddymodule/login":                      {},
	"caddymodule/login/oidclogin":            {"caddymodule/login", "caddymodule/internal/assertion", "caddymodule/internal/jwks"},
	"caddymodule/store":                      {},
	"caddymodule/store/filestore":            {"caddymodule/store", "caddymodule/store/internal/watch"},
	"caddymodule/store/memstore":             {"caddymodule/store", "caddymodule/store/internal/watch"},
	"caddymodule/store/redisstore":           {"caddymodule/store"},
	"caddymodule/store/redisstore/redistest": {"internal/freeport"},
	"caddymodule/store/storetest":            {"caddymodule/store"},
	"caddymodule/store/internal/watch":       {"caddymodule/store"},
	"caddymodule/internal/oauth":             {},
	"caddymodule/internal/bounded":           {},
	"caddymodule/internal/respond":           {"caddymodule/internal/oauth"},
	"caddymodule/internal/seal":              {},
	"caddymodule/internal/feed":              {"caddymodule/store"},
	"caddymodule/internal/token": {
		"caddymodule/internal/oauth", "caddymodule/internal/bounded", "caddymodule/internal/feed", "caddymodule/internal/seal", "caddymodule/store",
	},
	"caddymodule/internal/apitoken": {
		"caddymodule/internal/oauth", "caddymodule/internal/token", "caddymodule/internal/feed", "caddymodule/store",
	},
	"caddymodule/internal/outbound":      {"caddymodule/internal/bounded"},
	"caddymodule/internal/jwks":          {},
	"caddymodule/internal/jwks/jwkstest": {},
	"caddymodule/internal/audit":         {"caddymodule/internal/oauth", "caddymodule/internal/limit"},
	"caddymodule/internal/assertion":     {},
	"caddymodule/internal/external": {
		"caddymodule/internal/oauth", "caddymodule/internal/token", "caddymodule/internal/outbound", "caddymodule/internal/bounded",
		"caddymodule/internal/jwks",
	},
	"caddymodule/internal/client": {
		"caddymodule/internal/oauth", "caddymodule/internal/assertion", "caddymodule/internal/outbound", "caddymodule/internal/bounded", "caddymodule/store",
	},
	"caddymodule/internal/grant":             {"caddymodule/internal/oauth", "caddymodule/store", "caddymodule/login"},
	"caddymodule/internal/factor":            {"caddymodule/internal/seal", "caddymodule/store", "caddymodule/login"},
	"caddymodule/internal/factor/factortest": {},
	"caddymodule/internal/transfer": {
		"caddymodule/internal/apitoken", "caddymodule/internal/mcpsession", "caddymodule/internal/client", "caddymodule/internal/delegation", "caddymodule/internal/factor", "caddymodule/internal/limit", "caddymodule/internal/grant", "caddymodule/internal/seal", "caddymodule/internal/token",
		"caddymodule/store",
	},
	"caddymodule/internal/policy":              {"caddymodule/internal/oauth"},
	"caddymodule/internal/delegation":          {"caddymodule/internal/bounded", "caddymodule/internal/seal", "caddymodule/login", "caddymodule/store"},
	"caddymodule/internal/identity":            {"caddymodule/internal/token"},
	"caddymodule/internal/metrics":             {"caddymodule/store"},
	"caddymodule/internal/metrics/metricstest": {"caddymodule/internal/metrics"},
	"caddymodule/internal/mcpsession":          {"caddymodule/internal/bounded", "caddymodule/store"},
	"caddymodule/internal/gate": {
		"caddymodule/internal/oauth", "caddymodule/internal/policy", "caddymodule/internal/token", "caddymodule/internal/mcpsession",
		"caddymodule/internal/respond", "caddymodule/internal/metrics",
		"caddymodule/internal/limit",
	},
	"caddymodule/internal/limit":            {"caddymodule/internal/bounded", "caddymodule/store"},
	"caddymodule/internal/authserver/pages": {},
	"caddymodule/internal/authserver": {
		"caddymodule/internal/oauth", "caddymodule/internal/token", "caddymodule/internal/client",
		"caddymodule/internal/grant", "caddymodule/internal/factor", "caddymodule/internal/assertion", "caddymodule/internal/audit", "caddymodule/internal/bounded", "caddymodule/internal/policy", "caddymodule/internal/respond",
		"caddymodule/internal/authserver/pages", "caddymodule/store", "caddymodule/login", "caddymodule/internal/metrics",
		"caddymodule/internal/limit", "caddymodule/internal/delegation",
	},
	"mcpbackend":        {"mcpbackend/bugs", "mcpbackend/cisco", "mcpbackend/sample", "mcpbackend/server"},
	"mcpbackend/bugs":   {},
	"mcpbackend/cisco":  {"mcpbackend/bugs"},
	"mcpbackend/sample": {"mcpbackend/bugs"},
	"mcpbackend/server": {"mcpbackend/bugs", "mcpbackend/cisco", "mcpbackend/sample"},
	"cmd/caddy":         {"caddymodule", "mcpbackend/server"},
	"cmd/bench":         {"internal/freeport"},
	"cmd/build":         {},
	"integration":       {},
	"internal/freeport": {},
}

// mayImportCaddy are the packages that know Caddy. All others can be tested, and
// understood, without it.
var mayImportCaddy = []string{"caddymodule", "cmd/caddy", "cmd/build"}

func TestImportDirections(t *testing.T) {
	found := map[string]bool{}
	for pkg, imports := range productionImports(t) {
		found[pkg] = true
		may, listed := allowed[pkg]
		if !listed {
			t.Errorf("package %s is not in the table of allowed imports", pkg)
			continue
		}
		for _, imported := range imports {
			if own, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(may, own) {
				t.Errorf("%s imports %s, which the architecture does not allow", pkg, own)
			}
			if strings.HasPrefix(imported, "github.com/caddyserver/") && !slices.Contains(mayImportCaddy, pkg) {
				t.Errorf("%s imports %s, but must not know Caddy", pkg, imported)
			}
			if strings.HasPrefix(imported, "github.com/prometheus/") && !strings.HasPrefix(pkg, "caddymodule/internal/metrics") {
				t.Errorf("%s imports %s, but must not know how things are counted", pkg, imported)
			}
			if pkg == "caddymodule/internal/oauth" && strings.Contains(imported, ".") {
				t.Errorf("%s imports %s, but uses the standard library only", pkg, imported)
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(allowed)) {
		if !found[pkg] && pkg != "integration" {
			t.Errorf("the table of allowed imports lists %s, which does not exist", pkg)
		}
	}
}

// productionImports returns the imports of every package outside of tests.
func productionImports(t *testing.T) map[string][]string {
	t.Helper()
	root := ".."
	out := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != root):
			return filepath.SkipDir
		case !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := path.Clean(filepath.ToSlash(rel))
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			out[pkg] = append(out[pkg], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
