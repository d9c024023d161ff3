package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// documentServer is the website of the maker of a client: it serves the client's metadata document over https on
// loopback, and public keys.
type documentServer struct {
	*httptest.Server
	roots string // its certificate, in PEM

	mu     sync.Mutex
	files  map[string]string // by path
	status int               // of every answer, when it is not 0
	hits   int
}

func newDocumentServer(t *testing.T) *documentServer {
	t.Helper()
	s := &documentServer{files: map[string]string{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	s.roots = filepath.Join(t.TempDir(), "roots.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}
	if err := os.WriteFile(s.roots, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *documentServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits++
	file, ok := s.files[r.URL.Path]
	switch {
	case s.status != 0:
		w.WriteHeader(s.status)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write([]byte(file))
	}
}

func (s *documentServer) answerWith(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *documentServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits
}

// publish puts something in JSON at a path and returns its address.
func (s *documentServer) publish(t *testing.T, path string, content any) string {
	t.Helper()
	data, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = string(data)
	return s.URL + path
}

// publishClient publishes the document of a client of that name, as native apps have it: its redirect URI has no port.
func (s *documentServer) publishClient(t *testing.T, path, name string) string {
	t.Helper()
	return s.publish(t, path, map[string]any{
		"client_id": s.URL + path, "client_name": name, "client_uri": s.URL,
		"redirect_uris": []string{"http://127.0.0.1/callback", "http://localhost/callback"},
		"grant_types":   []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none",
	})
}

// publishKey makes a key, publishes its public half, and returns where that is and the private half in PEM.
func (s *documentServer) publishKey(t *testing.T, path string) (address, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}}
	return s.publish(t, path, set), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// onLoopback are the lines with which a gateway accepts documents of this server.
const onLoopback = "registration {\nmetadata_documents_on_loopback\n}"

// trust is the environment in which Caddy accepts the certificate of this server.
func (s *documentServer) trust() []string { return []string{"SSL_CERT_FILE=" + s.roots} }
