package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Open connects to the server and looks at its settings. It returns within the
// sum of the two timeouts; when the server is not there or not usable, the error
// is one sentence that says where, why and what to look at.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	resolved, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	s := newStore(resolved)
	if err := s.inspect(ctx, resolved); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("cannot use Redis at %s: %w", strings.Join(resolved.addrs, ","), err)
	}
	return s, nil
}

// inspect speaks to every master once.
func (s *Store) inspect(ctx context.Context, cfg settings) error {
	callerCtx := ctx
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout+cfg.Timeout)
	defer cancel()
	var mu sync.Mutex
	look := func(ctx context.Context, node *redis.Client) error {
		warnings, err := inspectNode(ctx, node, cfg)
		mu.Lock()
		defer mu.Unlock()
		s.warnings = append(s.warnings, warnings...)
		return err
	}
	var err error
	if s.cluster != nil {
		err = s.cluster.ForEachMaster(ctx, look)
	} else {
		err = look(ctx, s.single)
	}
	slices.Sort(s.warnings)
	if err != nil && callerCtx.Err() != nil {
		return callerCtx.Err()
	}
	return withHint(oneLine(err))
}

// inspectNode returns what makes a server unusable as an error, and what makes
// it unsafe as warnings.
func inspectNode(ctx context.Context, node *redis.Client, cfg settings) (warnings []string, err error) {
	if err := node.Ping(ctx).Err(); err != nil {
		return nil, err
	}
	text, err := node.Info(ctx).Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return nil, nil // all that follows is a service
	}
	if err != nil {
		return nil, err
	}
	info := parseInfo(text)
	if err := checkServer(info, cfg); err != nil {
		return nil, err
	}
	// The server may well say nothing here, since services often forbid CONFIG.
	snapshots := true
	if saves, err := node.ConfigGet(ctx, "save").Result(); err == nil {
		snapshots = saves["save"] != ""
	}
	return warningsOf(info, snapshots, node.Options().Addr, cfg), nil
}

// parseInfo reads the answer to INFO.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// checkServer finds out whether the server is of the configured kind.
func checkServer(info map[string]string, cfg settings) error {
	switch mode := info["redis_mode"]; {
	case mode == "cluster" && !cfg.Cluster:
		return unsuitable("the server is a node of a cluster: set cluster")
	case mode == "sentinel":
		return unsuitable("the server is a sentinel: set the name of the sentinel master")
	}
	major, rest, _ := strings.Cut(info["redis_version"], ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errMajor := strconv.Atoi(major)
	b, errMinor := strconv.Atoi(minor)
	if errMajor == nil && errMinor == nil && (a < 6 || a == 6 && b < 2) {
		return unsuitable("the server has version " + info["redis_version"] + ", but 6.2 is needed")
	}
	return nil
}

// warningsOf finds settings that lose records. What is not told is not warned of.
func warningsOf(info map[string]string, snapshots bool, addr string, cfg settings) (warnings []string) {
	warn := func(format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("Redis at %s ", addr)+fmt.Sprintf(format, args...))
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		warn("has the maxmemory-policy %s and will forget records, revocations among them, when memory is short: set maxmemory-policy noeviction", policy)
	}
	if info["aof_enabled"] == "0" && !snapshots {
		warn("keeps nothing on disk, so a restart loses all records: set appendonly yes")
	}
	if replicas, err := strconv.Atoi(info["connected_slaves"]); err == nil && replicas < cfg.WaitReplicas {
		warn("has %d replicas, so writes that wait for %d will fail", replicas, cfg.WaitReplicas)
	} else if err == nil && cfg.WaitReplicas > 0 && replicas > cfg.WaitReplicas {
		// A replica that is not promoted follows the old master a moment longer,
		// and confirms what nobody else will have.
		warn("has %d replicas, but writes wait for %d only, so a failover can still lose some", replicas, cfg.WaitReplicas)
	}
	return warnings
}

// hints say what to do about the errors of a first connection, by what the
// server's errors begin with.
var hints = []struct{ prefix, hint string }{
	{"WRONGPASS", "check user name and password"},
	{"NOAUTH", "the server asks for a password, but none is configured"},
	{"NOPERM", "give the user the rights that the documentation lists"},
	{"LOADING", "the server is still reading its data; try again in a while"},
	{"This instance has cluster support disabled", "the server is not a cluster: unset cluster"},
	{"No such master with that name", "the sentinels do not know the configured master"},
	{"unknown command 'sentinel'", "with the name of a sentinel master, the hosts in the URL have to be sentinels"},
	{"MOVED", "the server is a node of a cluster: set cluster"},
	{"DB index is out of range", "the server has no database of that number"},
}

// withHint adds to an error of a first connection what to look at.
func withHint(err error) error {
	if err == nil {
		return nil
	}
	for _, h := range hints {
		if redis.HasErrorPrefix(err, h.prefix) {
			return fmt.Errorf("%w (%s)", err, h.hint)
		}
	}
	_, selfExplaining := errors.AsType[unsuitable](err)
	_, handshake := errors.AsType[errHandshake](err)
	switch {
	case selfExplaining:
		return err
	case handshake:
		return fmt.Errorf("TLS fails: %w (check that the server speaks TLS on this port and that its certificate is trusted)", err)
	case errors.Is(err, io.EOF) || strings.Contains(err.Error(), "connection reset"):
		return fmt.Errorf("the server hung up (%w); if it expects TLS, the URL has to begin with rediss://", err)
	case isTimeout(err):
		return errors.New("no answer in time; check the address, that the server is up, and firewalls")
	}
	return fmt.Errorf("%w; check the address and that the server is up", err)
}
