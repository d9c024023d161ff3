package transfer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

const (
	issuer   = "abcdefghijklmnop/"
	verifier = "verifier-verifier-verifier-verifier-verifier"
)

var checker = transfer.Checker{Session: authserver.CheckSession, SessionVersion: authserver.SessionVersion}

// backends open an empty store each.
var backends = map[string]func(t testing.TB) store.Store{
	"memstore": func(t testing.TB) store.Store {
		s := memstore.New(0)
		t.Cleanup(func() { _ = s.Close() })
		return s
	},
	"filestore": func(t testing.TB) store.Store {
		s, err := filestore.Open(filepath.Join(t.TempDir(), "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	},
	"redisstore": func(t testing.TB) store.Store {
		s, err := redisstore.Open(t.Context(), redisstore.Config{URL: "redis://" + redistest.StartServer(t).Addr})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	},
}

func newBox(t testing.TB) *seal.Box {
	t.Helper()
	key := make([]byte, seal.KeyLength)
	rand.Read(key)
	box, err := seal.New(base64.StdEncoding.EncodeToString(key))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type toRevocations struct{ *token.Revocations }

func (r toRevocations) Add(ctx context.Context, id string) error {
	return r.Revocations.Add(ctx, id, time.Hour)
}

// state is what filled has put into a store.
type state struct {
	client, grant, factor, session, revoked string // keys of records
}

// filled fills a store by the packages that own the records.
func filled(t testing.TB, s store.Store, box *seal.Box) state {
	t.Helper()
	ctx := t.Context()
	keys, err := token.OpenKeys(ctx, s, issuer, token.KeysConfig{Box: box})
	must(t, err)
	revocations, err := token.OpenRevocations(ctx, s, issuer, zap.NewNop())
	must(t, err)
	directory := client.NewDirectory(s, issuer, client.Config{ExpireAfter: time.Hour})
	for _, method := range []string{oauth.AuthNone, "client_secret_basic"} {
		_, err := directory.Register(ctx, oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example/cb"}, TokenEndpointAuthMethod: method, ClientName: "App",
		})
		must(t, err)
	}
	grants := grant.NewService(s, issuer, keys.Derive, grant.Config{
		CodeLifetime: time.Minute, RefreshLifetime: time.Hour, RefreshGrace: time.Minute,
	}, toRevocations{revocations})
	redeem := func(request string) *grant.Grant {
		code, err := grants.Allow(ctx, consent(request))
		must(t, err)
		g, _, err := grants.Redeem(ctx, grant.Redemption{Code: code, ClientID: "mcp_app", Verifier: verifier})
		must(t, err)
		return g
	}
	kept := redeem("kept")
	revoked := redeem("revoked")
	must(t, grants.Revoke(ctx, revoked.ID))
	_, err = grants.Allow(ctx, consent("waiting"))
	must(t, err)
	must(t, grants.Deny(ctx, consent("denied")))
	must(t, revocations.Add(ctx, rand.Text(), time.Hour))

	st := state{grant: issuer + "grant/" + kept.ID[:16] + "/" + kept.ID[16:], revoked: issuer + "revoked/" + revoked.ID}
	st.session = issuer + "session/" + strings.Repeat("a", 16) + "/" + strings.Repeat("a", 52)
	must(t, s.Put(ctx, st.session, store.Record{
		Value:   []byte(`{"v":1,"user":{"sub":"alice","idp":"local"},"since":"2026-01-02T03:04:05Z"}`),
		Expires: time.Now().Add(time.Hour),
	}))
	enrolled(t, s, keys)
	for key := range contents(t, s) {
		for folder, at := range map[string]*string{"client/": &st.client, "factor/": &st.factor} {
			if strings.HasPrefix(key, issuer+folder) {
				*at = key
			}
		}
	}
	return st
}

// enrolled gives alice a second factor.
func enrolled(t testing.TB, s store.Store, keys *token.Keys) {
	t.Helper()
	factors, err := factor.New(s, issuer, keys.Derive, factor.Config{Origin: "https://mcp.example", Name: "Example"})
	must(t, err)
	key, err := factor.NewKey(factor.NewSecret(), "Example", "alice")
	must(t, err)
	code, err := totp.GenerateCode(key.Text, time.Now())
	must(t, err)
	_, err = factors.Enrol(t.Context(), login.Identity{Subject: "alice"}, key.Secret, code)
	must(t, err)
}

// filledWith are the records that filled makes.
var filledWith = transfer.Summary{Records: 11, Keys: 1, Unsealed: 1, Clients: 2, Grants: 4, Factors: 1, Sessions: 1, Revoked: 2}

func consent(request string) grant.Consent {
	return grant.Consent{
		Request: request, User: login.Identity{Subject: "alice", Provider: "local"}, ClientID: "mcp_app",
		Resource: "https://mcp.example/mcp", Scopes: oauth.Scopes{"mcp"}, RedirectURI: "https://app.example/cb",
		Challenge: oauth.S256(verifier), ChallengeMethod: "S256",
	}
}

// contents returns what is in a store, with expiries as stores keep them.
func contents(t testing.TB, s store.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for key, err := range s.Keys(t.Context(), "") {
		must(t, err)
		r, err := s.Get(t.Context(), key)
		must(t, err)
		expires := int64(0)
		if !r.Expires.IsZero() {
			expires = r.Expires.UnixMilli()
		}
		out[key] = fmt.Sprint(expires, " ", string(r.Value))
	}
	return out
}

func export(t testing.TB, s store.Store) []byte {
	t.Helper()
	var file bytes.Buffer
	if _, err := transfer.Export(t.Context(), s, &file); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func importInto(t testing.TB, s store.Store, file []byte, overwrite bool) (transfer.Summary, error) {
	t.Helper()
	return transfer.Import(t.Context(), s, bytes.NewReader(file), transfer.Options{Overwrite: overwrite, Checker: checker})
}
