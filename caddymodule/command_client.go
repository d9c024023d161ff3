package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
)

func clientCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "client", Short: "Manages the clients that may ask for tokens"}
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the clients that are known, and how they came to be",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdClientList),
	}
	listFlags(list)
	show := &cobra.Command{
		Use:   "show <id>",
		Short: "Shows all that is known about a client, but for its secret",
		Args:  cobra.ExactArgs(1),
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdClientShow),
	}
	manageFlags(show)
	remove := &cobra.Command{
		Use:   "remove <id>",
		Short: "Removes a client, and ends all of its access",
		Long: `
Removes a client that was added, has registered itself, or is described by a
metadata document. All that people have allowed it ends, and its access tokens are
refused at once, on all nodes.

A client of the configuration is removed there. One that may introduce itself can
do so again, and people are asked again.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdClientRemove),
	}
	manageFlags(remove)
	cmd.AddCommand(list, show, addClientCommand(), remove)
	return cmd
}

func addClientCommand() *cobra.Command {
	add := &cobra.Command{
		Use:   "add <id>",
		Short: "Adds a client and prints its secret, this one time",
		Long: `
Adds a client under an id of your choice, without a line in the configuration. It
is kept in the store, so all nodes know it, and people are told that whoever runs
this server has added it.

With a --redirect-uri it is a client for people, who sign in and agree; without
one it is a service account that acts for itself. It gets a secret, of which only
a hash is kept, unless it has keys of its own (--jwks-uri) or is --public.`,
		Example: `  caddy mcp-auth client add nightly-report
  caddy mcp-auth client add crm --name "Our CRM" --redirect-uri https://crm.example.com/callback
  caddy mcp-auth client add desktop --public --redirect-uri http://localhost/callback`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdClientAdd),
	}
	add.Flags().String("name", "", "The name that people see (default: the id)")
	add.Flags().StringArray("redirect-uri", nil, "Where answers may go; repeat for several")
	add.Flags().StringArray("grant-type", nil, "A grant type; repeat for several (default: what fits)")
	add.Flags().StringArray("scope", nil, "A scope that it can have; repeat for several (default: all)")
	add.Flags().String("jwks-uri", "", "https address of its keys, with which it authenticates in place of a secret")
	add.Flags().Bool("public", false, "It has no secret, as programs on people's computers have none")
	manageFlags(add)
	return add
}

// cmdClientList is "caddy mcp-auth client list".
func cmdClientList(fl caddycmd.Flags) (int, error) {
	var issuers []issuerClients
	if err := adminGet(fl, listPath(fl, adminClientsPath), &issuers); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(issuers)
	}
	for _, issuer := range issuers {
		var rows [][]string
		for _, c := range issuer.Clients {
			kind := c.Kind
			if c.Overruled {
				kind += ", overruled by the configuration"
			}
			rows = append(rows, []string{c.ID, kind, c.Name, fmt.Sprint(c.Grants), shownTime(c.LastUsed)})
		}
		if err := printTable(issuer.Issuer, "CLIENT,KIND,NAME,GRANTS,LAST USED", rows, issuer.LeftOut); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
	}
	return caddy.ExitCodeSuccess, nil
}

// cmdClientShow is "caddy mcp-auth client show".
func cmdClientShow(fl caddycmd.Flags) (int, error) {
	var c issuerClient
	if err := adminGet(fl, adminPath(fl, adminClientsPath, param{"id", fl.Arg(0)}), &c); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(c)
	}
	if c.ClientDetails == nil {
		return caddy.ExitCodeFailedStartup, errors.New("the answer of Caddy is not complete; is it another version?")
	}
	scopes := "all"
	if len(c.Scopes) > 0 {
		scopes = c.Scopes.String()
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"client_id", c.ID}, {"issuer", c.Issuer}, {"kind", c.Kind}, {"name", c.Name}, {"authenticates by", c.AuthMethod},
		{"keys at", c.JWKSURI}, {"redirect URIs", strings.Join(c.RedirectURIs, "  ")}, {"grant types", strings.Join(c.GrantTypes, "  ")},
		{"scopes", scopes}, {"grants", fmt.Sprint(c.Grants)}, {"known since", shownTime(c.Issued)}, {"last used", shownTime(c.LastUsed)},
		{"expires", shownTime(c.Expires)},
	} {
		if row[1] != "" && (row[0] != "known since" || !c.Issued.IsZero()) {
			fmt.Fprintf(w, "%s\t%s\n", row[0], shown(row[1]))
		}
	}
	return caddy.ExitCodeSuccess, w.Flush()
}

// cmdClientAdd is "caddy mcp-auth client add". The secret alone goes to the standard
// output, so that scripts can take it.
func cmdClientAdd(fl caddycmd.Flags) (int, error) {
	wanted := client.Addition{ID: fl.Arg(0), Name: fl.String("name"), JWKSURI: fl.String("jwks-uri"), Public: fl.Bool("public")}
	for name, target := range map[string]*[]string{
		"redirect-uri": &wanted.RedirectURIs, "grant-type": &wanted.GrantTypes, "scope": &wanted.Scopes,
	} {
		var err error
		if *target, err = fl.GetStringArray(name); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
	}
	var added issuerClient
	if err := adminSend(fl, http.MethodPost, adminPath(fl, adminClientsPath), wanted, &added); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(added)
	}
	if added.Secret == "" {
		fmt.Fprintf(os.Stderr, "Added the client %s of %s, which has no secret.\n", added.ID, added.Issuer)
		return caddy.ExitCodeSuccess, nil
	}
	fmt.Println(added.Secret)
	fmt.Fprintf(os.Stderr, "Added the client %s of %s. Keep its secret: it cannot be shown again.\n", added.ID, added.Issuer)
	return caddy.ExitCodeSuccess, nil
}

// cmdClientRemove is "caddy mcp-auth client remove".
func cmdClientRemove(fl caddycmd.Flags) (int, error) {
	var removed removedClient
	if err := adminSend(fl, http.MethodDelete, adminPath(fl, adminClientsPath, param{"id", fl.Arg(0)}), nil, &removed); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(removed)
	}
	if removed.StillConfigured {
		fmt.Printf("Removed what the store had about %s. The configuration still has the client, so nothing else has changed.\n", removed.ClientID)
		return caddy.ExitCodeSuccess, nil
	}
	fmt.Printf("Removed the client %s, and ended %s.\n", removed.ClientID, plural(removed.Grants, "grant"))
	return caddy.ExitCodeSuccess, nil
}
