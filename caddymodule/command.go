package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

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
			cmd.AddCommand(
				checkCommand(), initCommand(), proxyCommand(), tokenCommand(), clientCommand(), grantCommand(), userCommand(),
				keyCommand(), storeCommand(),
			)
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
	return adminSend(fl, method, path, nil, v)
}

// adminSend is adminRequest with something to send as JSON, unless it is nil. When v
// is nil, the answer is not read.
func adminSend(fl caddycmd.Flags, method, path string, send, v any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return fmt.Errorf("finding the admin endpoint: %w", err)
	}
	var body io.Reader
	if send != nil {
		data, err := json.Marshal(send)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, path, nil, body)
	if refusal := refusalOf(err); refusal != nil {
		return refusal
	}
	if err != nil {
		return fmt.Errorf("asking Caddy at %s; is it running? If its admin endpoint is elsewhere, name it with --address: %w", address, err)
	}
	defer resp.Body.Close()
	if v == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAdminAnswer)).Decode(v)
}

// refusalOf returns what the running Caddy says to a request that it refuses, and
// nil for any other error.
func refusalOf(err error) error {
	if err == nil {
		return nil
	}
	_, answer, ok := strings.Cut(err.Error(), "caddy responded with error: ")
	if !ok {
		return nil
	}
	var body struct {
		Error string `json:"error"`
	}
	if _, text, _ := strings.Cut(answer, ": "); json.Unmarshal([]byte(text), &body) == nil && body.Error != "" {
		return errors.New(body.Error)
	}
	return errors.New("Caddy answers: " + answer)
}

// printJSON prints what --json asks for.
func printJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	fmt.Println(string(data))
	return err
}
