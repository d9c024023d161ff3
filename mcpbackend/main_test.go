package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// env makes a getenv of pairs NAME=value.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == name {
				return v
			}
		}
		return ""
	}
}

func TestListenAddress(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		env  []string
		want string
		err  string
	}{
		{name: "the default is loopback", want: "127.0.0.1:3000"},
		{name: "PORT is on loopback", env: []string{"PORT=4000"}, want: "127.0.0.1:4000"},
		{name: "the flag wins over PORT", args: []string{"-listen", "[::1]:5000"}, env: []string{"PORT=nonsense"}, want: "[::1]:5000"},
		{name: "another address must be named", args: []string{"-listen", ":3000"}, want: ":3000"},
		{name: "PORT must be a number", env: []string{"PORT=http"}, err: `PORT is "http": it must be a number from 0 to 65535, for example PORT=3000`},
		{name: "PORT must be in range", env: []string{"PORT=65536"}, err: `PORT is "65536"`},
		{name: "a port alone is no address", args: []string{"-listen", "3000"}, err: `-listen "3000" is not an address: write host:port`},
		{name: "an address needs a numeric port", args: []string{"-listen", "127.0.0.1:x"}, err: `is not an address`},
		{name: "an unknown flag points to the help", args: []string{"-port", "1"}, err: "mcpbackend -h lists the flags"},
		{name: "arguments are refused", args: []string{"serve"}, err: `unexpected argument "serve"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := configure(tc.args, env(tc.env...), io.Discard)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || cfg.listen != tc.want {
				t.Errorf("listen %q, %v; want %q", cfg.listen, err, tc.want)
			}
		})
	}
}

func TestSettingsReachTheServer(t *testing.T) {
	cfg, err := configure([]string{"-check-origin"}, env("SUPPORT_API=bug", "CISCO_CLIENT_ID=a", "CISCO_CLIENT_SECRET=b",
		"CISCO_API_BASE=https://api", "CISCO_TOKEN_URL=https://token"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o := cfg.options
	if o.Groups != "bug" || o.CrossOrigin == nil || o.Cisco.ClientID != "a" || o.Cisco.ClientSecret != "b" ||
		o.Cisco.APIBase != "https://api" || o.Cisco.TokenURL != "https://token" {
		t.Errorf("options %+v", o)
	}
	cfg, err = configure([]string{"-api", "all"}, env("SUPPORT_API=nonsense"), io.Discard)
	if err != nil || cfg.options.Groups != "all" || cfg.options.CrossOrigin != nil {
		t.Errorf("-api must win over SUPPORT_API: %+v, %v", cfg.options, err)
	}
}

func TestHelpListsTheFlags(t *testing.T) {
	var out strings.Builder
	_, err := configure([]string{"-h"}, env(), &out)
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"-listen", "-api", "-check-origin", "127.0.0.1:3000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("usage lacks %q:\n%s", want, out.String())
		}
	}
}

func TestRunRefusesBadSettings(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  []string
		err  string
	}{
		{"an unknown group", []string{"SUPPORT_API=bugs"}, `there is no group of tools "bugs": use bug, case or all`},
		{"half of the credentials", []string{"CISCO_CLIENT_ID=a"}, "set both, or neither"},
		{"credentials to a plain http address", []string{"CISCO_CLIENT_ID=a", "CISCO_CLIENT_SECRET=b", "CISCO_TOKEN_URL=http://x"}, "CISCO_TOKEN_URL must begin with https://"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := run(t.Context(), []string{"-listen", "127.0.0.1:0"}, env(tc.env...), io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

func TestRunServesUntilStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	logs, stderr := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-listen", "127.0.0.1:0"}, env(), stderr)
		stderr.Close()
	}()
	lines := bufio.NewScanner(logs)
	if !lines.Scan() {
		t.Fatalf("no log line; run said %v", <-done)
	}
	line := lines.Text()
	go func() { _, _ = io.Copy(io.Discard, logs) }() // later lines must not block the server
	m := regexp.MustCompile(`address=(http://[0-9.:]+)/mcp`).FindStringSubmatch(line)
	if m == nil || !strings.Contains(line, "sample_data=true") {
		t.Fatalf("log line %q", line)
	}

	// A second server on the same address must say what to do.
	err := run(ctx, []string{"-listen", strings.TrimPrefix(m[1], "http://")}, env(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "choose another address with -listen or PORT") {
		t.Errorf("error %v", err)
	}

	res, err := http.Get(m[1] + "/health")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !strings.Contains(string(body), `"healthy"`) {
		t.Errorf("health %s", body)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
}
