package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/internal/freeport"
)

// target is one thing to measure.
type target struct {
	name    string
	address string // host:port
	token   string // sent to all targets, so that requests have the same size
	pid     int    // of the Caddy process
}

// testbed is the running upstream and the running gateways.
type testbed struct {
	targets   []target
	processes []*exec.Cmd
}

// upstreamRole makes this program the upstream instead.
const upstreamRole = "upstream"

// answerBytes is the size of the upstream's answer, that of a short tool list.
const answerBytes = 2048

// serveUpstream answers every POST at once with the same JSON and prints its
// address.
func serveUpstream() {
	body := []byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":"` + strings.Repeat("x", answerBytes-50) + `"}}`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})}
	fmt.Fprintln(os.Stderr, srv.Serve(l))
}

// caddyfile has the plain proxy and the front door side by side.
var caddyfile = template.Must(template.New("").Parse(`{
	admin off
	persist_config off
	auto_https off
	log {
		level ERROR
	}
}
http://localhost:{{.PlainPort}} {
	bind 127.0.0.1
	reverse_proxy {{.Upstream}}
}
{{- if .GuardedPort}}
http://localhost:{{.GuardedPort}} {
	bind 127.0.0.1
	mcp_auth {{.Upstream}} {
		store memory
		client bench {
			secret bench-secret-bench
		}
	}
}
{{- end}}
`))

func newTestbed(ctx context.Context, dir, binary, stock string) (*testbed, error) {
	bed := &testbed{}
	upstream, err := bed.startUpstream(ctx)
	if err == nil {
		err = bed.startGateway(ctx, dir, binary, upstream)
	}
	if err == nil && stock != "" {
		err = bed.startStock(ctx, dir, stock, upstream)
	}
	if err != nil {
		bed.stop()
		return nil, err
	}
	return bed, nil
}

func (b *testbed) startUpstream(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, self, upstreamRole)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := b.start(cmd); err != nil {
		return "", err
	}
	var address string
	_, err = fmt.Fscanln(out, &address)
	return address, err
}

// start runs a process that ends with the testbed.
func (b *testbed) start(cmd *exec.Cmd) error {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	b.processes = append(b.processes, cmd)
	return nil
}

func (b *testbed) stop() {
	for _, cmd := range b.processes {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// startCaddy runs a binary with the configuration and waits until it listens.
func (b *testbed) startCaddy(ctx context.Context, dir, binary string, config map[string]any) (int, error) {
	var text bytes.Buffer
	if err := caddyfile.Execute(&text, config); err != nil {
		return 0, err
	}
	file := filepath.Join(dir, fmt.Sprintf("Caddyfile.%v", config["PlainPort"]))
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, binary, "run", "--adapter", "caddyfile", "--config", file)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if err := b.start(cmd); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, awaitPort(ctx, fmt.Sprintf("127.0.0.1:%v", config["PlainPort"]))
}

func (b *testbed) startGateway(ctx context.Context, dir, binary, upstream string) error {
	plain, err := freeport.Commands.Find()
	if err != nil {
		return err
	}
	guarded, err := freeport.Commands.Find()
	if err != nil {
		return err
	}
	pid, err := b.startCaddy(ctx, dir, binary, map[string]any{"PlainPort": plain, "GuardedPort": guarded, "Upstream": upstream})
	if err != nil {
		return err
	}
	address := fmt.Sprintf("localhost:%d", guarded)
	token, err := clientToken(ctx, address)
	if err != nil {
		return err
	}
	b.targets = append(b.targets,
		target{name: "reverse_proxy, same binary", address: fmt.Sprintf("localhost:%d", plain), token: token, pid: pid},
		target{name: "mcp_auth, access token", address: address, token: token, pid: pid})
	return nil
}

func (b *testbed) startStock(ctx context.Context, dir, binary, upstream string) error {
	plain, err := freeport.Commands.Find()
	if err != nil {
		return err
	}
	pid, err := b.startCaddy(ctx, dir, binary, map[string]any{"PlainPort": plain, "GuardedPort": 0, "Upstream": upstream})
	if err != nil {
		return err
	}
	b.targets = append(b.targets, target{
		name: "reverse_proxy, stock Caddy", address: fmt.Sprintf("localhost:%d", plain), token: b.targets[0].token, pid: pid,
	})
	return nil
}

// clientToken gets an access token by the client_credentials grant.
func clientToken(ctx context.Context, address string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"bench"}, "client_secret": {"bench-secret-bench"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer); err != nil {
		return "", err
	}
	if answer.AccessToken == "" {
		return "", fmt.Errorf("the token endpoint answered %s without a token", resp.Status)
	}
	return answer.AccessToken, nil
}

func awaitPort(ctx context.Context, address string) error {
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("Caddy did not listen on " + address)
}
