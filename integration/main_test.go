package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The programs under test, which TestMain builds.
var (
	caddyBinary      string
	mcpbackendBinary string
)

// buildTags keep database drivers out of the build that Caddy links for its own certificate authority's other stores.
const buildTags = "nobadger,nomysql,nopgx"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		fmt.Println("the integration tests run without -short only")
		return 0
	}
	dir, err := os.MkdirTemp("", "integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	caddyBinary, mcpbackendBinary = filepath.Join(dir, "caddy"), filepath.Join(dir, "mcpbackend")
	for binary, pkg := range map[string]string{caddyBinary: "./cmd/caddy", mcpbackendBinary: "./mcpbackend"} {
		build := exec.Command("go", "build", "-trimpath", "-tags="+buildTags, "-o", binary, pkg)
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	return m.Run()
}

// needTool returns the path of a program. Without it the test is skipped, except on CI, where nothing may be left out.
func needTool(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, fmt.Sprintf("this test needs %s on the PATH", names[0]))
	return ""
}

// missing skips a test for the lack of a tool, or fails it on CI.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
