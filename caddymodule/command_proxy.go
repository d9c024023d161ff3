package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func proxyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy --to <upstream> [--from <address>]",
		Short: "Protects an MCP server without a configuration file",
		Long: `
Runs the front door of an MCP server, as a Caddyfile with three lines would. With
--user that person can sign in: the password is asked for on the terminal, or read
from the standard input, at the first start, and its hash is kept in Caddy's data
directory. Without it requests need a bearer token, which 'caddy mcp-auth token show'
prints.`,
		Example: "caddy mcp-auth proxy --from mcp.example.com --to localhost:3000 --user alice",
		Args:    cobra.NoArgs,
		RunE:    caddycmd.WrapCommandFuncForCobra(cmdProxy),
	}
	cmd.Flags().StringP("from", "f", "localhost", "Address of the site")
	cmd.Flags().StringP("to", "t", "", "Where the MCP server listens")
	cmd.Flags().String("user", "", "Name of a person who signs in")
	cmd.Flags().Bool("new-password", false, "Ask for a new password of the user, and sign the user out everywhere")
	cmd.Flags().Bool("internal-certs", false, "Use the certificate of Caddy's internal CA")
	return cmd
}

// LoopbackAddresses are those of this computer, as the directive 'bind' takes them.
// Some programs look for localhost at ::1 first, which not every computer has.
func LoopbackAddresses() string {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "[::1]:0")
	if err != nil {
		return "127.0.0.1"
	}
	_ = l.Close()
	return "127.0.0.1 [::1]"
}

// proxied is what the command runs.
type proxied struct {
	door
	Bind     string // where to listen; "" for everywhere
	Internal bool   // certificates
	User     string // the line 'user'; "" for none
}

// cmdProxy is "caddy mcp-auth proxy".
func cmdProxy(fl caddycmd.Flags) (int, error) {
	p := proxied{door: door{fl.String("from"), fl.String("to")}, Internal: fl.Bool("internal-certs")}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := p.complete(fl.String("user"), fl.Bool("new-password"))
	if err == nil {
		err = p.run(ctx, os.Stdout)
	}
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}

// complete checks what the flags say, and gets the hash of the user's password.
func (p *proxied) complete(user string, newPassword bool) error {
	if p.Upstream == "" {
		return errors.New("nothing says where the MCP server listens. Write, for example: --to " + exampleUpstream)
	}
	at, err := p.site()
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(at.Host); err == nil && ip.IsLoopback() || at.Host == "localhost" {
		p.Bind = LoopbackAddresses() // nobody else could use it
	}
	if user == "" {
		return nil
	}
	if err := checkNewUser(user, ""); err != nil {
		return err
	}
	file := proxyUsers(filepath.Join(caddy.AppDataDir(), "mcp_auth", "proxy-users.json"))
	hash, err := file.hash(os.Stdin, user, newPassword)
	p.User = userLine(user, hash, "")
	return err
}

// proxyUsers is the file with the users of this command: another hash of the same
// password would sign them out at each start.
type proxyUsers string

// hash returns the hash of a user's password, which it reads if it does not know it
// or is to have a new one.
func (f proxyUsers) hash(in *os.File, user string, newPassword bool) (string, error) {
	hashes := map[string]string{}
	data, err := os.ReadFile(string(f))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	default:
		if err := json.Unmarshal(data, &hashes); err != nil {
			return "", fmt.Errorf("%s cannot be read; delete it to choose new passwords", f)
		}
	}
	if known := hashes[user]; known != "" && !newPassword {
		return known, nil
	}
	fmt.Fprintf(os.Stderr, "Choose the password with which %s signs in.\n", user)
	password, err := readPassword(in)
	if err != nil {
		return "", err
	}
	if hashes[user], err = hashPassword(password); err != nil {
		return "", err
	}
	if data, err = json.Marshal(hashes); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(string(f)), 0o700); err != nil {
		return "", err
	}
	return hashes[user], os.WriteFile(string(f), data, 0o600)
}

var proxyCaddyfile = template.Must(template.New("").Parse(`{
	persist_config off
}
{{.Address}} {
	{{if .Bind}}bind {{.Bind}}{{end}}
	{{if .Internal}}tls internal{{end}}
	mcp_auth {{.Upstream}} {
		{{.User}}
	}
}
`))

// run protects the MCP server until ctx is done.
func (p *proxied) run(ctx context.Context, out io.Writer) error {
	var text bytes.Buffer
	if err := proxyCaddyfile.Execute(&text, p); err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text.Bytes(), map[string]any{"filename": "proxy"})
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	address := p.Address
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	fmt.Fprintf(out, "%s/mcp leads to the MCP server at %s.\n", address, p.Upstream)
	if p.User == "" {
		fmt.Fprintln(out, "Requests need the bearer token that 'caddy mcp-auth token show' prints; with --user people can sign in.")
	}
	fmt.Fprintln(out, "Ctrl-C to stop.")
	<-ctx.Done()
	return caddy.Stop()
}
