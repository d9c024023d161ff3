// Command build makes a Caddy binary out of xcaddy.json, the JSON form of
// xcaddy's own Builder, through xcaddy as a library:
//
//	go run ./cmd/build [-manifest xcaddy.json] [-output bin/caddy]
//
// xcaddy itself reads no file. To add plugins, add lines to the manifest.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/caddyserver/xcaddy"
)

func main() { os.Exit(run()) }

func run() int {
	manifest := flag.String("manifest", "xcaddy.json", "the build manifest; relative replacements are relative to its folder")
	output := flag.String("output", filepath.Join("bin", "caddy"), "where the binary goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, *manifest, *output); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		return 1
	}
	fmt.Println("Built", *output)
	return 0
}

func build(ctx context.Context, manifest, output string) error {
	b, err := readManifest(manifest)
	if err != nil {
		return err
	}
	output, err = filepath.Abs(output)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return err
	}
	if isLocal(b) {
		if b.Env, err = localEnvironment(ctx, filepath.Dir(manifest), b.CaddyVersion); err != nil {
			return err
		}
	}
	return b.Build(ctx, output)
}

// readManifest reads the manifest. A field that xcaddy does not know is an error:
// it would be a setting that has no effect.
func readManifest(path string) (xcaddy.Builder, error) {
	var b xcaddy.Builder
	f, err := os.Open(path) // #nosec G304 -- the file that the user named
	if err != nil {
		return b, err
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return b, fmt.Errorf("reading %s: %w", path, err)
	}
	for i, r := range b.Replacements {
		target := string(r.New)
		if !strings.HasPrefix(target, ".") {
			continue
		}
		// Only xcaddy's command line makes relative folders absolute.
		abs, err := filepath.Abs(filepath.Join(filepath.Dir(path), target))
		if err != nil {
			return b, err
		}
		b.Replacements[i].New = xcaddy.ReplacementPath(abs)
	}
	return b, nil
}

// isLocal reports whether every plugin comes from a folder of this machine.
func isLocal(b xcaddy.Builder) bool {
	for _, p := range b.Plugins {
		local := false
		for _, r := range b.Replacements {
			old := string(r.Old)
			inside := p.PackagePath == old || strings.HasPrefix(p.PackagePath, old+"/")
			local = local || inside && filepath.IsAbs(string(r.New))
		}
		if !local {
			return false
		}
	}
	return true
}

// localEnvironment downloads what the build needs and lets it use just that: it
// then needs no network, and no module proxy is asked for a module that only
// exists here, which some answer in a way that stops the build. xcaddy begins
// with Caddy alone, which names other versions than go.mod does.
func localEnvironment(ctx context.Context, dir, caddyVersion string) ([]string, error) {
	if err := runGo(ctx, dir, "mod", "download"); err != nil {
		return nil, fmt.Errorf("downloading modules: %w", err)
	}
	scratch, err := os.MkdirTemp("", "caddy-modules-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	caddy := "github.com/caddyserver/caddy/v2"
	if caddyVersion != "" {
		caddy += "@" + caddyVersion
	}
	if err := errors.Join(runGo(ctx, scratch, "mod", "init", "caddy"), runGo(ctx, scratch, "get", caddy)); err != nil {
		return nil, fmt.Errorf("downloading the modules of Caddy: %w", err)
	}
	cache, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the module cache: %w", err)
	}
	proxy := "GOPROXY=file://" + filepath.ToSlash(filepath.Join(strings.TrimSpace(string(cache)), "cache", "download"))
	return append(os.Environ(), proxy, "GOSUMDB=off"), nil
}

// runGo runs the go command in a folder.
func runGo(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	return cmd.Run()
}
