package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

func init() { caddymodule.AddCommand(quickstartCommand) }

func quickstartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "Runs a demo: the front door, an MCP server behind it, and a user to sign in as",
		Long: `
Starts a gateway and a demo MCP server on this computer, reachable from this
computer only, and prints one ready line per client. Nothing is installed and
nobody is asked for a password. What you connect stays connected when you start
it again.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(cmdQuickstart),
	}
	cmd.Flags().Int("https-port", 8443, "Port for https with the certificate of Caddy's internal CA")
	cmd.Flags().Int("http-port", 8080, "Port for plain http, for clients that do not know that CA")
	return cmd
}

// demo is what the quickstart's configuration and its message are made of.
type demo struct {
	HTTPSPort, HTTPPort int
	Bind                string // listener addresses of loopback
	Upstream            string
	StateFile           string
	RootCA              string
	account
}

// account is who can use the demo. It is made at the first start and kept beside
// the state, because a new password would sign everybody out.
type account struct {
	Password string `json:"password"`
	Hash     string `json:"hash"`
	Token    string `json:"token"`
}

//go:embed quickstart.caddyfile
var quickstartCaddyfile string

//go:embed quickstart.txt
var quickstartMessage string

// cmdQuickstart is "caddy mcp-auth quickstart".
func cmdQuickstart(fl caddycmd.Flags) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := quickstart(ctx, fl.Int("https-port"), fl.Int("http-port"), os.Stdout); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}

// quickstart runs the demo until ctx is done.
func quickstart(ctx context.Context, httpsPort, httpPort int, out io.Writer) error {
	d, err := newDemo(httpsPort, httpPort)
	if err != nil {
		return err
	}
	backend, err := server.New(server.Options{})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the demo server: %w", err)
	}
	d.Upstream = listener.Addr().String()
	serveCtx, stopServing := context.WithCancel(ctx)
	served := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { served <- backend.Serve(serveCtx, listener) })
	defer serving.Wait()
	defer stopServing()
	if err := d.start(); err != nil {
		return err
	}
	if err := d.print(out); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	fmt.Fprintln(out, "\nStopping.")
	return errors.Join(err, caddy.Stop())
}

func newDemo(httpsPort, httpPort int) (*demo, error) {
	d := &demo{
		HTTPSPort: httpsPort, HTTPPort: httpPort, Bind: caddymodule.LoopbackAddresses(),
		StateFile: filepath.Join(caddy.AppDataDir(), "mcp_auth", "quickstart.db"),
		RootCA:    filepath.Join(caddy.AppDataDir(), "pki", "authorities", "local", "root.crt"),
	}
	for flag, port := range map[string]int{"--https-port": httpsPort, "--http-port": httpPort} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return nil, fmt.Errorf("port %d cannot be used; choose another one with %s: %w", port, flag, err)
		}
		_ = l.Close()
	}
	var err error
	d.account, err = readAccount(filepath.Join(filepath.Dir(d.StateFile), "quickstart.json"))
	return d, err
}

// readAccount reads the demo's account, or makes it at the first start.
func readAccount(path string) (account, error) {
	var a account
	data, err := os.ReadFile(path) // #nosec G304 -- in Caddy's own data folder
	if err == nil {
		if err := json.Unmarshal(data, &a); err != nil || a.Hash == "" {
			return a, fmt.Errorf("%s cannot be read; delete it to start the demo afresh", path)
		}
		return a, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	a = account{Password: strings.ToLower(rand.Text()[:12]), Token: "mcp_" + strings.ToLower(rand.Text())}
	hash, err := bcrypt.GenerateFromPassword([]byte(a.Password), bcrypt.DefaultCost)
	if err != nil {
		return a, err
	}
	a.Hash = string(hash)
	if data, err = json.Marshal(a); err != nil {
		return a, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return a, err
	}
	return a, os.WriteFile(path, data, 0o600)
}

// start loads the configuration of the demo.
func (d *demo) start() error {
	var text bytes.Buffer
	if err := template.Must(template.New("").Parse(quickstartCaddyfile)).Execute(&text, d); err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text.Bytes(), map[string]any{"filename": "quickstart"})
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// print tells what runs and how to connect.
func (d *demo) print(out io.Writer) error {
	return template.Must(template.New("").Parse(quickstartMessage)).Execute(out, d)
}
