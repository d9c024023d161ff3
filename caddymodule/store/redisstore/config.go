package redisstore

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Defaults of the fields of Config that are left zero.
const (
	DefaultKeyPrefix   = "mcp_auth"
	DefaultTimeout     = 2 * time.Second
	DefaultDialTimeout = 2 * time.Second
)

// minPoolSize is the least number of connections that a store may use by
// default: a request costs the server microseconds, but the way there and back
// much more, so few processors are no reason for few connections.
const minPoolSize = 32

// Config says where the server is and how to speak to it. Only URL is needed.
type Config struct {
	// URL is where the server is, as in
	//
	//	redis://[[user]:password@]host[:port][,host[:port]…][/database]
	//
	// and with the scheme rediss for TLS. Special characters in user and
	// password are percent-encoded. Several hosts are the sentinels, with
	// SentinelMaster, or some nodes of the cluster, with Cluster. The default
	// port is 6379, and 26379 for sentinels; the default database is 0.
	URL string

	// Username and Password take the place of those in the URL. A password
	// without a user name is that of the user "default".
	Username string
	Password string

	// KeyPrefix starts the names of all keys and channels, so that several
	// stores can share a server. It is made of letters, digits and the
	// characters _ . : - and has at most 64 of them. Default: "mcp_auth".
	KeyPrefix string

	// SentinelMaster is the name by which the sentinels know the master. When
	// it is set, the hosts in the URL are sentinels.
	SentinelMaster string

	// SentinelUsername and SentinelPassword are for the sentinels themselves,
	// where these ask for a password.
	SentinelUsername string
	SentinelPassword string

	// Cluster says that the hosts in the URL are nodes of a Redis Cluster.
	Cluster bool

	// Timeout bounds each exchange with the server, the wait for a free
	// connection included. Default: 2 seconds.
	Timeout time.Duration

	// DialTimeout bounds making a connection, TLS included. Default: 2 seconds.
	DialTimeout time.Duration

	// PoolSize is how many connections are kept to a server, or to each node of
	// a cluster; each watch has one more. Default: 10 for each processor that
	// Go uses, and at least 32.
	PoolSize int

	// TLS is used for a URL that begins with rediss, for sentinels and cluster
	// nodes as well. Default: the roots of the system and the host's own name.
	TLS *tls.Config

	// WaitReplicas is how many replicas must have a write before it counts as
	// done. When fewer have confirmed it after half of Timeout, the write fails,
	// although it may be there. Fewer than there are leave a gap: a replica
	// that is not promoted follows the old master a moment longer, and confirms
	// what is lost. Default: 0, which does not wait.
	WaitReplicas int
}

// Validate reports what is wrong with the configuration, without connecting.
// What it returns has no secrets in it.
func (c Config) Validate() error {
	_, err := c.resolve()
	return err
}

// Identity returns what makes two configurations the same store: the kind of
// server, addresses, database and key prefix. It has no secrets in it. For a
// configuration that is not valid it is empty.
func (c Config) Identity() string {
	s, err := c.resolve()
	if err != nil {
		return ""
	}
	addrs := slices.Sorted(slices.Values(s.addrs))
	return fmt.Sprintf("redis %s %s/%d %s", s.mode(), strings.Join(addrs, ","), s.db, s.KeyPrefix)
}

// settings are a Config that has been checked, with its defaults and the parts
// of its URL.
type settings struct {
	Config
	addrs []string
	db    int
}

func (s settings) mode() string {
	switch {
	case s.Cluster:
		return "cluster"
	case s.SentinelMaster != "":
		return "sentinel " + s.SentinelMaster
	default:
		return "single"
	}
}

// resolve checks the configuration and fills in what it leaves out.
func (c Config) resolve() (settings, error) {
	port := "6379"
	if c.SentinelMaster != "" {
		port = "26379"
	}
	u, err := parseURL(c.URL, port)
	if err != nil {
		return settings{}, err
	}
	if err := c.check(u); err != nil {
		return settings{}, err
	}
	s := settings{Config: c, addrs: u.addrs, db: u.db}
	if s.Username == "" && s.Password == "" {
		s.Username = u.username
	}
	s.Password = cmp.Or(s.Password, u.password)
	s.KeyPrefix = cmp.Or(s.KeyPrefix, DefaultKeyPrefix)
	s.Timeout = cmp.Or(s.Timeout, DefaultTimeout)
	s.DialTimeout = cmp.Or(s.DialTimeout, DefaultDialTimeout)
	s.PoolSize = cmp.Or(s.PoolSize, max(minPoolSize, 10*runtime.GOMAXPROCS(0)))
	switch {
	case !u.tls:
		s.TLS = nil
	case s.TLS == nil:
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if s.Username != "" && s.Password == "" {
		return settings{}, errors.New("a Redis user name needs a password")
	}
	return s, nil
}

// check finds what does not go together.
func (c Config) check(u address) error {
	switch {
	case c.SentinelMaster != "" && c.Cluster:
		return errors.New("a sentinel master and a Redis cluster exclude each other")
	case len(u.addrs) > 1 && c.SentinelMaster == "" && !c.Cluster:
		return errors.New("several Redis hosts are either sentinels or nodes of a cluster: set the name of the sentinel master, or cluster")
	case c.Cluster && u.db != 0:
		return errors.New("a Redis cluster has no databases: remove the one at the end of the URL")
	case c.SentinelMaster == "" && (c.SentinelUsername != "" || c.SentinelPassword != ""):
		return errors.New("a password for the sentinels needs the name of the sentinel master")
	case c.SentinelUsername != "" && c.SentinelPassword == "":
		return errors.New("a user name for the sentinels needs a password")
	case c.TLS != nil && !u.tls:
		return errors.New("TLS is configured for Redis, but the URL does not begin with rediss://")
	case c.Timeout < 0 || c.DialTimeout < 0:
		return errors.New("a Redis timeout is negative")
	case c.PoolSize < 0:
		return errors.New("the number of Redis connections is negative")
	case c.WaitReplicas < 0:
		return errors.New("the number of Redis replicas to wait for is negative")
	case !validPrefix(c.KeyPrefix):
		return errors.New("the Redis key prefix has to be at most 64 letters, digits and characters of _ . : -")
	}
	return nil
}

// validPrefix keeps out what has a meaning of its own: braces would move the
// hash tag, and stars, question marks and brackets are patterns.
func validPrefix(prefix string) bool {
	const others = "_.:-"
	for _, c := range []byte(prefix) {
		if !isAlphanumeric(c) && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return len(prefix) <= 64
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
