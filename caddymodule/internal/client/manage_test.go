package client_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// update is a request to replace the metadata of a client.
func update(t testing.TB, id, body string) oauth.ClientUpdate {
	t.Helper()
	return oauth.ClientUpdate{ClientID: id, ClientMetadata: metadata(t, body)}
}

// noRevocation is for clients that nobody has used.
func noRevocation(t testing.TB) func() error {
	return func() error {
		t.Error("the tokens of a client that has none were ended")
		return nil
	}
}

func TestRegistrationAccessTokensAreKeptAsHashes(t *testing.T) {
	d, s := newDirectory(t, client.Config{})
	info, other := register(t, d, secretBody), register(t, d, secretBody)
	token := info.RegistrationAccessToken
	if len(token) < 26 || token == info.ClientSecret || token == other.RegistrationAccessToken {
		t.Errorf("the token is %q", token)
	}
	for key, err := range s.Inner().Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Inner().Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{token, base64.StdEncoding.EncodeToString([]byte(token))} {
			if bytes.Contains(r.Value, []byte(secret)) || strings.Contains(key, secret) {
				t.Errorf("the store has the token: %s", r.Value)
			}
		}
		if err := client.CheckRecord(strings.TrimPrefix(key, prefix+"client/"), r.Value); err != nil {
			t.Error(err)
		}
	}
}

// Programs of before have written neither a token nor the last use.
func TestRegistrationsOfBeforeGoOnWithoutAToken(t *testing.T) {
	d, s := newDirectory(t, client.Config{})
	id := register(t, d, publicBody).ClientID
	key := prefix + "client/" + strings.TrimPrefix(id, "mcp_")
	strip := func(r store.Record) (store.Record, error) {
		var fields map[string]any
		if err := json.Unmarshal(r.Value, &fields); err != nil {
			return r, err
		}
		delete(fields, "management_hash")
		delete(fields, "last_used")
		var err error
		r.Value, err = json.Marshal(fields)
		r.Expires = time.Now().Add(expireAfter + 12*time.Hour) // in use
		return r, err
	}
	if err := s.Inner().Update(t.Context(), key, strip); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "x"} {
		_, err := d.Registration(t.Context(), id, token)
		wantCode(t, err, "invalid_token")
	}
	c, err := d.Get(t.Context(), id)
	if err != nil || !c.LastUsed.IsZero() {
		t.Fatalf("got %+v, %v", c, err)
	}
	if err := d.Touch(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if c, err = d.Get(t.Context(), id); err != nil || c.LastUsed.IsZero() {
		t.Errorf("after its use: %+v, %v", c, err)
	}
}

func TestDeregisterEndsTokensOfClientsInUseOnly(t *testing.T) {
	for _, used := range []bool{false, true} {
		t.Run(fmt.Sprint(used), func(t *testing.T) {
			d, _ := newDirectory(t, client.Config{})
			info := register(t, d, publicBody)
			if used {
				c, err := d.Get(t.Context(), info.ClientID)
				if err == nil {
					err = d.Touch(t.Context(), c)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			ended := 0
			fault := errors.New("cannot be ended now")
			revoke := func() error {
				if ended++; ended == 1 {
					return fault
				}
				return nil
			}
			err := d.Deregister(t.Context(), info.ClientID, info.RegistrationAccessToken, revoke)
			if used {
				if _, gone := d.Get(t.Context(), info.ClientID); !errors.Is(err, fault) || gone != nil {
					t.Errorf("got %v, and then %v; want the client to stay until its tokens have ended", err, gone)
				}
				err = d.Deregister(t.Context(), info.ClientID, info.RegistrationAccessToken, revoke)
			}
			if err != nil || used != (ended == 2) || !used && ended != 0 {
				t.Errorf("got %v after %d calls", err, ended)
			}
			if _, err := d.Get(t.Context(), info.ClientID); !errors.Is(err, client.ErrUnknown) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// usedMeanwhile lets a client be used for the first time just before it is removed.
type usedMeanwhile struct {
	store.Store
	use func()
}

func (s *usedMeanwhile) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	if use := s.use; use != nil {
		s.use = nil
		use()
	}
	return s.Store.Update(ctx, key, fn)
}

func TestAClientThatIsUsedWhileItGoesLosesItsTokens(t *testing.T) {
	s := &usedMeanwhile{Store: memstore.New(0)}
	d := client.NewDirectory(s, prefix, client.Config{ExpireAfter: expireAfter})
	info := register(t, d, publicBody)
	c, err := d.Get(t.Context(), info.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	s.use = func() {
		if err := d.Touch(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	ended := 0
	if err := d.Deregister(t.Context(), info.ClientID, info.RegistrationAccessToken, func() error { ended++; return nil }); err != nil {
		t.Fatal(err)
	}
	if ended != 1 {
		t.Errorf("its tokens were ended %d times", ended)
	}
	if err := d.Touch(t.Context(), c); !errors.Is(err, client.ErrUnknown) {
		t.Errorf("whoever had looked it up before: %v, want ErrUnknown", err)
	}
}

func TestReplacementsTakeFromTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(0)
		d := client.NewDirectory(s, prefix, client.Config{ExpireAfter: expireAfter})
		info := register(t, d, publicBody)
		var refusal *oauth.Error
		peak := 0
		for i := 0; i < 40_000 && refusal == nil; i++ {
			_, err := d.Replace(t.Context(), info.ClientID, info.RegistrationAccessToken, update(t, info.ClientID, large(i)))
			if err != nil && !errors.As(err, &refusal) {
				t.Fatal(err)
			}
			if i == 0 {
				peak, _ = kept(t, s)
			}
		}
		if refusal == nil || refusal.Status != http.StatusTooManyRequests || peak < 2000 {
			t.Fatalf("got %v; the record has %d bytes", refusal, peak)
		}
		// What was written in a crowd does not stay for a day.
		time.Sleep(16 * time.Minute)
		if _, err := d.Get(t.Context(), info.ClientID); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("a quarter of an hour later: %v", err)
		}
	})
}

func TestReplacingChangesNoLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := newDirectory(t, client.Config{Trusted: true})
		unused, used, machine := register(t, d, publicBody), register(t, d, publicBody), register(t, d, machineBody)
		c, err := d.Get(t.Context(), used.ClientID)
		if err == nil {
			err = d.Touch(t.Context(), c)
		}
		if err != nil {
			t.Fatal(err)
		}
		before := map[string]time.Time{}
		for _, info := range []*oauth.ClientInformation{unused, used, machine} {
			c, err := d.Get(t.Context(), info.ClientID)
			if err != nil {
				t.Fatal(err)
			}
			before[info.ClientID] = c.Expires
		}
		time.Sleep(time.Hour)
		for _, info := range []*oauth.ClientInformation{unused, used, machine} {
			body := publicBody
			if info == machine {
				body = machineBody
			}
			if _, err := d.Replace(t.Context(), info.ClientID, info.RegistrationAccessToken, update(t, info.ClientID, body)); err != nil {
				t.Fatal(err)
			}
			if c, err := d.Get(t.Context(), info.ClientID); err != nil || !c.Expires.Equal(before[info.ClientID]) {
				t.Errorf("it expires %v instead of %v, %v", c.Expires, before[info.ClientID], err)
			}
		}
	})
}

// An initial access token has no place in the request, so what it permits stays
// with those who had one.
func TestNobodyBecomesAServiceAccount(t *testing.T) {
	const both = `{"redirect_uris":["https://app.example/cb"],"grant_types":["authorization_code","client_credentials"]}`
	for _, trusted := range []bool{false, true} {
		d, _ := newDirectory(t, client.Config{Trusted: trusted})
		person, machine := register(t, d, publicBody), register(t, d, machineBody)
		_, err := d.Replace(t.Context(), person.ClientID, person.RegistrationAccessToken, update(t, person.ClientID, both))
		if trusted {
			wantCode(t, err, "invalid_client_metadata")
		} else if err != nil {
			t.Errorf("where everybody may: %v", err)
		}
		if _, err := d.Replace(t.Context(), machine.ClientID, machine.RegistrationAccessToken, update(t, machine.ClientID, both)); err != nil {
			t.Errorf("one that is a service account: %v", err)
		}
	}
}

func TestAConfiguredClientIsNotManaged(t *testing.T) {
	d, s := newDirectory(t, client.Config{})
	info := register(t, d, publicBody)
	again := client.NewDirectory(s, prefix, client.Config{Configured: []*client.Client{{ID: info.ClientID}}, ExpireAfter: expireAfter})
	_, err := again.Registration(t.Context(), info.ClientID, info.RegistrationAccessToken)
	wantCode(t, err, "invalid_token")
	wantCode(t, again.Deregister(t.Context(), info.ClientID, info.RegistrationAccessToken, noRevocation(t)), "invalid_token")
}
