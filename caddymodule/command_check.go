package caddymodule

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/checkup"
)

// tokenVariable names the environment variable with the token of a checkup, which
// does not show in the list of processes.
const tokenVariable = "MCP_TOKEN"

func checkCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check <url>",
		Short: "Looks at a protected MCP server from outside, as clients do",
		Long: `
Looks at a protected MCP server from outside, the way a client does, and says what
keeps clients from connecting and how to mend it. It needs no running Caddy on this
computer. The exit code is 1 when there is a problem.

With a token it looks at the MCP server behind the front door as well. Better than on
the command line, give it in the environment variable ` + tokenVariable + `.`,
		Example: "caddy mcp-auth check https://mcp.example.com/mcp",
		Args:    cobra.ExactArgs(1),
		RunE:    caddycmd.WrapCommandFuncForCobra(cmdCheck),
	}
	check.Flags().String("token", "", "Bearer token, to look at the MCP server as well")
	check.Flags().Bool("register", false, "Register a client too, which the server forgets after a while")
	check.Flags().String("origin", "", "Origin of the web page that shall be able to call (default: that of the MCP Inspector)")
	check.Flags().String("ca", "", "File with certificates to trust beside those of the system, in PEM")
	check.Flags().Bool("json", false, "Print JSON")
	return check
}

// cmdCheck is "caddy mcp-auth check".
func cmdCheck(fl caddycmd.Flags) (int, error) {
	opts := checkup.Options{
		Address: fl.Arg(0), Token: cmp.Or(fl.String("token"), os.Getenv(tokenVariable)),
		Register: fl.Bool("register"), Origin: fl.String("origin"),
	}
	var err error
	if opts.Roots, err = rootsWith(fl.String("ca")); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var findings []checkup.Finding
	report := func(f checkup.Finding) { findings = append(findings, f) }
	if !fl.Bool("json") {
		fmt.Printf("Checking %s the way a client does\n", opts.Address)
		report = func(f checkup.Finding) {
			findings = append(findings, f)
			printFinding(os.Stdout, f)
		}
	}
	if err := checkup.Run(ctx, opts, report); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		err = printJSON(findings)
	}
	problems, warnings := count(findings, checkup.Problem), count(findings, checkup.Warning)
	switch {
	case err != nil || fl.Bool("json") && problems == 0:
	case problems > 0:
		err = fmt.Errorf("clients cannot connect: %s, %s", plural(problems, "problem"), plural(warnings, "warning"))
	case warnings > 0:
		fmt.Printf("Most clients can connect: %s.\n", plural(warnings, "warning"))
	default:
		fmt.Println("All is well.")
	}
	return exitCode(err), err
}

// rootsWith returns the system's certificates with those of a file; nil for the
// system's alone.
func rootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New(file + " has no certificate in PEM")
	}
	return pool, nil
}

// marks of the levels.
var marks = map[checkup.Level]string{checkup.Good: "✓", checkup.Warning: "!", checkup.Problem: "✗", checkup.Skipped: "-"}

func printFinding(w io.Writer, f checkup.Finding) {
	fmt.Fprintf(w, " %s %-14s %s\n", marks[f.Level], f.Name, f.Text)
	if f.Fix != "" {
		fmt.Fprintf(w, "   %-14s Fix: %s\n", "", f.Fix)
	}
}

func count(findings []checkup.Finding, level checkup.Level) int {
	n := 0
	for _, f := range findings {
		if f.Level == level {
			n++
		}
	}
	return n
}
