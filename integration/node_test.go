package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// installTime bounds the download of the packages of node/package-lock.json, scriptTime a run of one script.
const (
	installTime = 3 * time.Minute
	scriptTime  = 3 * time.Minute
)

// installPackages installs what the scripts in node/ need, once for all tests, unless somebody has done so.
var installPackages = sync.OnceValues(func() (output string, err error) {
	if packagesAreThere() {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = "node"
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
})

// packagesAreThere reports whether the packages of node/package.json are installed, in the versions that it wants now.
func packagesAreThere() bool {
	var wanted struct{ Dependencies map[string]string }
	if !readJSON(filepath.Join("node", "package.json"), &wanted) {
		return false
	}
	for name, version := range wanted.Dependencies {
		var installed struct{ Version string }
		if !readJSON(filepath.Join("node", "node_modules", name, "package.json"), &installed) || installed.Version != version {
			return false
		}
	}
	return true
}

// readJSON reports whether a file could be read.
func readJSON(file string, target any) bool {
	data, err := os.ReadFile(file)
	return err == nil && json.Unmarshal(data, target) == nil
}

// needNode returns the path of Node, with the packages of the scripts installed.
func needNode(t *testing.T) string {
	t.Helper()
	needTool(t, "npm")
	node := needTool(t, "node")
	if out, err := installPackages(); err != nil {
		missing(t, "this test needs the packages of integration/node; npm ci failed: "+err.Error()+"\n"+tail(out, 2000))
	}
	return node
}

// needNewNode returns the path of a Node that the conformance suite runs on, which needs a newer one than all else here: the
// one that npm installs for it, or that of the machine.
func needNewNode(t *testing.T) string {
	t.Helper()
	node := needNode(t)
	if own, _ := filepath.Glob(filepath.Join("node", "node_modules", "node-*", "bin", "node")); len(own) == 1 {
		return own[0]
	}
	version, _, err := runCommand(t, nil, node, "-p", "process.versions.node.split('.')[0]")
	if major, _ := strconv.Atoi(strings.TrimSpace(version)); err != nil || major < 24 {
		missing(t, "this test needs Node 24, which npm installs on Linux only")
	}
	return node
}

// trusting is the environment with which Node trusts the gateway's certificate.
func (g *gateway) trusting(env ...string) []string {
	return append([]string{"NODE_EXTRA_CA_CERTS=" + g.caFile()}, env...)
}

// runScript runs a script of node/ to its end and returns the lines that it printed.
func runScript(t *testing.T, env []string, script string, args ...string) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, needNode(t), append([]string{script}, args...)...)
	cmd.Dir = "node"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		t.Errorf("%s %s: %v\n%s", script, strings.Join(args, " "), err, tail(stderr.String(), 4000))
	}
	return strings.Split(strings.TrimSpace(stdout.String()), "\n")
}
