package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/cisco"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

const defaultListen = "127.0.0.1:3000"

// A config is what the flags and the environment ask for.
type config struct {
	listen  string
	options server.Options
}

// configure reads flags and environment; flags win. It prints the usage on -h, and then fails with [flag.ErrHelp].
func configure(args []string, getenv func(string) string, stderr io.Writer) (config, error) {
	fs := flag.NewFlagSet("mcpbackend", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned; only the usage is printed, below
	listen := fs.String("listen", "", "`address` to listen on (default "+defaultListen+", or PORT on 127.0.0.1)")
	groups := fs.String("api", getenv("SUPPORT_API"), "tool `groups`: bug, case, all, or several separated by commas")
	checkOrigin := fs.Bool("check-origin", false, "refuse browser requests from other sites")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stderr)
		fmt.Fprintln(stderr, "usage: mcpbackend [-listen address] [-api groups] [-check-origin]")
		fs.PrintDefaults()
		return config{}, err
	case err != nil:
		return config{}, fmt.Errorf("%w; mcpbackend -h lists the flags", err)
	case fs.NArg() > 0:
		return config{}, fmt.Errorf("unexpected argument %q; mcpbackend -h lists the flags", fs.Arg(0))
	}
	cfg := config{options: server.Options{
		Groups: *groups,
		Cisco: cisco.Config{
			ClientID:     getenv("CISCO_CLIENT_ID"),
			ClientSecret: getenv("CISCO_CLIENT_SECRET"),
			APIBase:      getenv("CISCO_API_BASE"),
			TokenURL:     getenv("CISCO_TOKEN_URL"),
		},
	}}
	if *checkOrigin {
		cfg.options.CrossOrigin = http.NewCrossOriginProtection()
	}
	cfg.listen, err = listenAddress(*listen, getenv("PORT"))
	return cfg, err
}

// listenAddress decides where to listen. PORT listens on the loopback address only, because nothing here checks who
// asks; other addresses have to be named.
func listenAddress(listen, port string) (string, error) {
	switch {
	case listen != "":
		if _, p, err := net.SplitHostPort(listen); err != nil || !validPort(p) {
			return "", fmt.Errorf("-listen %q is not an address: write host:port, for example -listen %s", listen, defaultListen)
		}
		return listen, nil
	case port != "":
		if !validPort(port) {
			return "", fmt.Errorf("PORT is %q: it must be a number from 0 to 65535, for example PORT=3000", port)
		}
		return net.JoinHostPort("127.0.0.1", port), nil
	}
	return defaultListen, nil
}

func validPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}
