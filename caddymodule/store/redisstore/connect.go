package redisstore

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// protocol is the version of the wire protocol. The newer one mixes messages
// into the answers that nobody here needs, and with them the client can no
// longer tell from unread bytes that a connection is not fit for use.
const protocol = 2

// newStore makes the client, which connects later.
func newStore(cfg settings) *Store {
	s := &Store{
		prefix:       cfg.KeyPrefix,
		timeout:      cfg.Timeout,
		waitReplicas: cfg.WaitReplicas,
		closing:      make(chan struct{}),
	}
	switch {
	case cfg.Cluster:
		s.cluster = redis.NewClusterClient(cfg.clusterOptions())
		s.client = s.cluster
	case cfg.SentinelMaster != "":
		s.single = redis.NewFailoverClient(cfg.failoverOptions())
		s.client = s.single
	default:
		s.single = redis.NewClient(cfg.singleOptions())
		s.client = s.single
	}
	return s
}

// The options of the three kinds of client say the same. The client repeats
// nothing by itself, as a write that is sent again could undo what another node
// has written in between.

func (cfg settings) singleOptions() *redis.Options {
	return &redis.Options{
		Addr:                     cfg.addrs[0],
		DB:                       cfg.db,
		Username:                 cfg.Username,
		Password:                 cfg.Password,
		Dialer:                   cfg.dial,
		OnConnect:                refuseReplica,
		Protocol:                 protocol,
		MaxRetries:               -1,
		DialTimeout:              cfg.DialTimeout,
		DialerRetries:            1,
		ReadTimeout:              cfg.Timeout,
		PoolTimeout:              cfg.Timeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 cfg.PoolSize,
		PipelinePoolSize:         -1, // no pool of its own for writes that wait
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (cfg settings) failoverOptions() *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName:            cfg.SentinelMaster,
		SentinelAddrs:         cfg.addrs,
		SentinelUsername:      cfg.SentinelUsername,
		SentinelPassword:      cfg.SentinelPassword,
		DB:                    cfg.db,
		Username:              cfg.Username,
		Password:              cfg.Password,
		Dialer:                cfg.dial,
		OnConnect:             refuseReplica,
		Protocol:              protocol,
		MaxRetries:            -1,
		DialTimeout:           cfg.DialTimeout,
		DialerRetries:         1,
		ReadTimeout:           cfg.Timeout,
		PoolTimeout:           cfg.Timeout,
		ContextTimeoutEnabled: true,
		PoolSize:              cfg.PoolSize,
		PipelinePoolSize:      -1,
		DisableIdentity:       true,
	}
}

func (cfg settings) clusterOptions() *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:                    cfg.addrs,
		Username:                 cfg.Username,
		Password:                 cfg.Password,
		Dialer:                   cfg.dial,
		Protocol:                 protocol,
		MaxRetries:               -1,
		DialTimeout:              cfg.DialTimeout,
		DialerRetries:            1,
		ReadTimeout:              cfg.Timeout,
		PoolTimeout:              cfg.Timeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 cfg.PoolSize,
		PipelinePoolSize:         -1,
		DisableRoutingPolicies:   true, // they would ask each server for its list of commands
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// dial makes a connection, with TLS where that is configured.
func (cfg settings) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil || cfg.TLS == nil {
		return raw, err
	}
	config := cfg.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, errHandshake{err}
	}
	if socket, ok := raw.(syscall.Conn); ok {
		return tlsConn{conn, socket}, nil
	}
	return conn, nil
}

// errHandshake marks errors of TLS, for the hint in the message.
type errHandshake struct{ error }

func (e errHandshake) Unwrap() error { return e.error }

// tlsConn is a TLS connection that shows the socket below. The client looks there
// before it uses a connection again, and so finds out that the server has closed
// it, as after a restart. It looks without TLS as well, where a net.Conn has this
// method by itself.
type tlsConn struct {
	*tls.Conn
	socket syscall.Conn
}

// SyscallConn implements syscall.Conn.
func (c tlsConn) SyscallConn() (syscall.RawConn, error) { return c.socket.SyscallConn() }

// unsuitable is an error that says by itself what to do about a server.
type unsuitable string

func (e unsuitable) Error() string { return string(e) }

const errReplica unsuitable = "the server is a read-only replica: give the address of the master, or use Sentinel"

// refuseReplica keeps the client from reading what may be out of date, where the
// name of a master leads to a replica or a sentinel has not heard of a failover.
// A server that does not tell its role is trusted.
func refuseReplica(ctx context.Context, conn *redis.Conn) error {
	role, err := conn.Do(ctx, "role").Slice()
	switch {
	case err != nil && redis.HasErrorPrefix(err, "NOPERM"):
		return nil
	case err != nil:
		return err
	case len(role) > 0 && role[0] == "slave":
		return errReplica
	}
	return nil
}
