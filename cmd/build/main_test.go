package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestManifestBuildsTheCaddyOfGoMod(t *testing.T) {
	b, err := readManifest(filepath.Join("..", "..", "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`caddyserver/caddy/v2 (v\S+)`).FindSubmatch(mod)
	if want == nil {
		t.Fatal("go.mod names no version of Caddy")
	}
	if b.CaddyVersion != string(want[1]) {
		t.Errorf("xcaddy.json builds Caddy %s, go.mod has %s", b.CaddyVersion, want[1])
	}
	if !isLocal(b) {
		t.Error("the manifest does not build the module of this checkout")
	}
}

func TestManifestRefusesUnknownFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "xcaddy.json")
	if err := os.WriteFile(path, []byte(`{"dependencies":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readManifest(path); err == nil || !strings.Contains(err.Error(), `unknown field "dependencies"`) {
		t.Errorf("error is %v", err)
	}
}

func TestRelativeReplacementsStartAtTheManifest(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "xcaddy.json")
	if err := os.WriteFile(path, []byte(`{"plugins":[{"module_path":"a.example/m/x"}],"replacements":[{"old":"a.example/m","new":"./src"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := readManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b.Replacements[0].New); got != filepath.Join(dir, "src") {
		t.Errorf("replacement is %s", got)
	}
}
