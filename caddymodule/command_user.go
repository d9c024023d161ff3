package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Manages people and their sessions"}
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the users of the configuration, and all who are signed in or have connected something",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdUserList),
	}
	listFlags(list)
	add := &cobra.Command{
		Use:   "add <name> [<email>]",
		Short: "Asks for a password and prints the line that lets a user sign in",
		Long: `
Asks for a password on the terminal, or reads it from the standard input, and prints
the line 'user' for the configuration. It changes nothing by itself.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdUserAdd),
	}
	cmd.AddCommand(list, signOutCommand(), add, resetFactorsCommand())
	return cmd
}

func signOutCommand() *cobra.Command {
	signOut := &cobra.Command{
		Use:   "sign-out <user>",
		Short: "Signs a user out in all browsers",
		Long: `
Signs a user out in all browsers. What the user has connected goes on, unless
--revoke is given: then all of that ends as well, at once and on all nodes.

The user is named as 'user list' does it: by the name of a local user, or by the
name of a login, a colon, and what identifies the user there.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdUserSignOut),
	}
	signOut.Flags().Bool("revoke", false, "End what the user has allowed clients as well")
	manageFlags(signOut)
	return signOut
}

func resetFactorsCommand() *cobra.Command {
	reset := &cobra.Command{
		Use:   "reset-factors <name>",
		Short: "Takes the second factor and the passkeys of a user away",
		Long: `
Takes away what a user has set up beside the password: the authenticator app with
its recovery codes, and all passkeys. It is for people who have lost their phone.
From then on the password is enough, so make sure who is asking. Browsers that
are signed in stay so.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdResetFactors),
	}
	reset.Flags().String("issuer", "", "The issuer whose user is meant, if there are several (default: all)")
	adminFlags(reset)
	return reset
}

// cmdUserList is "caddy mcp-auth user list".
func cmdUserList(fl caddycmd.Flags) (int, error) {
	var issuers []issuerUsers
	if err := adminGet(fl, listPath(fl, adminUsersPath), &issuers); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(issuers)
	}
	for _, issuer := range issuers {
		var rows [][]string
		for _, u := range issuer.Users {
			rows = append(rows, []string{u.User, u.Name, fmt.Sprint(u.Sessions), fmt.Sprint(u.Grants), shownTime(u.LastUsed)})
		}
		if err := printTable(issuer.Issuer, "USER,NAME,SESSIONS,GRANTS,LAST SEEN", rows, issuer.LeftOut); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
	}
	return caddy.ExitCodeSuccess, nil
}

// cmdUserSignOut is "caddy mcp-auth user sign-out".
func cmdUserSignOut(fl caddycmd.Flags) (int, error) {
	revoke := ""
	if fl.Bool("revoke") {
		revoke = "true"
	}
	var out signedOut
	path := adminPath(fl, adminSignOutPath, param{"user", fl.Arg(0)}, param{"revoke", revoke})
	if err := adminSend(fl, http.MethodPost, path, nil, &out); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(out)
	}
	fmt.Printf("Ended %s of %s", plural(out.Sessions, "session"), shown(out.User))
	if revoke != "" {
		fmt.Printf(", and %s", plural(out.Grants, "grant"))
	}
	fmt.Println(".")
	return caddy.ExitCodeSuccess, nil
}

// cmdResetFactors is "caddy mcp-auth user reset-factors".
func cmdResetFactors(fl caddycmd.Flags) (int, error) {
	var reset []resetUser
	if err := adminRequest(fl, http.MethodPost, adminPath(fl, adminResetPath, param{"user", fl.Arg(0)}), &reset); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(reset)
	}
	for _, u := range reset {
		app := "no authenticator app"
		if u.App {
			app = fmt.Sprintf("an authenticator app with %s", plural(u.RecoveryCodes, "recovery code"))
		}
		fmt.Printf("%s: %s had %s and %s; now the password is enough\n", u.Issuer, u.User, app, plural(u.Passkeys, "passkey"))
	}
	return caddy.ExitCodeSuccess, nil
}
