//go:build unix

package filestore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// childEnv names the store file of the child process that is to be killed.
const childEnv = "FILESTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
		return
	}
	os.Exit(m.Run())
}

const childWriters = 8

// child writes until it is killed. Each writer counts in a record of its own,
// makes a new record for each number and deletes the one before the last; when
// all of that is acknowledged it prints "writer number".
func child(path string) {
	s, err := Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for g := range childWriters {
		wg.Go(func() {
			for ctx.Err() == nil {
				if n, err := childStep(ctx, s, g); err == nil {
					// One write of few bytes: the line comes whole or not at all.
					_, _ = fmt.Fprintf(os.Stdout, "%d %d\n", g, n)
				}
			}
		})
	}
	wg.Wait()
}

func childStep(ctx context.Context, s *Store, g int) (int, error) {
	n := 0
	err := s.Update(ctx, fmt.Sprintf("counter/%d", g), func(r store.Record) (store.Record, error) {
		n, _ = strconv.Atoi(string(r.Value))
		n++
		return store.Record{Value: strconv.AppendInt(nil, int64(n), 10)}, nil
	})
	if err == nil {
		err = s.Put(ctx, fmt.Sprintf("kept/%d/%d", g, n), record("v"))
	}
	if err == nil {
		err = s.Delete(ctx, fmt.Sprintf("kept/%d/%d", g, n-2))
	}
	return n, err
}

// start begins a child. Its acknowledgements come from the reader.
func start(t *testing.T, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func TestNoAcknowledgedWriteIsLostByKill(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	path := filepath.Join(t.TempDir(), "state.db")
	var ledgers [childWriters]ledger
	total := 0
	for range rounds {
		cmd, out := start(t, path)
		enough := 1 + rand.IntN(300)
		seen := 0
		lines := bufio.NewScanner(out)
		for lines.Scan() { // to the end: what was printed before the kill counts
			g, n, ok := strings.Cut(lines.Text(), " ")
			writer, err1 := strconv.Atoi(g)
			number, err2 := strconv.Atoi(n)
			if !ok || err1 != nil || err2 != nil {
				t.Fatalf("the child printed %q", lines.Text())
			}
			ledgers[writer] = ledger{acknowledged: number, counter: number}
			if seen++; seen == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || seen < enough {
			t.Fatalf("the child ended by itself after %d writes: %v", seen, err)
		}
		total += seen
		checkSurvivors(t, path, &ledgers)
	}
	t.Logf("%d kills, %d acknowledgements", rounds, total)
}

// ledger is what is known about one writer.
type ledger struct {
	acknowledged int // the last number it told of
	counter      int // the least that its counter must be at
}

// checkSurvivors compares the store with what is known. In each life a writer
// may have got one step, or a part of one, further than it could tell.
func checkSurvivors(t *testing.T, path string, ledgers *[childWriters]ledger) {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for g := range ledgers {
		l := &ledgers[g]
		r, err := s.Get(t.Context(), fmt.Sprintf("counter/%d", g))
		if l.counter == 0 && errors.Is(err, store.ErrNotFound) {
			continue
		}
		got, _ := strconv.Atoi(string(r.Value))
		if err != nil || got != l.counter && got != l.counter+1 {
			t.Fatalf("the counter of writer %d is at %q, %v; want %d or one more", g, r.Value, err, l.counter)
		}
		l.counter = got
		if l.acknowledged == 0 {
			continue
		}
		// The step after the next, which may have begun, deletes the record.
		_, err = s.Get(t.Context(), fmt.Sprintf("kept/%d/%d", g, l.acknowledged))
		if err != nil && got < l.acknowledged+2 {
			t.Fatalf("the record %d of writer %d: %v", l.acknowledged, g, err)
		}
		_, err = s.Get(t.Context(), fmt.Sprintf("kept/%d/%d", g, l.acknowledged-2))
		if !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the record %d of writer %d was deleted, and Get returns %v", l.acknowledged-2, g, err)
		}
	}
	if _, err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAKillDuringTheFirstStartLeavesNothingOrAStore(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	without := 0
	for range rounds {
		path := filepath.Join(t.TempDir(), "state.db")
		cmd, out := start(t, path)
		// The moment is random on purpose; whichever it is, the rule holds.
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if _, err := os.Stat(path); err != nil {
			without++
		}
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d of %d kills came before there was a file", without, rounds)
}
