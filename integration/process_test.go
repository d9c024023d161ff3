package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/internal/freeport"
)

// patience bounds every wait of these tests. It is no expectation about speed: whatever takes that long hangs.
const patience = 20 * time.Second

// outlived is how long the output of a program may stay open after its end. A program of its own that it has left behind,
// such as a browser, would otherwise hold a test up for ever.
const outlived = 5 * time.Second

// outputShown is how much of the output of a process a failed test shows, in bytes.
const outputShown = 4 << 10

// process is a program under test that runs until it is stopped.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	output lockedBuffer
	exited chan struct{}
	err    error // how it ended; to be read after exited is closed
}

// startProcess starts a program in an environment of its own: PATH and the given variables, and nothing of ours that
// could reach into a test.
func startProcess(t testing.TB, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: program, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.WaitDelay = outlived
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", program, tail(p.output.String(), outputShown))
		}
	})
	return p
}

// stop ends the process as an operator would, and returns how long that took. A process that does not end is killed
// and fails the test.
func (p *process) stop() time.Duration {
	begin := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
		p.t.Errorf("%s had not ended %v after SIGTERM", p.name, patience)
	}
	return time.Since(begin)
}

// kill ends the process as a crash or a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// runCommand runs a program to its end and returns what it printed. The error is that of the program.
func runCommand(t testing.TB, env []string, program string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = outlived
	err = cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("running %s: %v", program, err)
	}
	return out.String(), errs.String(), err
}

// freePort returns a port on which nothing listens.
func freePort(t testing.TB) int {
	t.Helper()
	return freeport.Integration.Free(t)
}

// eventually waits until a condition holds that another process makes true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("not within %v: %s", patience, what)
}

// lockedBuffer collects the output of a process while a test looks at it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// tail is the end of s, from the beginning of a line.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	return "…" + s[strings.IndexByte(s, '\n')+1:]
}
