package factor

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Refusals. Any other error means that the store, or what it holds, could not be
// used: nothing is known about the factor then.
var (
	// ErrDenied says that a code or a passkey is wrong, or has been used.
	ErrDenied = errors.New("the code or the passkey is wrong")

	// ErrLocked says that there were so many wrong codes that only a recovery
	// code helps.
	ErrLocked = errors.New("codes are switched off after too many wrong ones")

	// ErrNone says that the user has no authenticator app.
	ErrNone = errors.New("there is no second factor")

	// ErrEnrolled says that the user has another authenticator app.
	ErrEnrolled = errors.New("there is a second factor already")

	// ErrFull says that the user has as many passkeys as there can be.
	ErrFull = errors.New("there are too many passkeys")
)

// Config says for whom factors are kept.
type Config struct {
	// Origin is where the pages are, without a trailing slash. Name is what the
	// server is called.
	Origin, Name string

	// Users knows the users. Whom it does not know has no factors.
	Users login.Directory
}

// Service keeps the factors of an issuer's users.
type Service struct {
	store   store.Store
	prefix  string
	users   login.Directory
	partKey []byte
	box     *seal.Box
	rp      *webauthn.WebAuthn // nil where browsers have no passkeys
}

// New returns the service over the records below prefix + "factor/". derive gives
// a key for a label.
func New(st store.Store, prefix string, derive func(label string) []byte, cfg Config) (*Service, error) {
	box, err := seal.New(hex.EncodeToString(derive("factor secret")))
	if err != nil {
		return nil, err
	}
	rp, err := relyingParty(cfg.Origin, cfg.Name)
	if err != nil {
		return nil, err
	}
	return &Service{store: st, prefix: prefix + "factor/", users: cfg.Users, partKey: derive("factor user"), box: box, rp: rp}, nil
}

// part stands for a user without telling the name. It is also the user handle of
// passkeys.
func (s *Service) part(subject string) string {
	mac := hmac.New(sha256.New, s.partKey)
	mac.Write([]byte(subject))
	return lowerBase32.EncodeToString(mac.Sum(nil)[:partBytes])
}

func (s *Service) key(subject string) string { return s.prefix + s.part(subject) }

// State is what a user has set up.
type State struct {
	App           bool // an authenticator app
	Since         time.Time
	RecoveryCodes int // that are left
	Passkeys      []Passkey
}

// Passkey is a passkey of a user.
type Passkey struct {
	ID    []byte
	Name  string
	Added time.Time
	Used  time.Time // zero when it was never used to sign in
}

func (rec *record) state(stamp string) State {
	var out State
	if t := rec.TOTP; t != nil {
		out = State{App: true, Since: t.Since, RecoveryCodes: len(t.Recovery)}
	}
	for _, p := range rec.current(stamp) {
		out.Passkeys = append(out.Passkeys, Passkey{ID: p.ID, Name: p.Name, Added: p.Added, Used: p.Used})
	}
	return out
}

// current are the passkeys that were added since the password has changed.
func (rec *record) current(stamp string) []passkey {
	return slices.DeleteFunc(slices.Clone(rec.Passkeys), func(p passkey) bool { return p.Stamp != stamp })
}

// load reads the record of the part of a key.
func (s *Service) load(ctx context.Context, part string) (*record, error) {
	r, err := s.store.Get(ctx, s.prefix+part)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return decode(r.Value)
}

// State returns what a user has set up.
func (s *Service) State(ctx context.Context, user login.Identity) (State, error) {
	rec, err := s.load(ctx, s.part(user.Subject))
	if err != nil {
		return State{}, err
	}
	return rec.state(user.Stamp), nil
}

// change updates the record of a user in one atomic step. fn reports whether what
// it has made of the record is written, which can be so for a refusal as well.
func (s *Service) change(ctx context.Context, subject string, fn func(*record) (write bool, err error)) error {
	var refused error
	unchanged := errors.New("nothing to write")
	err := s.store.Update(ctx, s.key(subject), func(r store.Record) (store.Record, error) {
		rec, err := decode(r.Value)
		if err != nil {
			return r, err
		}
		rec.User = subject
		write, err := fn(rec)
		if refused = err; !write {
			return r, unchanged
		}
		r.Value, err = rec.encode()
		return r, err
	})
	if err != nil && !errors.Is(err, unchanged) {
		return err
	}
	return refused
}

// Proof is what a person types as the second factor: a code of the app, or a
// recovery code.
type Proof struct{ Code, Recovery string }

// Check uses a code or a recovery code up.
func (s *Service) Check(ctx context.Context, user login.Identity, p Proof) error {
	now := time.Now()
	return s.change(ctx, user.Subject, func(rec *record) (bool, error) { return s.check(rec, p, now) })
}

// check uses a code up. Wrong ones are counted in the record.
func (s *Service) check(rec *record, p Proof, now time.Time) (write bool, err error) {
	t := rec.TOTP
	switch {
	case t == nil:
		return false, ErrNone
	case p.Recovery != "":
		i := t.findRecovery(p.Recovery)
		if i < 0 {
			return false, ErrDenied
		}
		t.Recovery, t.Wrong = slices.Delete(t.Recovery, i, i+1), 0
		return true, nil
	case t.Wrong >= maxWrong:
		return false, ErrLocked
	}
	secret, err := s.open(rec)
	if err != nil {
		return false, err
	}
	step, ok := match(secret, p.Code, now, t.Step)
	if !ok {
		t.Wrong++
		return true, ErrDenied
	}
	t.Step, t.Wrong = step, 0
	return true, nil
}

// open returns the secret of the user's app.
func (s *Service) open(rec *record) ([]byte, error) {
	secret, _, err := s.box.Open(s.key(rec.User), rec.TOTP.Secret)
	if err != nil {
		// The error of the box speaks of keys of the configuration.
		return nil, errors.New("a stored second factor cannot be opened: it was changed, or the keys of the issuer were lost since")
	}
	return secret, nil
}

// Enrol sets an app up that makes right codes for the secret, and returns the
// recovery codes. With the secret of an app that was just set up it gives new
// recovery codes, because the page with the first ones may never have arrived.
func (s *Service) Enrol(ctx context.Context, user login.Identity, secret []byte, code string) ([]string, error) {
	now := time.Now()
	codes, hashes := newRecoveryCodes()
	sealed, err := s.box.Seal(s.key(user.Subject), secret)
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, user.Subject, func(rec *record) (bool, error) {
		if rec.TOTP != nil {
			return s.enrolAgain(rec, secret, code, hashes, now)
		}
		step, ok := match(secret, code, now, 0)
		if !ok {
			return false, ErrDenied
		}
		rec.TOTP = &totp{Secret: bytes.Clone(sealed), Since: now.UTC().Truncate(time.Second), Step: step, Recovery: hashes}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

func (s *Service) enrolAgain(rec *record, secret []byte, code string, hashes [][]byte, now time.Time) (bool, error) {
	known, err := s.open(rec)
	if err != nil {
		return false, err
	}
	if subtle.ConstantTimeCompare(known, secret) != 1 {
		return false, ErrEnrolled
	}
	write, err := s.check(rec, Proof{Code: code}, now)
	if err == nil {
		rec.TOTP.Recovery = hashes
	}
	return write, err
}

// Remove takes the user's app away, with its recovery codes.
func (s *Service) Remove(ctx context.Context, user login.Identity, p Proof) error {
	now := time.Now()
	return s.change(ctx, user.Subject, func(rec *record) (bool, error) {
		write, err := s.check(rec, p, now)
		if err == nil {
			rec.TOTP = nil
		}
		return write, err
	})
}

// Renew returns new recovery codes, which take the place of the ones before.
func (s *Service) Renew(ctx context.Context, user login.Identity, p Proof) ([]string, error) {
	now := time.Now()
	codes, hashes := newRecoveryCodes()
	err := s.change(ctx, user.Subject, func(rec *record) (bool, error) {
		write, err := s.check(rec, p, now)
		if err == nil {
			rec.TOTP.Recovery = hashes
		}
		return write, err
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// Reset takes everything away that a user has set up, and returns what that was,
// passkeys of before the last password included. It also helps where the record
// cannot be read.
func (s *Service) Reset(ctx context.Context, subject string) (State, error) {
	var before State
	err := s.store.Update(ctx, s.key(subject), func(r store.Record) (store.Record, error) {
		before = State{}
		if rec, err := decode(r.Value); err == nil {
			before = rec.state("")
			before.Passkeys = nil
			for _, p := range rec.Passkeys {
				before.Passkeys = append(before.Passkeys, Passkey{ID: p.ID, Name: p.Name, Added: p.Added, Used: p.Used})
			}
		}
		return store.Record{}, nil
	})
	return before, err
}
