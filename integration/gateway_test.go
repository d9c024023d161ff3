package integration

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// The user of the tests. The hash has bcrypt's lowest cost, because tests sign in often.
const (
	userName     = "alice"
	userPassword = "correct horse"
	userHash     = "$2a$04$K7gsojjMCqvZ/u1ONFcDOO89p6tWef2SaRW7ViVf5HQtOg.bpanxy"
	userEmail    = "alice@example.com"
	userLine     = "user " + userName + " " + userHash + " " + userEmail
)

// noLimits lets tests do at once, from one address, what people do in a day. The line of a site wins.
const noLimits = "rate_limit register off\nrate_limit token off"

// gatewayConfig is what a test sets about a gateway.
type gatewayConfig struct {
	site   string   // the lines of the site
	sites  string   // further sites, whole
	global string   // lines for the global options
	env    []string // variables that the configuration uses

	// patient leaves out the grace period with which the other tests end soon.
	patient bool

	// issuer is the public origin when it is not https://localhost:<port>, as that of several nodes behind a balancer.
	// The site has its host, and the gateway's own port.
	issuer string

	binary string // another Caddy than the one under test
}

// gateway is a running Caddy.
type gateway struct {
	t      testing.TB
	config gatewayConfig
	dir    string // home, data and configuration
	port   int
	admin  string // address of the admin endpoint
	host   string // of the site
	origin string // where clients find it: https://localhost:<port>, or the issuer
	proc   *process
	roots  *x509.CertPool
	client *http.Client // HTTP/1.1 or HTTP/2, as it comes; follows no redirects

	mu      sync.Mutex
	secrets []string // that must not show in the log
}

// startGateway runs Caddy for the time of a test. Its site is https://localhost:<port>.
func startGateway(t testing.TB, cfg gatewayConfig) *gateway {
	t.Helper()
	return startGateways(t, cfg)[0]
}

// startGateways runs several at once.
func startGateways(t testing.TB, configs ...gatewayConfig) []*gateway {
	t.Helper()
	var all []*gateway
	for _, cfg := range configs {
		g := newGateway(t, cfg)
		g.launch()
		all = append(all, g)
	}
	for _, g := range all {
		g.awaitReady()
		t.Cleanup(g.checkLog)
		t.Cleanup(func() { g.client.CloseIdleConnections() }) // which a stop would wait for
	}
	return all
}

// newGateway writes the configuration and runs nothing yet.
func newGateway(t testing.TB, cfg gatewayConfig) *gateway {
	t.Helper()
	g := &gateway{t: t, config: cfg, dir: t.TempDir(), port: freePort(t), admin: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	g.host = cmp.Or(strings.TrimPrefix(cfg.issuer, "https://"), "localhost")
	g.origin = cmp.Or(cfg.issuer, g.site())
	g.secrets = []string{userPassword}
	g.write(g.caddyfile(cfg))
	return g
}

// caddyfile is a whole Caddyfile: the site of the test, and what keeps the process to itself. Caddy's cleaning of a new
// data directory is off, as it takes empty folders away in which the first certificate is about to be put.
func (g *gateway) caddyfile(cfg gatewayConfig) string {
	grace := "grace_period 1s"
	if cfg.patient {
		grace = ""
	}
	limits := "mcp_auth {\n" + noLimits + "\n}"
	if cfg.binary != "" || strings.Contains(cfg.global, "mcp_auth") {
		limits = ""
	}
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	skip_install_trust
	storage_clean_interval off
	auto_https disable_redirects
	default_bind 127.0.0.1
	%s
	%s
	%s
}

%s {
	tls internal
	log
	%s
}

%s
`, g.admin, grace, cfg.global, limits, g.site(), cfg.site, cfg.sites)
}

// site is the address of the site.
func (g *gateway) site() string { return fmt.Sprintf("https://%s:%d", g.host, g.port) }

func (g *gateway) write(caddyfile string) {
	g.t.Helper()
	if err := os.WriteFile(g.file(), []byte(caddyfile), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) file() string { return filepath.Join(g.dir, "Caddyfile") }

// dataDir is Caddy's data directory.
func (g *gateway) dataDir() string { return filepath.Join(g.dir, "data", "caddy") }

// caFile is the certificate of Caddy's own authority, in PEM.
func (g *gateway) caFile() string {
	return filepath.Join(g.dataDir(), "pki", "authorities", "local", "root.crt")
}

// env is the environment of all Caddy commands of this gateway.
func (g *gateway) env() []string {
	return append([]string{
		"HOME=" + g.dir, "XDG_DATA_HOME=" + filepath.Join(g.dir, "data"), "XDG_CONFIG_HOME=" + filepath.Join(g.dir, "config"),
	}, g.config.env...)
}

// start runs Caddy and waits until it serves.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	g.awaitReady()
}

func (g *gateway) launch() {
	g.t.Helper()
	g.proc = startProcess(g.t, g.env(), cmp.Or(g.config.binary, caddyBinary), "run", "--config", g.file(), "--adapter", "caddyfile")
}

func (g *gateway) awaitReady() {
	g.t.Helper()
	eventually(g.t, "Caddy serves "+g.site(), func() bool {
		if !g.proc.running() {
			g.t.Fatalf("Caddy ended: %v", g.proc.err)
		}
		if g.roots == nil && !g.loadRoots() {
			return false
		}
		conn, err := tls.Dial("tcp", g.address(), g.tlsConfig())
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// restart ends Caddy and starts it again with the same data. crash leaves it no time to put things in order.
func (g *gateway) restart(crash bool) {
	g.t.Helper()
	if crash {
		g.proc.kill()
	} else {
		g.proc.stop()
	}
	g.checkLog()
	g.client.CloseIdleConnections()
	g.start()
}

// reload gives the running Caddy another configuration, as "caddy reload" does, and waits until the one before has taken
// its leave: for a moment after the command has ended it may still answer, on connections from before and on new ones.
func (g *gateway) reload(cfg gatewayConfig) error {
	g.t.Helper()
	before := g.idleConnection()
	defer before.Close()
	g.write(g.caddyfile(cfg))
	_, stderr, err := g.caddy("reload", "--config", g.file(), "--adapter", "caddyfile", "--address", g.admin, "--force")
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	_ = before.SetReadDeadline(time.Now().Add(patience))
	if _, err := before.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		g.t.Errorf("%v after a reload the old configuration still has an idle connection", patience)
	}
	g.client.CloseIdleConnections()
	return nil
}

// idleConnection is one on which a request has been answered. A server that ends closes it, after it has given up its
// listeners.
func (g *gateway) idleConnection() net.Conn {
	g.t.Helper()
	conn, err := tls.Dial("tcp", g.address(), g.tlsConfig("http/1.1"))
	if err != nil {
		g.t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n", g.host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		g.t.Fatal(err)
	}
	return conn
}

// caddy runs a command of Caddy to its end.
func (g *gateway) caddy(args ...string) (stdout, stderr string, err error) {
	g.t.Helper()
	return runCommand(g.t, g.env(), caddyBinary, args...)
}

// loadRoots reads the certificate that Caddy makes at its first start.
func (g *gateway) loadRoots() bool {
	pem, err := os.ReadFile(g.caFile())
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return false
	}
	g.trust(pool)
	return true
}

// trust makes the clients of the test trust the certificates of an authority.
func (g *gateway) trust(roots *x509.CertPool) {
	g.roots = roots
	g.client = g.newClient(g.http2())
}

func (g *gateway) tlsConfig(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: g.roots, ServerName: g.host, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// address is where the gateway listens, without a name to resolve.
func (g *gateway) address() string { return fmt.Sprintf("127.0.0.1:%d", g.port) }

// dial connects to the gateway, whatever the name in the address.
func (g *gateway) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", g.address())
}

// http1 and http2 speak that one version of HTTP only.
func (g *gateway) http1() http.RoundTripper { return g.transport(false) }
func (g *gateway) http2() http.RoundTripper { return g.transport(true) }

func (g *gateway) transport(version2 bool) http.RoundTripper {
	var protocols http.Protocols
	protocols.SetHTTP1(!version2)
	protocols.SetHTTP2(version2)
	return &http.Transport{TLSClientConfig: g.tlsConfig(), DialContext: g.dial, Protocols: &protocols, DisableCompression: true}
}

// http3 speaks HTTP/3 only.
func (g *gateway) http3() http.RoundTripper {
	rt := &http3.Transport{
		TLSClientConfig: g.tlsConfig(), DisableCompression: true,
		Dial: func(ctx context.Context, _ string, conf *tls.Config, quicConf *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, g.address(), conf, quicConf)
		},
	}
	g.t.Cleanup(func() { rt.Close() })
	return rt
}

// newClient follows no redirects, so that tests see them.
func (g *gateway) newClient(rt http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     rt,
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// keepSecret notes what must never show in the log.
func (g *gateway) keepSecret(values ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range values {
		if v != "" {
			g.secrets = append(g.secrets, v)
		}
	}
}

// forgetSecrets is for tests that put secrets in places where no log could know them.
func (g *gateway) forgetSecrets() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.secrets = nil
}

// checkLog looks for secrets in what Caddy has printed. It runs at the end of every test.
func (g *gateway) checkLog() {
	g.mu.Lock()
	defer g.mu.Unlock()
	log := g.proc.output.String()
	for _, secret := range g.secretsIn(log) {
		line := log[strings.LastIndexByte(log[:strings.Index(log, secret)], '\n')+1:]
		line, _, _ = strings.Cut(line, "\n")
		g.t.Errorf("the log holds a secret that begins with %.8s: %s", secret, strings.ReplaceAll(line, secret, "<SECRET>"))
	}
	if strings.Contains(log, "panic") {
		g.t.Errorf("the log tells of a panic:\n%s", tail(log, 16<<10))
	}
}

// secretsIn returns the secrets that a log holds.
func (g *gateway) secretsIn(log string) []string {
	var pairs []string
	for _, secret := range g.secrets {
		pairs = append(pairs, secret, "")
	}
	if strings.NewReplacer(pairs...).Replace(log) == log {
		return nil // a look for all at once, since they can be thousands
	}
	return slices.DeleteFunc(slices.Clone(g.secrets), func(secret string) bool { return !strings.Contains(log, secret) })
}

// startBackend runs the plain MCP server and returns its address.
func startBackend(t testing.TB) string {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := startProcess(t, nil, mcpbackendBinary, "-listen", address)
	client := &http.Client{Timeout: time.Second}
	eventually(t, "mcpbackend serves "+address, func() bool {
		if !p.running() {
			t.Fatalf("mcpbackend ended: %v", p.err)
		}
		resp, err := client.Get("http://" + address + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return address
}
