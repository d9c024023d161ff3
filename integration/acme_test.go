package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pebbleVersion is the release of the ACME server that Let's Encrypt tests its clients with.
const pebbleVersion = "v2.10.3"

// TestCertificateByACME gives a site no certificate. It gets one from an ACME server, which looks the name up and checks
// who answers there, and then serves people and clients with it.
func TestCertificateByACME(t *testing.T) {
	t.Parallel()
	const host = "mcp.example.test"
	g := newGateway(t, gatewayConfig{issuer: "https://" + host})
	authority := startPebble(t, g.port)
	g.write(fmt.Sprintf(`{
	admin %s
	persist_config off
	skip_install_trust
	storage_clean_interval off
	default_bind 127.0.0.1
	grace_period 1s
	http_port %d
	https_port %d
	acme_ca %s
	acme_ca_root %s
}

%s {
	mcp_auth %s {
		issuer https://%s
		%s
	}
}
`, g.admin, freePort(t), g.port, authority.directory, authority.certFile, host, startBackend(t), host, userLine))
	g.trust(authority.roots(t))
	g.start()
	t.Cleanup(g.checkLog)

	conn, err := tls.Dial("tcp", g.address(), g.tlsConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if issuer := conn.ConnectionState().PeerCertificates[0].Issuer.CommonName; !strings.HasPrefix(issuer, "Pebble") {
		t.Errorf("the certificate is one of %q", issuer)
	}
	wantTools(t, "with a token", g.call(t, g.client, "/mcp", g.newGrant(t, nil).access))
}

// pebble is a running ACME server.
type pebble struct {
	directory  string // of its services
	management string
	certFile   string // of what its own TLS certificate is signed with
	client     *http.Client
}

// startPebble runs an ACME server that checks names at the port, and a DNS server that has every name on loopback.
func startPebble(t *testing.T, port int) *pebble {
	t.Helper()
	dir := t.TempDir()
	const module = "github.com/letsencrypt/pebble/v2/cmd/pebble"
	install := exec.Command("go", "install", module+"@"+pebbleVersion, module+"-challtestsrv@"+pebbleVersion)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("this test needs the ACME server %s: %v\n%s", module, err, out))
	}
	loopback := func() string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }
	names, listen, management := loopback(), loopback(), loopback()
	p := &pebble{directory: "https://" + listen + "/dir", management: "https://" + management, certFile: filepath.Join(dir, "ca.pem")}
	p.writeCertificate(t, filepath.Join(dir, "key.pem"))
	config := filepath.Join(dir, "pebble.json")
	writeJSON(t, config, map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": p.certFile, "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": freePort(t), "tlsPort": port, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 7776000}},
	}})
	startProcess(t, nil, filepath.Join(dir, "pebble-challtestsrv"), "-dnsserver", names, "-management", loopback(),
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "")
	startProcess(t, []string{"PEBBLE_VA_NOSLEEP=1"}, filepath.Join(dir, "pebble"), "-config", config, "-dnsserver", names, "-strict")
	eventually(t, "the ACME server serves", func() bool {
		resp, err := p.client.Get(p.directory)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// writeCertificate makes the certificate of the ACME server's own address, signed with itself.
func (p *pebble) writeCertificate(t *testing.T, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{p.certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, Timeout: patience}
}

// roots are those that the certificates of the ACME server lead to.
func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	resp, err := p.client.Get(p.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatalf("the ACME server names no root: %v %s", err, data)
	}
	return pool
}

func writeJSON(t *testing.T, file string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
