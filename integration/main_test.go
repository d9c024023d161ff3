package integration

import (
	"flag"
	"fmt"
	"io/fs"
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
	if err := lookAtSources(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
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

// lookAtSources reads all folders of the module. "go test" repeats a result of before when nothing has changed that the
// test has looked at, and it does not know what the builds below look at.
func lookAtSources() error {
	return filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "bin") {
			return fs.SkipDir
		}
		return err
	})
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
