package redisstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestConfigurations(t *testing.T) {
	for want, cfg := range map[string]Config{
		"exclude each other":       {URL: "redis://h", SentinelMaster: "m", Cluster: true},
		"several Redis hosts":      {URL: "redis://a,b"},
		"no databases":             {URL: "redis://a/1", Cluster: true},
		"needs the name":           {URL: "redis://a", SentinelPassword: "secret"},
		"user name needs":          {URL: "redis://a", Username: "u"},
		"for the sentinels needs":  {URL: "redis://a", SentinelMaster: "m", SentinelUsername: "u"},
		"begin with rediss://":     {URL: "redis://a", TLS: &tls.Config{MinVersion: tls.VersionTLS12}},
		"timeout is negative":      {URL: "redis://a", Timeout: -1},
		"connections is negative":  {URL: "redis://a", PoolSize: -1},
		"to wait for is negative":  {URL: "redis://a", WaitReplicas: -1},
		"key prefix has to be":     {URL: "redis://a", KeyPrefix: "a{b}"},
		"at most 64 letters":       {URL: "redis://a", KeyPrefix: strings.Repeat("a", 65)},
		"begins with redis:// or,": {},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got %v, want an error with %q", cfg, err, want)
		}
		if id := cfg.Identity(); id != "" {
			t.Errorf("%+v has the identity %q", cfg, id)
		}
	}
}

func TestIdentities(t *testing.T) {
	for want, cfg := range map[string]Config{
		"redis single a:6379/2 mcp_auth":              {URL: "redis://:secret@A/2", Timeout: time.Second},
		"redis cluster a:6379,b:6379/0 p":             {URL: "rediss://b,a", Cluster: true, KeyPrefix: "p"},
		"redis sentinel m a:26379,b:26379/0 mcp_auth": {URL: "redis://b,a", SentinelMaster: "m", Password: "secret"},
	} {
		if got := cfg.Identity(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func wantOpenError(t *testing.T, cfg Config, want ...string) {
	t.Helper()
	begin := time.Now()
	s, err := Open(t.Context(), cfg)
	if err == nil {
		_ = s.Close()
		t.Errorf("Open succeeded, want an error with %q", want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want an error with %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has a secret or several lines: %v", err)
	}
	if took := time.Since(begin); took > long {
		t.Errorf("it took %v", took)
	}
	t.Log(err)
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	plain := redistest.StartServer(t)
	protected := redistest.StartServer(t, "--requirepass", "right")
	replica := redistest.StartServer(t, "--replicaof", "127.0.0.1 "+plain.Port())
	cluster := redistest.StartCluster(t, 1, false)
	certificate, key, _ := makeCertificate(t)
	encrypted := redistest.StartTLSServer(t, certificate, key)

	wantOpenError(t, Config{URL: "redis://127.0.0.1:1"}, "127.0.0.1:1", "refused", "check the address")
	wantOpenError(t, Config{URL: "redis://:secret@" + protected.Addr}, protected.Addr, "WRONGPASS", "check user name and password")
	wantOpenError(t, Config{URL: "redis://" + protected.Addr}, "NOAUTH", "none is configured")
	wantOpenError(t, Config{URL: "redis://" + plain.Addr + "/99"}, "no database of that number")
	wantOpenError(t, Config{URL: "redis://" + replica.Addr}, "read-only replica", "address of the master")
	wantOpenError(t, Config{URL: "redis://" + cluster.Addrs()}, "set cluster")
	wantOpenError(t, Config{URL: "redis://" + plain.Addr, Cluster: true}, "unset cluster")
	wantOpenError(t, Config{URL: "rediss://" + plain.Addr}, "TLS fails")
	wantOpenError(t, Config{URL: "redis://" + encrypted.Addr}, "rediss://")
	wantOpenError(t, Config{URL: "rediss://" + encrypted.Addr}, "TLS fails", "trusted")
	wantOpenError(t, Config{URL: "redis://" + plain.Addr, SentinelMaster: "m"}, "have to be sentinels")
	wantOpenError(t, Config{URL: "redis://127.0.0.1:1,127.0.0.1:2", SentinelMaster: "m"}, "refused")

	plain.Freeze()
	wantOpenError(t, Config{URL: "redis://" + plain.Addr}, "no answer in time")
	plain.Thaw()
}

func TestOpenWarnsOfSettingsThatLoseRecords(t *testing.T) {
	server := redistest.StartServer(t, "--appendonly", "no", "--save", "", "--maxmemory-policy", "allkeys-lru")
	s, err := Open(t.Context(), Config{URL: "redis://" + server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := strings.Join(s.Warnings(), "\n")
	for _, want := range []string{"maxmemory-policy noeviction", "appendonly yes", server.Addr} {
		if !strings.Contains(all, want) {
			t.Errorf("got the warnings %q, want one with %q", all, want)
		}
	}
}

// TestRights runs the suite as a user who may do no more than the documentation
// of the package says.
func TestRights(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rights, _ := strings.Cut(string(doc), "~mcp_auth:*")
	rights, _, _ = strings.Cut(rights, "\n//\n")
	rights = strings.NewReplacer("//", "", "mcp_auth", "*").Replace(rights)
	server := redistest.StartServer(t)
	user := append([]string{"acl", "setuser", "u", "on", ">p", "~*"}, strings.Fields(rights)...)
	if out := server.Command(user...); out != "OK" {
		t.Fatal(out)
	}
	storetest.Run(t, func(t *testing.T) store.Store { return openEmpty(t, Config{URL: "redis://u:p@" + server.Addr}) })

	server.Command("acl", "setuser", "u", "-info", "-role", "-config")
	s := openEmpty(t, Config{URL: "redis://" + server.Addr, Username: "u", Password: "p"})
	put(t, s, "k", "v")
}

func TestTLS(t *testing.T) {
	certificate, key, roots := makeCertificate(t)
	server := redistest.StartTLSServer(t, certificate, key)
	s := openEmpty(t, Config{URL: "rediss://" + server.Addr, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	put(t, s, "k", "v")
	if _, err := s.Watch(t.Context(), ""); err != nil {
		t.Error(err)
	}
	for range 3 { // a connection that the server has closed is noticed here as well
		inParallel(20, func(int) { put(t, s, "k", "v") })
		server.Stop()
		server.Restart()
		put(t, s, "k", "v")
	}
	wantValue(t, s, "k", "v")
}

// makeCertificate returns the files of a self-signed certificate for 127.0.0.1
// and a pool with it.
func makeCertificate(t *testing.T) (certificate, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: der},
		key:         {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return certificate, key, roots
}
