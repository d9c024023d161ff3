// Command caddy is Caddy with the mcp_auth module and its quickstart built in.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule"
)

func main() { caddycmd.Main() }
