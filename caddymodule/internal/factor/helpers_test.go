package factor

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor/factortest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const origin = "https://mcp.example.com"

// directory is a login.Directory that can change.
type directory struct {
	mu    sync.Mutex
	users map[string]login.Identity
}

// Lookup implements login.Directory.
func (d *directory) Lookup(_ context.Context, subject string) (login.Identity, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := d.users[subject]
	return id, ok
}

func (d *directory) set(subject, stamp string) login.Identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := login.Identity{Subject: subject, Provider: "local", Stamp: stamp}
	d.users[subject] = id
	return id
}

// site is a service over a store that can fail.
type site struct {
	*Service
	t         *testing.T
	store     *storetest.Faulty
	directory *directory
	alice     login.Identity
}

func derive(label string) []byte {
	return bytes.Repeat([]byte{byte(len(label)), label[len(label)-1]}, 16)
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, store: storetest.NewFaulty(memstore.New(0)), directory: &directory{users: map[string]login.Identity{}}}
	t.Cleanup(func() { _ = s.store.Close() })
	s.alice = s.directory.set("alice", "1")
	var err error
	s.Service, err = New(s.store, "test/", derive, Config{Origin: origin, Name: "Example", Users: s.directory})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// codeAt is the code of an app, some steps from now.
func codeAt(t *testing.T, secret []byte, steps int) string {
	t.Helper()
	key, err := NewKey(secret, "Example", "alice")
	if err != nil {
		t.Fatal(err)
	}
	counter := time.Now().Unix()/30 + int64(steps)
	code, err := hotp.GenerateCodeCustom(key.Text, uint64(counter), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// enrolled sets an app up for alice with the code of the step before this one.
func (s *site) enrolled() (secret []byte, recovery []string) {
	s.t.Helper()
	secret = NewSecret()
	recovery, err := s.Enrol(s.t.Context(), s.alice, secret, codeAt(s.t, secret, -1))
	if err != nil || len(recovery) != 10 {
		s.t.Fatalf("enrolling: %d recovery codes, %v", len(recovery), err)
	}
	return secret, recovery
}

// stored is what the store holds of alice.
func (s *site) stored() []byte {
	s.t.Helper()
	r, err := s.store.Get(s.t.Context(), s.key("alice"))
	if err != nil {
		return nil
	}
	return r.Value
}

func newAuthenticator() *factortest.Authenticator {
	return factortest.New(origin, "mcp.example.com")
}

// add adds a passkey of an authenticator to a user.
func (s *site) add(user login.Identity, a *factortest.Authenticator) error {
	s.t.Helper()
	c, err := s.BeginAdd(s.t.Context(), user)
	if err != nil {
		return err
	}
	answer, err := a.Create(c.Options)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.FinishAdd(s.t.Context(), user, c, "Laptop", answer)
}

// signIn signs in with an authenticator, as a page does.
func (s *site) signIn(a *factortest.Authenticator) (login.Identity, error) {
	s.t.Helper()
	c, err := s.BeginLogin()
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := a.Get(c.Options)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := s.Prove(s.t.Context(), c.Challenge, answer)
	if err != nil {
		return login.Identity{}, err
	}
	return p.User, s.Use(s.t.Context(), p)
}
