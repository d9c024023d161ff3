// Command mcpbackend is a plain MCP server with tools over Cisco's Bug API. It authenticates nobody: it is the kind
// of server that a gateway protects, and the one that the demo and the tests of this project run behind it.
//
//	go run ./mcpbackend
//
// Without credentials it answers from sample data, about 40 invented bugs, and says so in its instructions and in
// each result. Nothing then needs a network.
//
// # Settings
//
//	-listen address   where to listen [127.0.0.1:3000, or PORT on 127.0.0.1]
//	-api groups       tools to serve: bug, case, all, or several separated by commas [SUPPORT_API]
//	-check-origin     refuse browser requests from other sites; for use without a gateway in front [off]
//
//	PORT                   port on 127.0.0.1, when -listen is not given
//	SUPPORT_API            the same as -api; default bug on Cisco's API, all on sample data
//	CISCO_CLIENT_ID        credentials from Cisco's API console, of an application with the Bug API;
//	CISCO_CLIENT_SECRET    both or neither
//	CISCO_API_BASE         address of the Bug API [https://apix.cisco.com/bug/v2.0]
//	CISCO_TOKEN_URL        address of its token endpoint [https://id.cisco.com/oauth2/default/v1/token]
//
// Listen on a loopback address unless a network of its own, as between containers, is in between: whoever reaches the
// port can use the tools.
//
// # Tools
//
// Group bug, all read-only: get_bug_details, search_bugs_by_keyword, search_bugs_by_product_id,
// search_bugs_by_product_and_release, search_bugs_by_product_series_affected, search_bugs_by_product_series_fixed,
// search_bugs_by_product_name_affected and search_bugs_by_product_name_fixed. Results have structured content
// {bugs, page_index, total_results, has_more, sample_data} and the same as Markdown.
//
// Group case, on sample data only: create_case and update_case. They write, to the memory of the server, so that
// there is something to try access rules on. update_case is marked as destructive.
//
// # Paths
//
//	/mcp                MCP over streamable HTTP, for protocol versions up to 2025-11-25 with sessions, and 2026-07-28
//	/sse, /messages     MCP over HTTP with SSE, protocol version 2024-11-05
//	/health             {"status":"healthy",…}
//	/                   a description of the server in JSON
//	/whoami             for tests of a gateway: the X-Mcp-* headers and the Host of the request, and whether it had
//	                    Authorization and Cookie headers (not their values)
//
// A POST to /mcp also works without a session, for scripts; the answer is then plain JSON:
//
//	curl http://127.0.0.1:3000/mcp -H 'Content-Type: application/json' \
//	    -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
//
// On a loopback address, the MCP paths answer 403 to a Host header that is not local. That is protection against DNS
// rebinding, and it means that a proxy in front has to set the Host header to the address of this server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mcpbackend:", err)
		return 1
	}
	return 0
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	cfg, err := configure(args, getenv, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	cfg.options.Logger = log
	srv, err := server.New(cfg.options)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("%w; choose another address with -listen or PORT", err)
	}
	log.Info("serving MCP", "address", "http://"+ln.Addr().String()+"/mcp", "sample_data", srv.SampleData(),
		"tools", strings.Join(srv.Tools(), ","))
	if addr, ok := ln.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
		log.Warn("listening beyond this machine; whoever reaches this port can use the tools, so let only a gateway reach it")
	}
	return srv.Serve(ctx, ln)
}
