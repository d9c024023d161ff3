package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore"
)

// RedisStore keeps the state in Redis or Valkey, for several nodes behind a load
// balancer: a single server, one that sentinels watch, or a cluster.
type RedisStore struct {
	// Where the server is: redis://[[user]:password@]host[:port][/database], or
	// rediss:// for TLS. Several hosts, separated by commas, are sentinels or
	// nodes of a cluster. May be a placeholder.
	URL string `json:"url"`

	// Take the place of what the URL says. May be placeholders.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// Starts the names of all keys and channels. Default: mcp_auth.
	KeyPrefix string `json:"key_prefix,omitempty"`

	// The hosts are sentinels, which know the master by this name.
	Sentinel *RedisSentinel `json:"sentinel,omitempty"`

	// The hosts are nodes of a Redis Cluster. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// How many replicas must have a write before it counts. With as many as
	// there are, a failover loses nothing that was acknowledged, and the loss
	// of a replica makes writes fail. Default: 0.
	WaitReplicas int `json:"wait_replicas,omitempty"`

	// How long an exchange with the server may take. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long making a connection may take. Default: 2s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How many connections are kept to each server. Default: 10 for each
	// processor, and at least 32.
	PoolSize int `json:"pool_size,omitempty"`

	// How TLS is done for a URL that begins with rediss.
	TLS *RedisTLS `json:"tls,omitempty"`

	Encryption

	cfg redisstore.Config // with placeholders replaced
}

// RedisSentinel says how the sentinels are asked for the master.
type RedisSentinel struct {
	// The name of the master.
	Master string `json:"master"`

	// For sentinels that ask for a password themselves. May be placeholders.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// RedisTLS says whom to trust and who the client is.
type RedisTLS struct {
	// A file with the certificates of the authorities to trust, in PEM.
	// Default: those of the system.
	CA string `json:"ca,omitempty"`

	// Files with the certificate and the key of the client, in PEM.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	// The name in the server's certificate. Default: the host in the URL.
	ServerName string `json:"server_name,omitempty"`
}

// redisLog is where the client says what it meets on the way, such as connections
// that it has to make anew. The calls that suffer from it say so themselves.
type redisLog struct{ *zap.Logger }

// Printf implements the interface of the client.
func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.Debug(fmt.Sprintf(format, v...))
}

func init() { redis.SetLogger(redisLog{newRunningLog().Named("redis")}) }

// CaddyModule returns the Caddy module information.
func (RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_auth.stores.redis", New: func() caddy.Module { return new(RedisStore) }}
}

// Provision replaces placeholders and checks the settings. It does not connect.
func (s *RedisStore) Provision(caddy.Context) error {
	r := resolver{caddy.NewReplacer()}
	url, err := r.required(s.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	s.cfg = redisstore.Config{
		URL: url, KeyPrefix: s.KeyPrefix, Cluster: s.Cluster, WaitReplicas: s.WaitReplicas,
		Timeout: time.Duration(s.Timeout), DialTimeout: time.Duration(s.DialTimeout), PoolSize: s.PoolSize,
	}
	if err := s.provisionLogin(r); err != nil {
		return err
	}
	if s.TLS != nil {
		if s.cfg.TLS, err = s.TLS.config(); err != nil {
			return err
		}
	}
	if err := s.cfg.Validate(); err != nil {
		return err
	}
	return s.provisionEncryption()
}

// provisionLogin replaces the placeholders of names and passwords. One that is
// given stands for something.
func (s *RedisStore) provisionLogin(r resolver) error {
	fields := []struct {
		name string
		from string
		to   *string
	}{
		{"username", s.Username, &s.cfg.Username},
		{"password", s.Password, &s.cfg.Password},
	}
	if s.Sentinel != nil {
		s.cfg.SentinelMaster = s.Sentinel.Master
		fields = append(fields, []struct {
			name string
			from string
			to   *string
		}{
			{"sentinel username", s.Sentinel.Username, &s.cfg.SentinelUsername},
			{"sentinel password", s.Sentinel.Password, &s.cfg.SentinelPassword},
		}...)
	}
	for _, f := range fields {
		if f.from == "" {
			continue
		}
		var err error
		if *f.to, err = r.required(f.from); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// config reads the files.
func (t *RedisTLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca: %s has no certificate in PEM", t.CA)
		}
	}
	if t.Certificate != "" || t.Key != "" {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls_client: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Identity implements StoreModule.
func (s *RedisStore) Identity() string { return "redis:" + s.cfg.Identity() }

// Open implements StoreModule.
func (s *RedisStore) Open() (store.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return redisstore.Open(ctx, s.cfg)
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store redis <url> {
//		username       <name>
//		password       <password>
//		key_prefix     <prefix>
//		sentinel       <master> [<username> <password>]
//		cluster
//		wait_replicas  <number>
//		timeout        <duration>
//		dial_timeout   <duration>
//		pool_size      <number>
//		tls_ca         <file>
//		tls_client     <certificate file> <key file>
//		tls_server_name <name>
//		encryption_key <key> [<old keys...>]
//	}
func (s *RedisStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the store
	if !d.NextArg() {
		return d.Errf("'store redis' lacks the address. Write: store redis redis://localhost:6379")
	}
	s.URL = d.Val()
	p := storeParser(d)
	lines := s.serverLines(p)
	maps.Copy(lines, s.tlsLines(p))
	maps.Copy(lines, s.encryptionLines(p))
	return p.storeBlock("store redis", "store redis <url> { … }", lines)
}

// serverLines are the lines about the servers and how to speak to them.
func (s *RedisStore) serverLines(p *parser) map[string]subdirective {
	return map[string]subdirective{
		"username":     {usage: "username <name>", read: p.text(&s.Username)},
		"password":     {usage: "password <password>", example: "password {env.REDIS_PASSWORD}", read: p.text(&s.Password)},
		"key_prefix":   {usage: "key_prefix <prefix>", example: "key_prefix mcp", read: p.text(&s.KeyPrefix)},
		"timeout":      {usage: "timeout <duration>", example: "timeout 2s", read: p.duration(&s.Timeout)},
		"dial_timeout": {usage: "dial_timeout <duration>", example: "dial_timeout 2s", read: p.duration(&s.DialTimeout)},
		"pool_size":    {usage: "pool_size <number>", example: "pool_size 64", read: p.number(&s.PoolSize)},
		"wait_replicas": {
			usage: "wait_replicas <number>", example: "wait_replicas 1", read: p.number(&s.WaitReplicas),
		},
		"cluster": {usage: "cluster", read: func() error {
			s.Cluster = true
			return nil
		}},
		"sentinel": {
			usage: "sentinel <master> [<username> <password>]", example: "sentinel mymaster",
			read: func() error {
				s.Sentinel = new(RedisSentinel)
				if err := p.text(&s.Sentinel.Master)(); err != nil {
					return err
				}
				if args := p.RemainingArgs(); len(args) == 2 {
					s.Sentinel.Username, s.Sentinel.Password = args[0], args[1]
				} else if len(args) != 0 {
					return errArguments
				}
				return nil
			},
		},
	}
}

// tlsLines are the lines about TLS.
func (s *RedisStore) tlsLines(p *parser) map[string]subdirective {
	var t RedisTLS
	keep := func(read func() error) func() error {
		return func() error {
			if s.TLS == nil {
				s.TLS = &t
			}
			return read()
		}
	}
	return map[string]subdirective{
		"tls_ca":          {usage: "tls_ca <file>", example: "tls_ca /etc/redis/ca.pem", read: keep(p.text(&t.CA))},
		"tls_server_name": {usage: "tls_server_name <name>", read: keep(p.text(&t.ServerName))},
		"tls_client": {
			usage: "tls_client <certificate file> <key file>",
			read: keep(func() error {
				return errors.Join(p.text(&t.Certificate)(), p.text(&t.Key)())
			}),
		},
	}
}

// number reads a number from 1 on.
func (p *parser) number(to *int) func() error {
	return func() error {
		if !p.NextArg() {
			return errArguments
		}
		n, err := strconv.Atoi(p.Val())
		if err != nil || n < 1 {
			return errArguments
		}
		*to = n
		return nil
	}
}

// Interface guards
var (
	_ caddy.Provisioner     = (*RedisStore)(nil)
	_ caddyfile.Unmarshaler = (*RedisStore)(nil)
	_ StoreModule           = (*RedisStore)(nil)
)
