package pages

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Landing is the page at the root of the site: how to add the server to an
// app.
type Landing struct {
	// Resources are the addresses of the MCP servers; the copy lines are for
	// the first one.
	Resources []Resource

	// SignIn and Bearer say which kinds of access the server takes: people who
	// sign in (OAuth), and fixed tokens that its operator hands out.
	SignIn, Bearer bool
}

type landingBody struct {
	Landing
	Server serverView
	Lines  []copyLines
}

// copyLines are the lines to copy for one kind of access.
type copyLines struct {
	Token      bool
	ClaudeCode string
	VSCode     string
	MCPJSON    string
}

// tokenHeader is what the copy lines have in place of a secret.
const tokenHeader = "Bearer <token>"

// Landing writes the landing page. It returns ErrView when an address is not
// an absolute http or https URL that can be pasted into a shell.
func (r *Renderer) Landing(w http.ResponseWriter, req *http.Request, status int, v Landing) error {
	if len(v.Resources) == 0 {
		return fmt.Errorf("%w: no address to show", ErrView)
	}
	for _, res := range v.Resources {
		if err := pasteable(res.URL); err != nil {
			return err
		}
	}
	body := landingBody{Landing: v, Server: r.server(v.Resources[0])}
	id := slug(body.Server.Name)
	if v.SignIn || !v.Bearer {
		body.Lines = append(body.Lines, newCopyLines(id, body.Server.URL, false))
	}
	if v.Bearer {
		body.Lines = append(body.Lines, newCopyLines(id, body.Server.URL, true))
	}
	return r.write(w, r.choose(req, ""), status, "landing", frame{Body: body, Isolated: true, Class: "wide", Served: true})
}

// pasteable checks that an address means nothing to a shell, in or outside of
// single quotes.
func pasteable(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%w: %q is not a web address", ErrView, address)
	}
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/.-_~%[]+,@="
	if i := strings.IndexFunc(address, func(c rune) bool { return !strings.ContainsRune(plain, c) }); i >= 0 {
		return fmt.Errorf("%w: %q cannot be pasted into a shell", ErrView, address)
	}
	return nil
}

// shellWord quotes an IPv6 address, whose brackets are a pattern to shells.
func shellWord(address string) string {
	if strings.ContainsAny(address, "[]") {
		return "'" + address + "'"
	}
	return address
}

// entry is a server in the configuration files of clients.
type entry struct {
	Name    string            `json:"name,omitempty"`
	Type    string            `json:"type,omitempty"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
}

func newCopyLines(id, address string, token bool) copyLines {
	e := entry{URL: address}
	l := copyLines{Token: token, ClaudeCode: "claude mcp add --transport http " + id + " " + shellWord(address)}
	if token {
		l.ClaudeCode += ` --header "Authorization: ` + tokenHeader + `"`
		e.Headers = map[string]string{"Authorization": tokenHeader}
	}
	l.MCPJSON = compactJSON(map[string]map[string]entry{"mcpServers": {id: e}})
	e.Name, e.Type = id, "http"
	l.VSCode = "code --add-mcp '" + compactJSON(e) + "'"
	return l
}

// compactJSON leaves "<token>" readable; the templates escape it for HTML.
func compactJSON(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "" // maps and strings always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// slug returns the name that the copy lines give to the server: lower-case
// ASCII letters, digits and hyphens.
func slug(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
	if len(words) == 0 {
		return "mcp"
	}
	return strings.Join(words, "-")
}
