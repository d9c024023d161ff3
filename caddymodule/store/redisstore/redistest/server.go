package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/internal/freeport"
)

// patience bounds how long something may take that must happen.
const patience = 20 * time.Second

// Server is one redis-server process, or a sentinel.
type Server struct {
	// Addr is its host and port.
	Addr string

	t       testing.TB
	args    []string
	cli     []string // arguments of redis-cli before the command
	dir     string
	process *exec.Cmd
	ended   chan struct{} // closed when process has ended
}

// StartServer starts a server that syncs each write to disk, and waits until it
// answers. The arguments are those of redis-server, such as "--requirepass",
// "secret"; they come last and so win.
func StartServer(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, nil, append([]string{"--appendonly", "yes", "--appendfsync", "always", "--save", ""}, args...)...)
}

// StartTLSServer starts a server that speaks TLS only and does not ask for
// certificates of clients.
func StartTLSServer(t testing.TB, certFile, keyFile string) *Server {
	t.Helper()
	s := prepare(t, []string{"--tls", "--insecure"})
	s.args = append(s.args, "--port", "0", "--tls-port", s.Port(), "--tls-cert-file", certFile,
		"--tls-key-file", keyFile, "--tls-auth-clients", "no")
	s.run()
	s.waitUntilUp()
	return s
}

func start(t testing.TB, cli []string, args ...string) *Server {
	t.Helper()
	s := prepare(t, cli)
	s.args = append(append(s.args, "--port", s.Port()), args...)
	s.run()
	s.waitUntilUp()
	return s
}

// prepare finds a port and a folder for a server.
func prepare(t testing.TB, cli []string) *Server {
	t.Helper()
	for _, program := range []string{"redis-server", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", program)
			}
			t.Skipf("%s is not installed", program)
		}
	}
	dir := t.TempDir()
	s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", freeport.Redis.Free(t)), t: t, cli: cli, dir: dir}
	s.args = []string{"--bind", "127.0.0.1", "--dir", dir, "--logfile", filepath.Join(dir, "log")}
	t.Cleanup(func() {
		if s.running() {
			_ = s.process.Process.Kill()
			<-s.ended
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("log of the server at %s:\n%s", s.Addr, log[max(0, len(log)-4000):])
		}
	})
	return s
}

// Port returns the port in Addr.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

func (s *Server) run() {
	s.t.Helper()
	s.process = exec.CommandContext(context.Background(), "redis-server", s.args...)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.process.Wait()
	}()
}

func (s *Server) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *Server) waitUntilUp() {
	s.t.Helper()
	s.waitUntil("it answers", func() bool {
		out, err := s.try("ping")
		return err == nil && (out == "PONG" || strings.HasPrefix(out, "NOAUTH"))
	})
}

// waitUntil polls a condition that must become true.
func (s *Server) waitUntil(what string, condition func() bool) {
	s.t.Helper()
	WaitUntil(s.t, fmt.Sprintf("%s (server at %s)", what, s.Addr), condition)
}

// WaitUntil polls a condition that must become true within twenty seconds.
func WaitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// try runs a command with redis-cli and returns what that prints.
func (s *Server) try(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience/4)
	defer cancel()
	args := append([]string{"-h", "127.0.0.1", "-p", s.Port()}, s.cli...)
	var out bytes.Buffer
	cli := exec.CommandContext(ctx, "redis-cli", append(args, command...)...)
	cli.Stdout, cli.Stderr = &out, &out
	err := cli.Run()
	return strings.TrimSpace(out.String()), err
}

// Command runs a command with redis-cli and returns what that prints.
func (s *Server) Command(command ...string) string {
	s.t.Helper()
	out, err := s.try(command...)
	if err != nil {
		s.t.Fatalf("redis-cli %s: %v: %s", strings.Join(command, " "), err, out)
	}
	return out
}

// Stop ends the server in an orderly way.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

// Kill ends the server as a crash does.
func (s *Server) Kill() {
	s.t.Helper()
	if err := s.process.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

// Restart starts the server again, on the same port and with its files, after it
// has been stopped or killed. One that runs is killed first.
func (s *Server) Restart() {
	s.t.Helper()
	if s.running() {
		s.Kill()
	}
	s.run()
	s.waitUntilUp()
}
