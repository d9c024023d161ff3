package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func grantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "grant", Short: "Manages what people have allowed clients"}
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists which people have connected which clients",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdGrantList),
	}
	list.Flags().String("user", "", "Of this user only")
	list.Flags().String("client", "", "Of this client only")
	listFlags(list)
	revoke := &cobra.Command{
		Use:   "revoke <id>",
		Short: "Takes a client's access to a user's account away",
		Long: `
Ends a grant as its user could on the account page: its refresh token, its access
tokens and its event streams, at once and on all nodes.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdGrantRevoke),
	}
	manageFlags(revoke)
	cmd.AddCommand(list, revoke)
	return cmd
}

// cmdGrantList is "caddy mcp-auth grant list".
func cmdGrantList(fl caddycmd.Flags) (int, error) {
	var issuers []issuerGrants
	path := listPath(fl, adminGrantsPath, param{"user", fl.String("user")}, param{"client", fl.String("client")})
	if err := adminGet(fl, path, &issuers); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(issuers)
	}
	for _, issuer := range issuers {
		var rows [][]string
		for _, g := range issuer.Grants {
			rows = append(rows, []string{g.ID, g.User, g.ClientID, g.Scopes.String(), shownTime(g.Created), shownTime(g.LastUsed)})
		}
		if err := printTable(issuer.Issuer, "GRANT,USER,CLIENT,SCOPES,SINCE,LAST USED", rows, issuer.LeftOut); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
	}
	return caddy.ExitCodeSuccess, nil
}

// cmdGrantRevoke is "caddy mcp-auth grant revoke".
func cmdGrantRevoke(fl caddycmd.Flags) (int, error) {
	var revoked revokedGrant
	path := adminPath(fl, adminGrantsPath+"/"+url.PathEscape(fl.Arg(0)))
	if err := adminSend(fl, http.MethodDelete, path, nil, &revoked); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(revoked)
	}
	fmt.Printf("Ended what %s had allowed %s", shown(revoked.User), shown(revoked.ClientID))
	if revoked.Ended > 1 {
		fmt.Printf(": %d grants of the same app, whose consent would have been remembered", revoked.Ended)
	}
	fmt.Println(".")
	return caddy.ExitCodeSuccess, nil
}
