package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks/jwkstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	documentID = "https://app.example/client.json"
	jwksURI    = "https://app.example/jwks.json"
)

// web is the web as a test wants it: an answer for each address. What it does not
// know it answers with 404.
type web struct {
	mu      sync.Mutex
	answers map[string]webAnswer
	fetches map[string]int
}

type webAnswer struct {
	status int
	header string // Cache-Control
	body   string
}

func newWeb() *web { return &web{answers: map[string]webAnswer{}, fetches: map[string]int{}} }

// RoundTrip implements http.RoundTripper.
func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetches[r.URL.String()]++
	a, ok := w.answers[r.URL.String()]
	if !ok {
		a.status = http.StatusNotFound
	}
	return &http.Response{
		StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body)),
		Header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {a.header}},
	}, nil
}

func (w *web) put(address, body string) { w.answer(address, webAnswer{200, "max-age=600", body}) }

func (w *web) answer(address string, a webAnswer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[address] = a
}

func (w *web) remove(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.answers, address)
}

func (w *web) count(address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetches[address]
}

// node is a directory with a web before it and a store behind it.
type node struct {
	*client.Directory
	web   *web
	store *storetest.Faulty
	logs  *observer.ObservedLogs
}

// Discover finds any client.
func (n *node) Discover(ctx context.Context, id string) (*client.Client, error) {
	return n.Directory.Discover(ctx, id, nil)
}

func newNode(t testing.TB, w *web, s *storetest.Faulty, change ...func(*client.Config)) *node {
	t.Helper()
	if s == nil {
		s = storetest.NewFaulty(memstore.New(0))
		t.Cleanup(func() { _ = s.Close() })
	}
	core, logs := observer.New(zapcore.DebugLevel)
	cfg := client.Config{
		ExpireAfter: expireAfter, Log: zap.New(core), Web: client.NewWebWith(outbound.NewWith(outbound.Options{Transport: w})),
	}
	for _, f := range change {
		f(&cfg)
	}
	return &node{client.NewDirectory(s, prefix, cfg), w, s, logs}
}

// documentBody is a document that is fine but for the changes, each of them a
// member and its value.
func documentBody(t testing.TB, change map[string]any) string {
	t.Helper()
	fields := map[string]any{
		"client_id": documentID, "client_name": "App", "redirect_uris": []string{"https://app.example/cb", "http://localhost/cb"},
	}
	maps.Copy(fields, change)
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// records returns the keys of a folder of the store.
func (n *node) records(t testing.TB, folder string) map[string]store.Record {
	t.Helper()
	out := map[string]store.Record{}
	for entry, err := range n.store.Inner().List(t.Context(), prefix+folder+"/") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := n.store.Inner().Get(t.Context(), entry.Key)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(entry.Key, prefix+folder+"/")] = r
	}
	return out
}

// signer is the key of a client.
type signer struct {
	id      string
	alg     jose.SignatureAlgorithm
	private any
	public  jose.JSONWebKey
}

func newSigner(t testing.TB, id string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, jose.ES256, key, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}
}

// jwks returns the set of the public keys.
func jwks(t testing.TB, signers ...*signer) string {
	t.Helper()
	set := jose.JSONWebKeySet{}
	for _, s := range signers {
		set.Keys = append(set.Keys, s.public)
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sign makes an assertion with the claims and, in its header, pairs of a name and
// a value.
func (s *signer) sign(t testing.TB, claims any, header ...any) string {
	t.Helper()
	all := map[string]any{"typ": "JWT"}
	for i := 0; i < len(header); i += 2 {
		all[header[i].(string)] = header[i+1]
	}
	return jwkstest.Sign(t, jose.JSONWebKey{Key: s.private, KeyID: s.id, Algorithm: string(s.alg)}, all, claims)
}

const (
	serverIssuer  = "https://mcp.example"
	tokenEndpoint = serverIssuer + "/token"
)

// claims are those of a good assertion but for the changes; a nil takes the claim
// away.
func claims(id string, change map[string]any) map[string]any {
	now := time.Now()
	out := map[string]any{
		"iss": id, "sub": id, "aud": serverIssuer, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	maps.Copy(out, change)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// authenticate presents an assertion as a client of that id.
func (n *node) authenticate(t testing.TB, c *client.Client, raw string) error {
	t.Helper()
	a, err := client.ParseAssertion(raw)
	if err != nil {
		return err
	}
	return n.Authenticate(t.Context(), c, a, []string{serverIssuer, tokenEndpoint})
}

func configured(id, uri string) *client.Client {
	return &client.Client{ID: id, Kind: client.Configured, JWKSURI: uri, GrantTypes: []string{oauth.GrantClientCredentials}}
}
