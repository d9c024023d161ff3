package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func storeCommand() *cobra.Command {
	storeCmd := &cobra.Command{Use: "store", Short: "Saves, restores and checks the state"}
	export := &cobra.Command{
		Use:   "export",
		Short: "Writes the whole state into a file",
		Long: `
Reads the store that the configuration names, or with --address that of a running
Caddy over its admin endpoint. A file store is in use while Caddy runs, so it
takes --address then. The file has mode 0600 and must not exist; without --output
the export goes to the standard output.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(cmdStoreExport),
	}
	storeFlags(export)
	export.Flags().StringP("address", "", "", "Address of the admin endpoint of a running Caddy to export from")
	export.Flags().StringP("output", "o", "", "File to write")
	load := &cobra.Command{
		Use:   "import <file>",
		Short: "Writes the state in an export into the store of the configuration",
		Long: `
Stop Caddy before. Nothing is written unless all of the file is good, and the
store has to be empty unless --overwrite is given: then the records of the file
take the place of those of the same name, and all others stay.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdStoreImport),
	}
	storeFlags(load)
	load.Flags().Bool("overwrite", false, "Import into a store that is not empty")
	check := &cobra.Command{
		Use:   "check",
		Short: "Looks for damage in the store of the configuration",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdStoreCheck),
	}
	storeFlags(check)
	check.Flags().Bool("json", false, "Print JSON")
	storeCmd.AddCommand(export, load, check)
	return storeCmd
}

// storeFlags adds the flags that say which store is meant.
func storeFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "Configuration file (default: the Caddyfile in the current folder)")
	cmd.Flags().StringP("adapter", "a", "", "Name of the config adapter")
	cmd.Flags().String("store", "", "Which store, when the configuration has several")
}

// cmdStoreExport is "caddy mcp-auth store export".
func cmdStoreExport(fl caddycmd.Flags) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	read := exportRunning
	if fl.String("address") == "" {
		read = exportClosed
	}
	sum, err := writeOutput(fl.String("output"), func(w io.Writer) (transfer.Summary, error) { return read(ctx, fl, w) })
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Fprintf(os.Stderr, "exported %s\n", describe(sum))
	if sum.Unsealed > 0 {
		fmt.Fprintln(os.Stderr, "WARNING: the signing keys in the export are not sealed: keep it as secret as a private key. "+
			"The line encryption_key in the block of the store seals them.")
	}
	return caddy.ExitCodeSuccess, nil
}

// writeOutput lets write fill a new file, or the standard output. A file that is
// not complete is removed.
func writeOutput(name string, write func(io.Writer) (transfer.Summary, error)) (transfer.Summary, error) {
	if name == "" {
		return write(os.Stdout)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return transfer.Summary{}, fmt.Errorf("%s exists already; name a new file with --output", name)
	}
	if err != nil {
		return transfer.Summary{}, err
	}
	sum, err := write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return sum, err
}

// exportRunning asks a running Caddy.
func exportRunning(_ context.Context, fl caddycmd.Flags, w io.Writer) (transfer.Summary, error) {
	address, path := fl.String("address"), adminStorePath
	if identity := fl.String("store"); identity != "" {
		path += "?" + url.Values{"store": {identity}}.Encode()
	}
	resp, err := caddycmd.AdminAPIRequest(address, http.MethodGet, path, nil, nil)
	if err != nil {
		return transfer.Summary{}, fmt.Errorf("asking Caddy at %s: %w", address, err)
	}
	defer resp.Body.Close()
	return copyExport(w, resp.Body)
}

// exportClosed reads a store that no Caddy has to itself.
func exportClosed(ctx context.Context, fl caddycmd.Flags, w io.Writer) (sum transfer.Summary, err error) {
	err = withStore(fl, false, func(s store.Store, _ StoreModule) error {
		sum, err = transfer.Export(ctx, s, w)
		return err
	})
	return sum, err
}

// exportCommand is the command that exports from a Caddy that runs with this
// configuration.
func exportCommand(fl caddycmd.Flags, config []byte) string {
	var cfg struct {
		Admin caddy.AdminConfig `json:"admin"`
	}
	_ = json.Unmarshal(config, &cfg) // it has been read before
	command := []string{"caddy mcp-auth store export --address", quote(cmp.Or(cfg.Admin.Listen, caddy.DefaultAdminListen))}
	for _, name := range []string{"store", "output"} {
		if flag := fl.Lookup(name); flag != nil && flag.Value.String() != "" {
			command = append(command, "--"+name, quote(flag.Value.String()))
		}
	}
	if cfg.Admin.Disabled {
		command = append(command, "(which needs the admin endpoint; it is off)")
	}
	return strings.Join(command, " ")
}

// quote writes an argument as a shell takes it.
func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// cmdStoreImport is "caddy mcp-auth store import".
func cmdStoreImport(fl caddycmd.Flags) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	f, err := os.Open(fl.Arg(0))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	defer f.Close()
	// No store is made for a file that is no export.
	if _, err := transfer.Inspect(f); err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("importing %s: %w", fl.Arg(0), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("an import reads the file more than once, so it needs a file and no pipe: %w", err)
	}
	var sum transfer.Summary
	var identity string
	err = withStore(fl, true, func(s store.Store, m StoreModule) error {
		identity = m.Identity()
		sum, err = transfer.Import(ctx, s, f, transfer.Options{Overwrite: fl.Bool("overwrite"), Checker: checkerOf(m)})
		return err
	})
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("importing %s: %w", fl.Arg(0), err)
	}
	fmt.Fprintf(os.Stdout, "imported %s into %s\n", describe(sum), identity)
	if sum.Expired > 0 {
		fmt.Fprintf(os.Stdout, "left out %d that had expired\n", sum.Expired)
	}
	return caddy.ExitCodeSuccess, nil
}

// cmdStoreCheck is "caddy mcp-auth store check".
func cmdStoreCheck(fl caddycmd.Flags) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var report transfer.Report
	var identity string
	err := withStore(fl, false, func(s store.Store, m StoreModule) (err error) {
		identity = m.Identity()
		report, err = checkerOf(m).Check(ctx, s)
		return err
	})
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		err = json.NewEncoder(os.Stdout).Encode(struct {
			Store string `json:"store"`
			transfer.Report
		}{identity, report})
	} else {
		err = printReport(os.Stdout, identity, report)
	}
	if n := len(report.Findings) + report.Omitted; err == nil && n > 0 {
		err = fmt.Errorf("the store is damaged: %s", plural(n, "finding"))
	}
	return cmp.Or(exitCode(err), caddy.ExitCodeSuccess), err
}

func exitCode(err error) int {
	if err != nil {
		return caddy.ExitCodeFailedStartup
	}
	return caddy.ExitCodeSuccess
}

// printReport writes a report for people.
func printReport(out io.Writer, identity string, r transfer.Report) error {
	fmt.Fprintln(out, identity)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		what  string
		count int
		note  string
	}{
		{"issuers with keys", r.Keys, unsealed(r.Unsealed)},
		{"clients", r.Clients, ""},
		{"added clients", r.Added, ""},
		{"metadata documents", r.Documents, ""},
		{"used assertions", r.Assertions, ""},
		{"bearer tokens", r.APITokens, ""},
		{"MCP sessions", r.MCPSessions, ""},
		{"grants", r.Grants, ""},
		{"users with factors", r.Factors, ""},
		{"provider tokens", r.Delegations, ""},
		{"sessions", r.Sessions, ""},
		{"revocations", r.Revoked, ""},
		{"unknown records", r.Unknown, ""},
	} {
		fmt.Fprintf(w, "  %s\t%d%s\n", row.what, row.count, row.note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range r.Findings {
		fmt.Fprintln(out, strings.TrimPrefix(f.Key+": "+f.Problem, ": "))
	}
	if r.Omitted > 0 {
		fmt.Fprintf(out, "… and %d more\n", r.Omitted)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(out, "no damage found")
	}
	return nil
}

func unsealed(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d not sealed)", n)
}

// describe says what was moved.
func describe(s transfer.Summary) string {
	return fmt.Sprintf("%s: the keys of %s, %s, %s, %s, %s", plural(s.Records, "record"), plural(s.Keys, "issuer"),
		plural(s.Clients, "client"), plural(s.Grants, "grant"), plural(s.Sessions, "session"), plural(s.Revoked, "revocation"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// checkerOf knows the records in the store of a module.
func checkerOf(m StoreModule) transfer.Checker {
	return transfer.Checker{Box: boxOf(m), Session: authserver.CheckSession, SessionVersion: authserver.SessionVersion}
}
