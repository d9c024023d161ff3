package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/internal/freeport"
)

// output hands what the demo prints to the test.
type output struct{ lines chan string }

func (o output) Write(p []byte) (int, error) {
	o.lines <- string(p)
	return len(p), nil
}

func TestQuickstartServesAndTellsHow(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	httpPort := freeport.Commands.Free(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := output{make(chan string, 64)}
	done := make(chan error, 1)
	go func() { done <- quickstart(ctx, freeport.Commands.Free(t), httpPort, out) }()
	var text bytes.Buffer
	for !strings.Contains(text.String(), "Ctrl-C to stop.") {
		select {
		case line := <-out.lines:
			text.WriteString(line)
		case err := <-done:
			t.Fatalf("the demo stopped: %v", err)
		case <-time.After(60 * time.Second):
			t.Fatalf("the demo printed only %q", text.String())
		}
	}
	message := text.String()
	address := "http://localhost:" + strconv.Itoa(httpPort) + "/mcp"
	for _, want := range []string{"claude mcp add --transport http cisco-demo " + address, "code --add-mcp", `{"mcpServers":`, "Sign in as    demo"} {
		if !strings.Contains(message, want) {
			t.Errorf("the message lacks %q:\n%s", want, message)
		}
	}
	_, rest, _ := strings.Cut(message, "Authorization: Bearer ")
	bearer, _, _ := strings.Cut(rest, "'")
	for token, want := range map[string]int{"": http.StatusUnauthorized, bearer: http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("with token %t the status is %d, want %d: %s", token != "", resp.StatusCode, want, body)
		}
		if want == http.StatusOK && !bytes.Contains(body, []byte("search_bugs_by_keyword")) {
			t.Errorf("the tools are not listed: %s", body)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func TestQuickstartKeepsItsAccount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mcp_auth", "quickstart.json")
	first, err := readAccount(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := readAccount(path)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("the account changed from %+v to %+v", first, second)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readAccount(path); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a damaged file gives %v", err)
	}
}

func TestQuickstartNamesTheFlagOfATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	_, err = newDemo(freeport.Commands.Free(t), taken)
	if err == nil || !strings.Contains(err.Error(), "--http-port") {
		t.Errorf("error is %v", err)
	}
}
