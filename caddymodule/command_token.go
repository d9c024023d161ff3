package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
)

func tokenCommand() *cobra.Command {
	token := &cobra.Command{Use: "token", Short: "Manages static bearer tokens"}
	show := &cobra.Command{
		Use:   "show",
		Short: "Prints the bearer token that was generated because none is configured",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdTokenShow),
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the bearer tokens that were made with 'create'",
		Args:  cobra.NoArgs,
		RunE:  caddycmd.WrapCommandFuncForCobra(cmdTokenList),
	}
	revoke := &cobra.Command{
		Use:   "revoke <name>",
		Short: "Ends a bearer token that was made with 'create'",
		Long: `
Ends a bearer token that was made with 'create': at once, on all nodes, together
with the event streams that were opened with it. Clients that were registered
with it stay.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdTokenRevoke),
	}
	for _, cmd := range []*cobra.Command{list, createTokenCommand(), revoke} {
		cmd.Flags().String("issuer", "", "The issuer whose tokens are meant, if there are several")
		token.AddCommand(cmd)
	}
	token.AddCommand(show)
	for _, cmd := range token.Commands() {
		adminFlags(cmd)
	}
	return token
}

func createTokenCommand() *cobra.Command {
	create := &cobra.Command{
		Use:   "create <name>",
		Short: "Makes a bearer token and prints it, this one time",
		Long: `
Makes a bearer token for a program that cannot sign in, such as a CI job, and
prints it. Only its hash is kept, so nobody can print it again.

It works without any line in the configuration, on all nodes, and lets clients
register where that needs an initial access token. Its requests have the user id
token:<name>.`,
		Args: cobra.ExactArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(cmdTokenCreate),
	}
	create.Flags().StringArray("scope", nil, "A scope of the token; repeat for several (default: all scopes)")
	create.Flags().String("resource", "", "Address of the only MCP server that it is good for (default: all)")
	create.Flags().String("expires", "90d", "For how long it is good, or 'never'")
	create.Flags().Bool("registration-only", false, "Let it register clients, and do nothing else")
	return create
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

// cmdTokenCreate is "caddy mcp-auth token create". The token alone goes to the
// standard output, so that scripts can take it.
func cmdTokenCreate(fl caddycmd.Flags) (int, error) {
	wanted := newToken{
		Name: fl.Arg(0), Resource: fl.String("resource"), RegistrationOnly: fl.Bool("registration-only"),
	}
	var err error
	if wanted.Scopes, err = fl.GetStringArray("scope"); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if wanted.Expires, err = expiry(fl.String("expires"), time.Now()); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	var made createdToken
	if err := adminSend(fl, http.MethodPost, adminPath(fl, adminTokensPath), wanted, &made); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(made)
	}
	fmt.Println(made.Token)
	fmt.Fprintf(os.Stderr, "Keep this token of %s: it cannot be shown again. It %s.\n", made.Issuer, describeExpiry(made.Expires))
	return caddy.ExitCodeSuccess, nil
}

// expiry reads the flag --expires.
func expiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	lifetime, err := caddy.ParseDuration(text)
	if err != nil || lifetime <= 0 {
		return time.Time{}, fmt.Errorf("'%s' is no time that a token could be good for. Write, for example: --expires 90d; or: --expires never", text)
	}
	return now.Add(lifetime).UTC().Truncate(time.Second), nil
}

// cmdTokenList is "caddy mcp-auth token list".
func cmdTokenList(fl caddycmd.Flags) (int, error) {
	var issuers []issuerTokens
	if err := adminGet(fl, adminPath(fl, adminTokensPath), &issuers); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		return caddy.ExitCodeSuccess, printJSON(issuers)
	}
	for _, issuer := range issuers {
		fmt.Println(issuer.Issuer)
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		for _, t := range issuer.Tokens {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", t.Name, describeUse(t), describeExpiry(t.Expires), describeLastUse(t.LastUsed))
		}
		if err := w.Flush(); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
	}
	return caddy.ExitCodeSuccess, nil
}

// cmdTokenRevoke is "caddy mcp-auth token revoke".
func cmdTokenRevoke(fl caddycmd.Flags) (int, error) {
	if err := apitoken.CheckName(fl.Arg(0)); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if err := adminSend(fl, http.MethodDelete, adminPath(fl, adminTokensPath+"/"+fl.Arg(0)), nil, nil); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}

// describeUse says what a token is good for.
func describeUse(t apitoken.Info) string {
	what := "all scopes"
	switch {
	case t.RegistrationOnly:
		return "registration only"
	case len(t.Scopes) > 0:
		what = t.Scopes.String()
	}
	if t.Resource != "" {
		what += " at " + t.Resource
	}
	return what
}

func describeExpiry(t time.Time) string {
	if t.IsZero() {
		return "never expires"
	}
	return "expires " + localTime(t)
}

func describeLastUse(t time.Time) string {
	if t.IsZero() {
		return "not used yet"
	}
	return "last used " + localTime(t)
}

// localTime writes a moment for whoever runs a command.
func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04 MST") }
