package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sample is one round against one target.
type sample struct {
	perSecond float64
	median    time.Duration // of the time to the answer
	cpu       time.Duration // of the Caddy process, for each request
}

// result are all rounds of a target.
type result struct {
	target
	samples []sample
}

const requestBody = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`

// measure runs the rounds: A B C, C B A, A B C, …
func measure(ctx context.Context, targets []target, s settings) ([]result, error) {
	results := make([]result, len(targets))
	for i, t := range targets {
		results[i].target = t
		// The first requests open connections and fill caches.
		if _, err := round(ctx, t, s); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	order := make([]int, len(targets))
	for i := range order {
		order[i] = i
	}
	for range s.rounds {
		for _, i := range order {
			got, err := round(ctx, targets[i], s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", targets[i].name, err)
			}
			results[i].samples = append(results[i].samples, got)
		}
		slices.Reverse(order)
	}
	return results, nil
}

// round loads one target with all connections at once.
func round(ctx context.Context, t target, s settings) (sample, error) {
	before, err := cpuTime(t.pid)
	if err != nil {
		return sample{}, err
	}
	var (
		mu        sync.Mutex
		durations []time.Duration
		failure   error
		wg        sync.WaitGroup
	)
	start := time.Now()
	deadline := start.Add(s.round)
	for range s.connections {
		wg.Go(func() {
			own, err := drive(ctx, t, deadline)
			mu.Lock()
			defer mu.Unlock()
			durations = append(durations, own...)
			if err != nil {
				failure = err
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	after, err := cpuTime(t.pid)
	if err = errors.Join(err, failure); err != nil || len(durations) == 0 {
		return sample{}, fmt.Errorf("the load stopped: %w", err)
	}
	slices.Sort(durations)
	return sample{
		perSecond: float64(len(durations)) / elapsed.Seconds(),
		median:    durations[len(durations)/2],
		cpu:       (after - before) / time.Duration(len(durations)),
	}, nil
}

// drive sends requests over one connection until the deadline.
func drive(ctx context.Context, t target, deadline time.Time) ([]time.Duration, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline.Add(5 * time.Second)); err != nil {
		return nil, err
	}
	request := []byte("POST /mcp HTTP/1.1\r\nHost: " + t.address + "\r\nContent-Type: application/json\r\n" +
		"Accept: application/json, text/event-stream\r\nAuthorization: Bearer " + t.token + "\r\n" +
		"Content-Length: " + strconv.Itoa(len(requestBody)) + "\r\n\r\n" + requestBody)
	reader := bufio.NewReaderSize(conn, 16<<10)
	var out []time.Duration
	for time.Now().Before(deadline) {
		start := time.Now()
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			return nil, err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK || n < answerBytes/2 {
			return nil, fmt.Errorf("answer is %s with %d bytes", resp.Status, n)
		}
		out = append(out, time.Since(start))
	}
	return out, nil
}

// clockTick is the unit of CPU times in /proc on Linux.
const clockTick = 10 * time.Millisecond

// cpuTime is the CPU time that a process has used, or 0 where the system does not
// tell.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("cannot read the CPU time of process %d", pid)
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
