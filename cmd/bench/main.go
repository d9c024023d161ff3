// Command bench measures what the front door costs: the same Caddy binary serves
// the same upstream once by plain reverse_proxy and once by mcp_auth with an
// access token, in short rounds one after the other, so that a noisy machine
// disturbs both alike. Only the ratios mean something.
//
//	go run ./cmd/bench [-rounds 21] [-round 500ms] [-connections 16] [-stock path/to/caddy]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"
)

type settings struct {
	rounds      int
	round       time.Duration
	connections int
	stock       string
}

func main() { os.Exit(start()) }

func start() int {
	if len(os.Args) == 2 && os.Args[1] == upstreamRole {
		serveUpstream()
		return 1
	}
	var s settings
	flag.IntVar(&s.rounds, "rounds", 21, "rounds per target")
	flag.DurationVar(&s.round, "round", 500*time.Millisecond, "length of a round")
	flag.IntVar(&s.connections, "connections", 16, "connections at once")
	flag.StringVar(&s.stock, "stock", "", "a Caddy binary without the module, to compare with as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "mcp-auth-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "gateway")
	fmt.Println("Building Caddy with the module.")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-w -s", "-o", binary, "./cmd/caddy")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	bed, err := newTestbed(ctx, dir, binary, s.stock)
	if err != nil {
		return err
	}
	defer bed.stop()
	results, err := measure(ctx, bed.targets, s)
	if err != nil {
		return err
	}
	report(os.Stdout, results, s)
	return nil
}
