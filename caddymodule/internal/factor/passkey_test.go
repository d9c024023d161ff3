package factor

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor/factortest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func TestAPasskeySignsItsUserIn(t *testing.T) {
	s := newSite(t)
	s.directory.set("bob", "1")
	a := newAuthenticator()
	if err := s.add(s.alice, a); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if user, err := s.signIn(a); err != nil || user.Subject != "alice" {
			t.Fatalf("signed in as %+v, %v", user, err)
		}
	}
	state, err := s.State(t.Context(), s.alice)
	if err != nil || len(state.Passkeys) != 1 || state.Passkeys[0].Name != "Laptop" || state.Passkeys[0].Used.IsZero() || state.App {
		t.Errorf("the state is %+v, %v", state, err)
	}
	if strings.Contains(s.part("alice"), "alice") {
		t.Error("the user handle tells the name")
	}
}

func TestPasskeysThatCannotCount(t *testing.T) {
	s := newSite(t)
	a := newAuthenticator()
	a.Step, a.Flags = 0, a.Flags|factortest.Backup // such as those of phones, which are on several devices
	if err := s.add(s.alice, a); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.signIn(a); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignInsByPasskeyThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(*site, *factortest.Authenticator)
	}{
		{"at another origin", func(_ *site, a *factortest.Authenticator) { a.Origin = "https://mcp.example.com.evil.example" }},
		{"at another port", func(_ *site, a *factortest.Authenticator) { a.Origin += ":8443" }},
		{"for another site", func(_ *site, a *factortest.Authenticator) { a.RPID = "evil.example" }},
		{"without verifying the user", func(_ *site, a *factortest.Authenticator) { a.Flags = factortest.Present }},
		{"without the user", func(_ *site, a *factortest.Authenticator) { a.Flags = factortest.Verified }},
		{"that can be backed up all at once", func(_ *site, a *factortest.Authenticator) { a.Flags |= factortest.Backup }},
		{"that was removed", func(s *site, _ *factortest.Authenticator) {
			state, err := s.State(s.t.Context(), s.alice)
			if err != nil {
				s.t.Fatal(err)
			}
			if name, err := s.RemovePasskey(s.t.Context(), s.alice, state.Passkeys[0].ID); err != nil || name != "Laptop" {
				s.t.Errorf("removed %q, %v", name, err)
			}
		}},
		{"after a reset", func(s *site, _ *factortest.Authenticator) {
			if before, err := s.Reset(s.t.Context(), "alice"); err != nil || len(before.Passkeys) != 1 {
				s.t.Errorf("reset %+v, %v", before, err)
			}
		}},
		{"of a user who is gone", func(s *site, _ *factortest.Authenticator) { delete(s.directory.users, "alice") }},
		{"after a new password", func(s *site, _ *factortest.Authenticator) { s.alice = s.directory.set("alice", "2") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			a := newAuthenticator()
			if err := s.add(s.alice, a); err != nil {
				t.Fatal(err)
			}
			tt.lie(s, a)
			if user, err := s.signIn(a); !errors.Is(err, ErrDenied) {
				t.Errorf("signed in as %+v, %v", user, err)
			}
		})
	}
}

func TestAnAnswerBelongsToItsChallengeAndItsUser(t *testing.T) {
	s := newSite(t)
	bob := s.directory.set("bob", "1")
	alices, bobs := newAuthenticator(), newAuthenticator()
	if err := errors.Join(s.add(s.alice, alices), s.add(bob, bobs)); err != nil {
		t.Fatal(err)
	}
	first, _ := s.BeginLogin()
	second, _ := s.BeginLogin()
	if first.Challenge == second.Challenge || len(first.Challenge) < 22 {
		t.Errorf("the challenges are %q and %q", first.Challenge, second.Challenge)
	}
	answer, err := bobs.Get(first.Options)
	if err != nil {
		t.Fatal(err)
	}
	for name, challenge := range map[string]string{"another": second.Challenge, "no": "", "a short": "AAAA"} {
		if p, err := s.Prove(t.Context(), challenge, answer); !errors.Is(err, ErrDenied) {
			t.Errorf("for %s challenge: %+v, %v", name, p, err)
		}
	}
	for name, handle := range map[string]string{
		"another user's": s.part("alice"), "nobody's": s.part("mallory"), "no": "", "a path as": "../" + s.part("bob"), "a name as": "bob",
	} {
		lie, err := bobs.GetAs(first.Options, []byte(handle))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := s.Prove(t.Context(), first.Challenge, lie); !errors.Is(err, ErrDenied) {
			t.Errorf("in %s handle: %+v, %v", name, p, err)
		}
	}
	if p, err := s.Prove(t.Context(), first.Challenge, answer); err != nil || p.User.Subject != "bob" {
		t.Errorf("the right one: %+v, %v", p, err)
	}
}

func TestACopyOfAPasskeyIsNoticed(t *testing.T) {
	s := newSite(t)
	a := newAuthenticator()
	if err := s.add(s.alice, a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.signIn(a); err != nil {
		t.Fatal(err)
	}
	clone := a.Clone()
	if _, err := s.signIn(a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.signIn(clone); !errors.Is(err, ErrDenied) {
		t.Errorf("the copy: %v", err)
	}
	// Also when both have proven themselves before one of them is noted.
	ahead := a.Clone()
	var proven []*Proven
	for _, each := range []*factortest.Authenticator{a, ahead} {
		c, _ := s.BeginLogin()
		answer, err := each.Get(c.Options)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prove(t.Context(), c.Challenge, answer)
		if err != nil {
			t.Fatal(err)
		}
		proven = append(proven, p)
	}
	if err := s.Use(t.Context(), proven[0]); err != nil {
		t.Error(err)
	}
	if err := s.Use(t.Context(), proven[1]); !errors.Is(err, ErrDenied) {
		t.Errorf("the copy at the same time: %v", err)
	}
}

func TestNewPasskeysThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(*factortest.Authenticator)
	}{
		{"at another origin", func(a *factortest.Authenticator) { a.Origin = "https://evil.example" }},
		{"for another site", func(a *factortest.Authenticator) { a.RPID = "example.com" }},
		{"without verifying the user", func(a *factortest.Authenticator) { a.Flags = factortest.Present }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			a := newAuthenticator()
			tt.lie(a)
			if err := s.add(s.alice, a); !errors.Is(err, ErrDenied) {
				t.Errorf("got %v", err)
			}
			if s.stored() != nil {
				t.Error("there is a record")
			}
		})
	}
	t.Run("for another challenge", func(t *testing.T) {
		s := newSite(t)
		first, err := s.BeginAdd(t.Context(), s.alice)
		if err != nil {
			t.Fatal(err)
		}
		second, _ := s.BeginAdd(t.Context(), s.alice)
		answer, err := newAuthenticator().Create(first.Options)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.FinishAdd(t.Context(), s.alice, second, "x", answer); !errors.Is(err, ErrDenied) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAddingTheSamePasskeyAgainChangesNothing(t *testing.T) {
	s := newSite(t)
	a := newAuthenticator()
	c, err := s.BeginAdd(t.Context(), s.alice)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Create(c.Options)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.FinishAdd(t.Context(), s.alice, c, "Laptop", answer); err != nil {
			t.Fatal(err)
		}
	}
	if state, err := s.State(t.Context(), s.alice); err != nil || len(state.Passkeys) != 1 {
		t.Errorf("there are %d passkeys, %v", len(state.Passkeys), err)
	}
}

// Of answers to questions that were asked at once, the first one counts, whether
// those are several questions or several answers to one.
func TestOfNewPasskeysAtOnceOneIsAdded(t *testing.T) {
	const at = 20
	for name, ask := range map[string]func(s *site) []Ceremony{
		"several questions": func(s *site) (out []Ceremony) {
			for range at {
				c, err := s.BeginAdd(s.t.Context(), s.alice)
				if err != nil {
					s.t.Fatal(err)
				}
				out = append(out, c)
			}
			return out
		},
		"one question": func(s *site) []Ceremony {
			c, err := s.BeginAdd(s.t.Context(), s.alice)
			if err != nil {
				s.t.Fatal(err)
			}
			return slices.Repeat([]Ceremony{c}, at)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.store.RepeatUpdates()
			if err := s.add(s.alice, newAuthenticator()); err != nil {
				t.Fatal(err)
			}
			a := newAuthenticator()
			var added, refused atomic.Int32
			var all sync.WaitGroup
			for _, c := range ask(s) {
				answer, err := a.Create(c.Options)
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					switch err := s.FinishAdd(t.Context(), s.alice, c, "Laptop", answer); {
					case err == nil:
						added.Add(1)
					case errors.Is(err, ErrDenied):
						refused.Add(1)
					}
				})
			}
			all.Wait()
			state, err := s.State(t.Context(), s.alice)
			if err != nil || len(state.Passkeys) != 2 || added.Load() != 1 || refused.Load() != at-1 {
				t.Errorf("%d were added and %d refused; there are %d, %v", added.Load(), refused.Load(), len(state.Passkeys), err)
			}
			if err := s.add(s.alice, newAuthenticator()); err != nil {
				t.Errorf("another one after that: %v", err)
			}
		})
	}
}

func TestAPasskeyThatWasRemovedMeanwhileIsNoticed(t *testing.T) {
	s := newSite(t)
	if err := s.add(s.alice, newAuthenticator()); err != nil {
		t.Fatal(err)
	}
	c, err := s.BeginAdd(t.Context(), s.alice)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := newAuthenticator().Create(c.Options)
	if err != nil {
		t.Fatal(err)
	}
	state, err := s.State(t.Context(), s.alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemovePasskey(t.Context(), s.alice, state.Passkeys[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := s.FinishAdd(t.Context(), s.alice, c, "x", answer); !errors.Is(err, ErrDenied) {
		t.Errorf("got %v", err)
	}
}

func TestThereIsABoundToPasskeys(t *testing.T) {
	s := newSite(t)
	late, err := s.BeginAdd(t.Context(), s.alice)
	if err != nil {
		t.Fatal(err)
	}
	for range MaxPasskeys {
		if err := s.add(s.alice, newAuthenticator()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.add(s.alice, newAuthenticator()); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	answer, err := newAuthenticator().Create(late.Options)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FinishAdd(t.Context(), s.alice, late, "x", answer); !errors.Is(err, ErrFull) {
		t.Errorf("one that was begun before: %v", err)
	}
	// Those of before the last password make room.
	s.alice = s.directory.set("alice", "2")
	if err := s.add(s.alice, newAuthenticator()); err != nil {
		t.Errorf("after a new password: %v", err)
	}
	if rec, err := decode(s.stored()); err != nil || len(rec.Passkeys) != 1 {
		t.Errorf("the record holds %d passkeys, %v", len(rec.Passkeys), err)
	}
}

func TestWhereBrowsersHavePasskeys(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://mcp.example.com": true, "https://mcp.example.com:8443": true, "http://localhost:8080": true, "http://mcp.localhost": true,
		"https://192.0.2.1": false, "https://[2001:db8::1]": false, "http://127.0.0.1:8080": false, "http://mcp.example.com": false,
	} {
		s, err := New(nil, "", derive, Config{Origin: origin, Name: "Example"})
		if err != nil || s.HasPasskeys() != want {
			t.Errorf("%s: %v, %v", origin, s.HasPasskeys(), err)
		}
	}
}

// Whatever a browser sends is refused or right, and never more than that.
func FuzzPasskeyAnswers(f *testing.F) {
	s, err := New(nothing{}, "test/", derive, Config{Origin: origin, Name: "Example", Users: &directory{}})
	if err != nil {
		f.Fatal(err)
	}
	user := login.Identity{Subject: "alice", Provider: "local", Stamp: "1"}
	const challenge = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	options := []byte(`{"publicKey":{"challenge":"` + challenge + `","user":{"id":"YQ"}}}`)
	a := newAuthenticator()
	for _, make := range []func([]byte) ([]byte, error){a.Create, a.Get} {
		answer, err := make(options)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(answer)
	}
	f.Add([]byte(`{"id":"","rawId":null,"response":{"userHandle":1}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if p, err := s.Prove(t.Context(), challenge, answer); err == nil || !errors.Is(err, ErrDenied) {
			t.Errorf("%q proves %+v, %v", answer, p, err)
		}
		p, err := s.made(user, challenge, answer)
		if err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v", answer, err)
		}
		if err == nil && (len(p.ID) == 0 || len(p.ID) > maxCredentialID || len(p.PublicKey) == 0 || len(p.PublicKey) > maxPublicKey) {
			t.Errorf("%q makes %+v", answer, p)
		}
	})
}
