package caddymodule

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func testUsers() *localUsers {
	return newLocalUsers([]User{
		{Name: "alice", Hash: cheapBcrypt, Email: "alice@example.com"},
		{Name: "bob", Hash: cheapArgon2},
	})
}

func TestLocalUsers(t *testing.T) {
	users := testUsers()
	for _, tt := range []struct {
		rule, name, password string
		want                 error
	}{
		{"bcrypt", "alice", testPassword, nil},
		{"argon2id", "bob", testPassword, nil},
		{"a wrong password with bcrypt", "alice", "wrong", login.ErrDenied},
		{"a wrong password with argon2id", "bob", "wrong", login.ErrDenied},
		{"no password", "alice", "", login.ErrDenied},
		{"no password with argon2id", "bob", "", login.ErrDenied},
		{"a password that bcrypt would cut off", "alice", testPassword + strings.Repeat("x", 100), login.ErrDenied},
		{"an unknown user with the password of others", "carol", testPassword, login.ErrDenied},
		{"no user", "", testPassword, login.ErrDenied},
		{"another spelling of the name", "Alice", testPassword, login.ErrDenied},
		{"the hash is no password", "alice", cheapBcrypt, login.ErrDenied},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			id, err := users.Authenticate(t.Context(), tt.name, tt.password)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got the error %v, want %v", err, tt.want)
			}
			if tt.want == nil && (id.Subject != tt.name || id.Provider != localProvider || id.Stamp == "") {
				t.Errorf("got %+v", id)
			}
			if tt.want != nil && id.Subject != "" {
				t.Errorf("a refusal comes with the identity %+v", id)
			}
		})
	}
}

// A name that nobody has must cost what others cost, so it goes the same way.
func TestUnknownUsersCostAHash(t *testing.T) {
	saved := hashing
	hashing = newHashQueue()
	defer func() { hashing = saved }()
	for range cap(hashing.waiting) {
		hashing.waiting <- struct{}{}
	}
	for _, name := range []string{"alice", "nobody"} {
		if _, err := testUsers().Authenticate(t.Context(), name, testPassword); !errors.Is(err, login.ErrBusy) {
			t.Errorf("%s gets past the queue of hashes: %v", name, err)
		}
	}
}

func TestUsersOfTheConfigurationAreKnown(t *testing.T) {
	users := testUsers()
	alice, ok := users.Lookup(t.Context(), "alice")
	if !ok || alice.Email != "alice@example.com" {
		t.Errorf("got %+v, %t", alice, ok)
	}
	if _, ok := users.Lookup(t.Context(), "carol"); ok {
		t.Error("carol is known")
	}
	changed, _ := newLocalUsers([]User{{Name: "alice", Hash: cheapArgon2}}).Lookup(t.Context(), "alice")
	if changed.Stamp == alice.Stamp {
		t.Error("a new hash does not change the stamp, so old sessions go on")
	}
	if strings.Contains(cheapBcrypt, alice.Stamp) {
		t.Error("the stamp is a part of the hash")
	}
}

func TestTheQueueOfHashesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newHashQueue()
		for range hashesAtOnce { // as if hashes were being computed
			q.waiting <- struct{}{}
			q.running <- struct{}{}
		}
		answers := make(chan error, hashesWaiting)
		for range hashesWaiting {
			go func() {
				ok, err := q.check(t.Context(), cheapBcrypt, testPassword)
				if err == nil && !ok {
					err = login.ErrDenied
				}
				answers <- err
			}()
		}
		synctest.Wait()
		begin := time.Now()
		if _, err := q.check(t.Context(), cheapBcrypt, testPassword); !errors.Is(err, login.ErrBusy) {
			t.Errorf("one too many gets %v, want ErrBusy", err)
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("one too many has waited for %v", waited)
		}
		for range hashesAtOnce { // they are done
			<-q.running
			<-q.waiting
		}
		for range hashesWaiting {
			if err := <-answers; err != nil {
				t.Errorf("one in the queue gets %v", err)
			}
		}
		if len(q.running) != 0 || len(q.waiting) != 0 {
			t.Errorf("%d and %d places are lost", len(q.running), len(q.waiting))
		}
	})
}

func TestPatienceInTheQueueOfHashesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newHashQueue()
		for range hashesAtOnce {
			q.running <- struct{}{}
		}
		begin := time.Now()
		_, err := q.check(t.Context(), cheapBcrypt, testPassword)
		if waited := time.Since(begin); !errors.Is(err, login.ErrBusy) || waited != hashPatience {
			t.Errorf("got %v after %v, want ErrBusy after %v", err, waited, hashPatience)
		}
		if len(q.waiting) != 0 {
			t.Error("a place in the queue is lost")
		}
	})
}

func TestWhoGivesUpLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newHashQueue()
		for range hashesAtOnce {
			q.running <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := q.check(ctx, cheapBcrypt, testPassword)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if len(q.waiting) != 0 {
			t.Error("a place in the queue is lost")
		}
	})
}

func TestACancelledSignInIsNoRefusal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := testUsers().Authenticate(ctx, "alice", "wrong"); !errors.Is(err, login.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if _, err := newConfiguredSecret(cheapBcrypt).Check(ctx, "wrong"); !errors.Is(err, login.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
}

func TestSecretsOfConfiguredClients(t *testing.T) {
	for _, tt := range []struct {
		rule, configured, presented string
		want                        bool
	}{
		{"the secret itself", "robot-secret-1234", "robot-secret-1234", true},
		{"another one", "robot-secret-1234", "robot-secret-1235", false},
		{"a part of it", "robot-secret-1234", "robot-secret", false},
		{"none", "robot-secret-1234", "", false},
		{"a bcrypt hash", cheapBcrypt, testPassword, true},
		{"an argon2id hash", cheapArgon2, testPassword, true},
		{"a wrong secret with a hash", cheapArgon2, "wrong", false},
		{"the hash is no secret", cheapBcrypt, cheapBcrypt, false},
		{"a secret that is too long to hash", cheapArgon2, strings.Repeat("x", maxClientSecret+1), false},
	} {
		got, err := newConfiguredSecret(tt.configured).Check(t.Context(), tt.presented)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %t and the error %v, want %t", tt.rule, got, err, tt.want)
		}
	}
}
