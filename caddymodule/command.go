package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "mcp-auth",
		Short: "Manages the front door of MCP servers",
		Long: `
Commands around the mcp_auth directive. Most of them talk to a running Caddy over
its admin endpoint, at '` + caddy.DefaultAdminListen + `' unless --address or --config
says otherwise.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.AddCommand(checkCommand(), tokenCommand(), keyCommand(), storeCommand())
			for _, add := range extraCommands {
				cmd.AddCommand(add())
			}
		},
	})
}

var extraCommands []func() *cobra.Command

// AddCommand adds a command below "caddy mcp-auth". Programs that embed the
// module call it in an init function.
func AddCommand(command func() *cobra.Command) { extraCommands = append(extraCommands, command) }

func tokenCommand() *cobra.Command {
	token := &cobra.Command{Use: "token", Short: "Manages static bearer tokens"}
	show := &cobra.Command{
		Use:   "show",
		Short: "Prints the bearer token that was generated because none is configured",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdTokenShow),
	}
	adminFlags(show)
	token.AddCommand(show)
	return token
}

// adminFlags adds the flags that all commands of the admin endpoint have.
func adminFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("address", "", "", "Address of the admin endpoint (if --config is not used)")
	cmd.Flags().StringP("config", "c", "", "Configuration file (if --address is not used)")
	cmd.Flags().StringP("adapter", "a", "", "Name of the config adapter (if --config is used)")
	cmd.Flags().Bool("json", false, "Print JSON")
}

// maxAdminAnswer bounds what is read of an answer, in bytes.
const maxAdminAnswer = 16 << 20

// adminGet asks the admin endpoint of the running Caddy.
func adminGet(fl caddycmd.Flags, path string, v any) error {
	return adminRequest(fl, http.MethodGet, path, v)
}

// adminRequest sends a request to the admin endpoint of the running Caddy.
func adminRequest(fl caddycmd.Flags, method, path string, v any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return fmt.Errorf("finding the admin endpoint: %w", err)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, path, nil, nil)
	if err != nil {
		return fmt.Errorf("asking Caddy at %s; is it running? If its admin endpoint is elsewhere, name it with --address: %w", address, err)
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, maxAdminAnswer)).Decode(v)
}

// cmdTokenShow is "caddy mcp-auth token show".
func cmdTokenShow(fl caddycmd.Flags) (int, error) {
	var tokens []generatedToken
	if err := adminGet(fl, adminTokenPath, &tokens); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(tokens)
	}
	if len(tokens) == 0 {
		return caddy.ExitCodeFailedStartup, errors.New("no site uses a generated token: each has a bearer_token line, or people who sign in")
	}
	for _, t := range tokens {
		fmt.Printf("%s\n  token:        %s\n  Claude Code:  claude mcp add --transport http mcp %s --header \"Authorization: Bearer %s\"\n",
			t.Resource, t.Token, t.Resource, t.Token)
	}
	return caddy.ExitCodeSuccess, nil
}

// printJSON prints what --json asks for.
func printJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	fmt.Println(string(data))
	return err
}
