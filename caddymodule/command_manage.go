package caddymodule

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// manageFlags adds the flags of commands about clients, grants and users.
func manageFlags(cmd *cobra.Command) {
	cmd.Flags().String("issuer", "", "The issuer that is meant, if there are several")
	adminFlags(cmd)
}

// listFlags are manageFlags of a list.
func listFlags(cmd *cobra.Command) {
	cmd.Flags().Int("limit", defaultListed, "How many to list at most, of those used last")
	manageFlags(cmd)
}

// param is a parameter of a request to the admin endpoint.
type param struct{ name, value string }

// adminPath adds the flag --issuer, and the parameters that are not empty, to a path
// of the admin endpoint.
func adminPath(fl caddycmd.Flags, path string, params ...param) string {
	query := url.Values{}
	for _, p := range append([]param{{"issuer", fl.String("issuer")}}, params...) {
		if p.value != "" {
			query.Set(p.name, p.value)
		}
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// listPath is adminPath with the flag --limit.
func listPath(fl caddycmd.Flags, path string, params ...param) string {
	return adminPath(fl, path, append([]param{{"limit", fmt.Sprint(fl.Int("limit"))}}, params...)...)
}

// printTable prints a list of an issuer for people.
func printTable(issuer, head string, rows [][]string, leftOut int) error {
	fmt.Println(issuer)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(rows) > 0 {
		fmt.Fprintln(w, "  "+strings.ReplaceAll(head, ",", "\t"))
	}
	for _, row := range rows {
		for i := range row {
			row[i] = shown(row[i])
		}
		fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case leftOut > 0:
		fmt.Printf("  … and %d more, used before these; --limit shows more\n", leftOut)
	case len(rows) == 0:
		fmt.Println("  none")
	}
	return nil
}

// shown is text that others have chosen, as a terminal may see it: on one line, and
// without characters that act.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}

// shownTime is a moment in a table.
func shownTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return localTime(t)
}
