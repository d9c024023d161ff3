package caddymodule

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/template"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// Addresses of the first Caddyfile when nobody names others.
const (
	exampleSite     = "mcp.example.com"
	exampleUpstream = "localhost:3000"
)

func initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [<address> [<upstream>]]",
		Short: "Writes a first Caddyfile, with comments",
		Long: `
Writes a Caddyfile that protects an MCP server: the address of the site, by default
` + exampleSite + `, and where the MCP server listens, by default ` + exampleUpstream + `. Comments in it
tell what else there is. A file that is there already is left alone.`,
		Example: "caddy mcp-auth init mcp.example.com localhost:3000",
		Args:    cobra.MaximumNArgs(2),
		RunE:    caddycmd.WrapCommandFuncForCobra(cmdInit),
	}
	cmd.Flags().StringP("output", "o", "Caddyfile", "File to write")
	return cmd
}

//go:embed init.caddyfile
var initCaddyfile string

// door is what a short configuration is about.
type door struct{ Address, Upstream string }

// cmdInit is "caddy mcp-auth init".
func cmdInit(fl caddycmd.Flags) (int, error) {
	d := door{cmp.Or(fl.Arg(0), exampleSite), cmp.Or(fl.Arg(1), exampleUpstream)}
	if err := d.write(fl.String("output")); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Printf(`%s is written. Next:

  caddy mcp-auth user add alice    # makes the line of a person who signs in
  caddy run --config %[1]s
`, fl.String("output"))
	return caddy.ExitCodeSuccess, nil
}

// write writes the Caddyfile, if there is none.
func (d door) write(path string) error {
	if _, err := d.site(); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // #nosec G302 G304 -- nothing secret, where the operator wants it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is left as it is; choose another file with --output", path)
	}
	if err != nil {
		return err
	}
	return errors.Join(template.Must(template.New("").Parse(initCaddyfile)).Execute(file, d), file.Close())
}

// site returns the address of the site. It refuses what would be something else in
// a Caddyfile.
func (d door) site() (httpcaddyfile.Address, error) {
	at, err := httpcaddyfile.ParseAddress(d.Address)
	if err != nil || !isCaddyfileWord(d.Address) || at.Host == "" || at.Path != "" {
		return at, fmt.Errorf("%q is no address of a site. Write, for example: %s", d.Address, exampleSite)
	}
	if !isCaddyfileWord(d.Upstream) {
		return at, fmt.Errorf("%q is no address of an MCP server. Write, for example: %s", d.Upstream, exampleUpstream)
	}
	return at, nil
}

// isCaddyfileWord reports whether a Caddyfile takes a text for one word that stands
// for itself.
func isCaddyfileWord(s string) bool {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return false
		}
		switch r {
		case '"', '`', '{', '}', '#', ',', '\\':
			return false
		}
	}
	return s != ""
}
