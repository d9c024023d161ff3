package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

func keyCommand() *cobra.Command {
	key := &cobra.Command{Use: "key", Short: "Manages the keys that sign access tokens"}
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the signing keys",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdKeyList),
	}
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Makes a new signing key",
		Long: `
Makes a new signing key. It is published at once and signs a little later, when
all nodes know it; the one before it is kept until its last token has expired.

After a key has been stolen, use --immediately: the new key signs at once, all
others are removed, and the access tokens that they have signed are refused.
Clients get new ones with their refresh tokens.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(cmdKeyRotate),
	}
	rotate.Flags().Bool("immediately", false, "Refuse everything that the keys of before have signed")
	for _, cmd := range []*cobra.Command{list, rotate} {
		cmd.Flags().String("issuer", "", "The issuer whose keys are meant, if there are several (default: all)")
		adminFlags(cmd)
		key.AddCommand(cmd)
	}
	return key
}

// cmdKeyList is "caddy mcp-auth key list".
func cmdKeyList(fl caddycmd.Flags) (int, error) {
	return showKeys(fl, http.MethodGet, adminKeysPath, url.Values{})
}

// cmdKeyRotate is "caddy mcp-auth key rotate".
func cmdKeyRotate(fl caddycmd.Flags) (int, error) {
	query := url.Values{}
	if fl.Bool("immediately") {
		query.Set("immediately", "true")
	}
	return showKeys(fl, http.MethodPost, adminRotatePath, query)
}

func showKeys(fl caddycmd.Flags, method, path string, query url.Values) (int, error) {
	if issuer := fl.String("issuer"); issuer != "" {
		query.Set("issuer", issuer)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var issuers []issuerKeys
	if err := adminRequest(fl, method, path, &issuers); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(issuers)
	}
	for _, issuer := range issuers {
		fmt.Println(issuer.Issuer)
		for _, k := range issuer.Keys {
			fmt.Printf("  %s  %s\n", k.ID, describeKey(k))
		}
	}
	return caddy.ExitCodeSuccess, nil
}

// describeKey says what a key is good for.
func describeKey(k token.KeyInfo) string {
	switch k.State {
	case "next":
		return "signs from " + localTime(k.SignsFrom)
	case "current":
		return "signs since " + localTime(k.SignsFrom)
	default:
		return "has signed since " + localTime(k.SignsFrom) + ", accepted until " + localTime(k.AcceptedUntil)
	}
}
