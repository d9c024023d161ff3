package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func userCommand() *cobra.Command {
	user := &cobra.Command{Use: "user", Short: "Manages the users of the configuration"}
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
	user.AddCommand(reset)
	return user
}

// cmdResetFactors is "caddy mcp-auth user reset-factors".
func cmdResetFactors(fl caddycmd.Flags) (int, error) {
	query := url.Values{"user": {fl.Arg(0)}}
	if issuer := fl.String("issuer"); issuer != "" {
		query.Set("issuer", issuer)
	}
	var reset []resetUser
	if err := adminRequest(fl, http.MethodPost, adminResetPath+"?"+query.Encode(), &reset); err != nil {
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
