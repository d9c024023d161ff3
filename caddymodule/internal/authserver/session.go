package authserver

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// sessions keeps who is signed in, in which browser. The cookie holds the user's
// part and a random part; the store has the latter as a hash.
type sessions struct {
	store    store.Store
	prefix   string
	lifetime time.Duration
	key      []byte
}

// session is a signed-in browser.
type session struct {
	ID      string         `json:"-"` // the store key without its prefix
	Version int            `json:"v"`
	User    login.Identity `json:"user"`
	Since   time.Time      `json:"since"`
}

const sessionVersion = 1

// recentSignIn is how old a sign-in may be for a change of the ways to sign in:
// whoever finds an unlocked browser shall not make one that lasts.
const recentSignIn = 5 * time.Minute

// recent reports whether the person has signed in of late.
func (s *session) recent() bool {
	age := time.Since(s.Since)
	return age <= recentSignIn && age >= -clockError
}

var lowerBase32 = base32.StdEncoding.WithPadding(base32.NoPadding)

func encode32(b []byte) string { return strings.ToLower(lowerBase32.EncodeToString(b)) }

// userPart groups the sessions of a user without telling the user's name.
func (s *sessions) userPart(subject string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(subject))
	return encode32(mac.Sum(nil)[:10])
}

// start signs a user in and returns the cookie's value. Every sign-in makes a
// new session, so nobody can plant one beforehand. When confirm says no to the new
// session, it ends.
func (s *sessions) start(ctx context.Context, user login.Identity, confirm func(context.Context) error) (cookie string, err error) {
	data, err := json.Marshal(session{Version: sessionVersion, User: user, Since: time.Now().UTC()})
	if err != nil {
		return "", err
	}
	cookie = s.userPart(user.Subject) + "." + rand.Text()
	key, _ := s.id(cookie)
	if err := s.store.Put(ctx, s.prefix+key, store.Record{Value: data, Expires: time.Now().Add(s.lifetime)}); err != nil || confirm == nil {
		return cookie, err
	}
	if err := confirm(ctx); err != nil {
		return "", errors.Join(err, s.end(ctx, key))
	}
	return cookie, nil
}

// id is the store key of a cookie.
func (s *sessions) id(cookie string) (string, bool) {
	user, random, ok := strings.Cut(cookie, ".")
	if !ok || len(user) != 16 || len(random) != len(rand.Text()) || store.CheckKey(user) != nil || strings.Contains(user, "/") {
		return "", false
	}
	sum := sha256.Sum256([]byte(random))
	return user + "/" + encode32(sum[:]), true
}

// find returns the session of a cookie, or nil when there is none.
func (s *sessions) find(ctx context.Context, cookie string) (*session, error) {
	id, ok := s.id(cookie)
	if !ok {
		return nil, nil
	}
	return s.read(ctx, id)
}

// read returns a session by its id, or nil when there is none.
func (s *sessions) read(ctx context.Context, id string) (*session, error) {
	rec, err := s.store.Get(ctx, s.prefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &session{ID: id}
	if json.Unmarshal(rec.Value, out) != nil || out.Version != sessionVersion {
		out = nil // of another version of this program: people sign in once more
	}
	return out, nil
}

// end signs a browser out on the server, not only in the cookie.
func (s *sessions) end(ctx context.Context, id string) error {
	return s.store.Delete(ctx, s.prefix+id)
}

// endOthers signs a user out in every browser but the one of the session: whoever
// asks for it keeps the session until all is done, and can ask again.
func (s *sessions) endOthers(ctx context.Context, current *session) error {
	_, err := s.endAll(ctx, current.User.Subject, current.ID)
	return err
}

// endAll signs a user out in every browser but the one of the session with the id,
// and returns in how many.
func (s *sessions) endAll(ctx context.Context, subject, but string) (int, error) {
	n := 0
	for e, err := range s.store.List(ctx, s.prefix+s.userPart(subject)+"/") {
		if err != nil {
			return n, err
		}
		if e.Key == s.prefix+but {
			continue
		}
		if err := s.store.Delete(ctx, e.Key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// any reports whether a user is signed in somewhere.
func (s *sessions) any(ctx context.Context, subject string) (bool, error) {
	for _, err := range s.store.List(ctx, s.prefix+s.userPart(subject)+"/") {
		return err == nil, err
	}
	return false, nil
}

// all yields every session, in no particular order. It reads all records, so it is
// for operators. What cannot be read is no session. An error ends the sequence.
func (s *sessions) all(ctx context.Context) iter.Seq2[*session, error] {
	return func(yield func(*session, error) bool) {
		for key, err := range store.UniqueKeys(s.store.Keys(ctx, s.prefix)) {
			if err != nil {
				yield(nil, err)
				return
			}
			found, err := s.read(ctx, strings.TrimPrefix(key, s.prefix))
			if found == nil && err == nil {
				continue
			}
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}
