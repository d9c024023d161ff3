package checkup

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
)

// protocolVersion is one that MCP servers of both eras understand.
const protocolVersion = "2025-11-25"

const (
	listTools  = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + protocolVersion + `",` +
		`"capabilities":{},"clientInfo":{"name":"mcp-auth-check","version":"1"}}}`
)

// call sends a message to the MCP endpoint.
func (c *checkup) call(ctx context.Context, method, body, token string, headers map[string]string) (*answer, error) {
	all := map[string]string{"Accept": "application/json, text/event-stream"}
	if method == http.MethodPost {
		all["Content-Type"] = "application/json"
	} else {
		body = ""
	}
	if token != "" {
		all["Authorization"] = "Bearer " + token
	}
	maps.Copy(all, headers)
	return c.send(ctx, method, c.target.String(), body, all)
}

// backend calls the MCP server behind the front door, with a token.
func (c *checkup) backend(ctx context.Context) {
	const name = "Backend"
	if c.opts.Token == "" {
		c.report(Finding{Name: name, Level: Skipped, Text: "give a token with --token to look at the MCP server as well"})
		return
	}
	method, body := http.MethodPost, initialize
	if strings.HasSuffix(c.target.Path, "/sse") {
		method, body = http.MethodGet, "" // the old transport begins with its stream
	}
	a, err := c.call(ctx, method, body, c.opts.Token, nil)
	if err != nil {
		c.problem(name, "", "%v", err)
		return
	}
	if a.StatusCode != http.StatusOK {
		c.problem(name, mend(a), "the answer is %s: %.200s", a.Status, strings.TrimSpace(string(a.body)))
		return
	}
	c.good(name, "%s", c.introduction(a))
	c.cors(ctx)
	c.endSession(ctx, a)
}

// mend says what to do about an answer of the front door or of the MCP server.
func mend(a *answer) string {
	text := strings.ToLower(string(a.body))
	switch {
	case a.StatusCode == http.StatusUnauthorized:
		return "The token is not good for this address, has expired or was revoked."
	case strings.Contains(text, "insufficient_scope"):
		return "The token lacks the scopes of this server."
	case strings.Contains(text, "origin_not_allowed"):
		return "Write: cors_origins " + inspectorOrigin
	case strings.Contains(text, "host"):
		return "The MCP server refuses the name in the Host header. Use 'mcp_auth <upstream>', or add to reverse_proxy: header_up Host {upstream_hostport}"
	case strings.Contains(text, "upstream_unauthorized"):
		return "The MCP server wants a token of its own; see 'upstream_credential' in the reference."
	case a.StatusCode == http.StatusBadGateway || a.StatusCode == http.StatusGatewayTimeout:
		return "Is the MCP server running at the address that mcp_auth names?"
	}
	return "The MCP server itself answers so."
}

// introduction is how the MCP server calls itself.
func (c *checkup) introduction(a *answer) string {
	var message struct {
		Result struct {
			ProtocolVersion string
			ServerInfo      struct{ Name, Version string }
		}
		Error *struct{ Message string }
	}
	switch err := json.Unmarshal(a.body, &message); {
	case err != nil:
		return "it answers " + a.Status
	case message.Error != nil:
		return "it answers: " + message.Error.Message
	}
	info := message.Result.ServerInfo
	return fmt.Sprintf("%s %s, MCP %s", info.Name, info.Version, message.Result.ProtocolVersion)
}

// cors asks whether a page in a browser could have made the call.
func (c *checkup) cors(ctx context.Context) {
	const name = "CORS"
	a, err := c.call(ctx, http.MethodPost, listTools, c.opts.Token, map[string]string{"Origin": c.opts.Origin})
	if err != nil {
		c.problem(name, "", "%v", err)
		return
	}
	if got := a.Header.Get("Access-Control-Allow-Origin"); got == c.opts.Origin || got == "*" && a.StatusCode != http.StatusForbidden {
		c.good(name, "pages of %s may call it", c.opts.Origin)
		return
	}
	c.warn(name, "Write: cors_origins "+c.opts.Origin, "pages of %s may not call it; clients in a browser, such as the MCP Inspector, will fail", c.opts.Origin)
}

// endSession lets the MCP server forget the session that the call began.
func (c *checkup) endSession(ctx context.Context, a *answer) {
	if id := a.Header.Get("Mcp-Session-Id"); id != "" {
		// It lapses by itself when this fails.
		_, _ = c.call(ctx, http.MethodDelete, "", c.opts.Token, map[string]string{"Mcp-Session-Id": id})
	}
}
