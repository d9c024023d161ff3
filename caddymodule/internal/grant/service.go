package grant

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Config are the lifetimes of grants.
type Config struct {
	CodeLifetime    time.Duration // how long a code is good for
	RefreshLifetime time.Duration // how long a grant lives after its last use
	RefreshGrace    time.Duration // how long a predecessor still gets its successor
}

// Revoker makes the access tokens of a grant invalid.
type Revoker interface {
	// Add is called with the grant's id once the grant is revoked. It may be
	// called again for the same grant.
	Add(ctx context.Context, grantID string) error
}

// Service changes grants. Every method that changes one does so by a single
// atomic update of its record. Errors are *oauth.Error for refusals; any other
// error means that the store failed and nothing may be concluded.
type Service struct {
	store   store.Store
	prefix  string
	devices string // prefix of the requests of devices
	codec   codec
	cfg     Config
	revoker Revoker

	newUserCode func() oauth.UserCode
}

// NewService keeps grants in s below prefix. derive gives the server's symmetric
// keys by label.
func NewService(s store.Store, prefix string, derive func(label string) []byte, cfg Config, revoker Revoker) *Service {
	return &Service{
		store: s, prefix: prefix + "grant/", devices: prefix + "device/", cfg: cfg, revoker: revoker, newUserCode: oauth.NewUserCode,
		codec: codec{tagKey: derive("grant tag"), deriveKey: derive("grant secrets")},
	}
}

// Consent is a decision of a user.
type Consent struct {
	// Request identifies the authorization request. Deciding the same request
	// again never makes a second grant.
	Request string

	User            login.Identity
	ClientID        string
	Resource        string
	Scopes          oauth.Scopes
	RedirectURI     string
	Challenge       string
	ChallengeMethod string
}

// ErrDecided says that the request has been decided before, differently or too
// long ago for the same answer to be given again.
var ErrDecided = errors.New("this request has already been answered")

// Allow records that the user agrees and returns the authorization code. A form
// that was sent twice gets the same code while it is good and unused.
func (s *Service) Allow(ctx context.Context, c Consent) (code string, err error) {
	h := s.codeHandle(c)
	now := time.Now()
	err = s.store.Update(ctx, s.key(h), func(r store.Record) (store.Record, error) {
		if r.Exists() {
			g, err := decode(r.Value)
			if err != nil {
				return r, err
			}
			if g.Denied || g.Code.Used || !g.Revoked.IsZero() || !now.Before(g.Code.Expires) {
				return r, ErrDecided
			}
			return r, nil
		}
		expires := now.Add(s.cfg.CodeLifetime)
		return encode(&Grant{
			Version: recordVersion, ID: idText(h.id),
			User: c.User, ClientID: c.ClientID, Resource: c.Resource, Scopes: c.Scopes,
			Created: now, Expires: expires,
			Code: codeState{
				Hash: h.hash(), Expires: expires, RedirectURI: c.RedirectURI,
				Challenge: c.Challenge, ChallengeMethod: c.ChallengeMethod,
			},
		}, requestLifetime(expires, now))
	})
	if err != nil {
		return "", err
	}
	return s.codec.encode(h), nil
}

// Deny records that the user refuses, so that the same request cannot be allowed
// afterwards.
func (s *Service) Deny(ctx context.Context, c Consent) error {
	h := s.codeHandle(c)
	now := time.Now()
	return s.store.Update(ctx, s.key(h), func(r store.Record) (store.Record, error) {
		if r.Exists() {
			g, err := decode(r.Value)
			if err != nil {
				return r, err
			}
			if !g.Denied {
				return r, ErrDecided
			}
			return r, nil
		}
		g := &Grant{
			Version: recordVersion, ID: idText(h.id), User: c.User, ClientID: c.ClientID,
			Created: now, Expires: now, Denied: true,
		}
		return encode(g, requestLifetime(now, now))
	})
}

// RequestLifetime is how long an authorization request can be decided. Records
// of decisions live at least that long, which makes each request single-use.
const RequestLifetime = 10 * time.Minute

func requestLifetime(expires, now time.Time) time.Time {
	if end := now.Add(RequestLifetime + time.Minute); end.After(expires) {
		return end
	}
	return expires
}

// codeHandle derives the code of a request, so that deciding twice meets the
// same record.
func (s *Service) codeHandle(c Consent) handle {
	h := handle{kind: kindCode}
	copy(h.id[:userLength], s.userPart(c.User.Subject))
	copy(h.id[userLength:], s.codec.derive("grant id", []byte(c.Request)))
	copy(h.secret[:], s.codec.derive("code", []byte(c.Request)))
	return h
}

func (s *Service) userPart(subject string) []byte {
	return s.codec.derive("user", []byte(subject))[:userLength]
}

// UserPart is the text that stands for a user in ids of grants.
func (s *Service) UserPart(subject string) string { return userText(s.userPart(subject)) }

// UserOf returns the text that stands for the user in the id of a grant. It reports
// false for what is no such id.
func UserOf(id string) (string, bool) {
	if CheckID(id) != nil {
		return "", false
	}
	return id[:userTextLength], true
}

func (s *Service) key(h handle) string {
	return s.prefix + userText(h.id[:userLength]) + "/" + randomText(h.id[userLength:])
}

// keyOf is the store key of a grant's id as tokens carry it.
func (s *Service) keyOf(id string) (string, bool) {
	if len(id) != idTextLength || store.CheckKey(id) != nil {
		return "", false
	}
	return s.prefix + id[:userTextLength] + "/" + id[userTextLength:], true
}

// idTextLength is the length of idText: 16 characters for the user part and 26
// for the random part.
const idTextLength = userTextLength + 26

// Redemption is an authorization code on its way to become tokens.
type Redemption struct {
	Code        string
	ClientID    string
	RedirectURI string // "" when the client did not repeat it
	Verifier    string
	Resource    string // "" for the one of the authorization request

	// Accept has the last word, before anything is changed: an error of its
	// own refuses the request and leaves the code as it was. It may be nil.
	Accept func(*Grant) error
}

// Redeem turns a code into a grant and its first refresh token. Refusals leave
// the code as it was, except that a second redemption by the right client with
// the right verifier revokes the grant (OAuth 2.1 section 4.1.3).
func (s *Service) Redeem(ctx context.Context, r Redemption) (*Grant, string, error) {
	h, ok := s.codec.decode(kindCode, r.Code)
	if !ok {
		return nil, "", errBadCode
	}
	refresh := s.codec.successor(h)
	g, err := s.change(ctx, s.key(h), errBadCode, func(g *Grant, now time.Time) error {
		if err := g.checkRedemption(h, r); err != nil {
			return err
		}
		if g.Code.Used {
			g.Revoked = now
			return errReplayedCode
		}
		if !now.Before(g.Code.Expires) {
			return errBadCode
		}
		if err := g.accepted(r.Accept); err != nil {
			return err
		}
		g.redeemed(refresh, now, s.cfg)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return g, s.codec.encode(refresh), nil
}

// redeemed uses the code up for the first refresh token.
func (g *Grant) redeemed(refresh handle, now time.Time, cfg Config) {
	g.Code.Used = true
	g.Refresh = refreshState{Generation: refresh.generation, Hash: refresh.hash(), Rotated: now}
	g.LastUsed = now
	g.Expires = now.Add(cfg.RefreshLifetime)
}

// checkRedemption holds what must be right before a code is looked at further.
func (g *Grant) checkRedemption(h handle, r Redemption) error {
	if subtle.ConstantTimeCompare(h.hash(), g.Code.Hash) != 1 || g.ClientID != r.ClientID || g.Denied {
		return errBadCode
	}
	if r.RedirectURI != "" && r.RedirectURI != g.Code.RedirectURI {
		return oauth.InvalidGrant("redirect_uri is not the one of the authorization request")
	}
	if !oauth.VerifyChallenge(g.Code.ChallengeMethod, g.Code.Challenge, r.Verifier) {
		return oauth.InvalidGrant("code_verifier does not belong to the code_challenge of the authorization request")
	}
	if !g.Revoked.IsZero() {
		return errRevoked
	}
	if r.Resource != "" && r.Resource != g.Resource {
		return oauth.InvalidTarget("resource is not the one of the authorization request")
	}
	return nil
}

// accepted asks the caller of a request, if it wants to be asked.
func (g *Grant) accepted(accept func(*Grant) error) error {
	if accept == nil {
		return nil
	}
	return accept(g)
}

// Refusals. Their texts go to the client.
var (
	errBadCode      = oauth.InvalidGrant("the authorization code is unknown, expired or was issued to another client")
	errReplayedCode = oauth.InvalidGrant("the authorization code has been used before; access was revoked, sign in again")
	errBadRefresh   = oauth.InvalidGrant("the refresh token is unknown, expired or was issued to another client")
	errBadDevice    = oauth.InvalidGrant("the device code is unknown or was issued to another client")
	errRepeated     = oauth.InvalidGrant("the device code has been used before; access was revoked, begin again")
	errReused       = oauth.InvalidGrant("the refresh token was replaced earlier; access was revoked, sign in again")
	errRevoked      = oauth.InvalidGrant("access has been revoked; sign in again")
	errStepUp       = oauth.InvalidGrant("a call needs a further scope; ask the user for it")
)

// Reused reports whether a refusal was the discovery of a replayed code or
// refresh token, which revoked the grant.
func Reused(err error) bool {
	return errors.Is(err, errReused) || errors.Is(err, errReplayedCode) || errors.Is(err, errRepeated)
}

// change applies fn to the grant at key in one atomic update. When fn refuses
// and has revoked the grant, or taken a step-up, that is written nevertheless; whenever
// the grant is found revoked, its access tokens are made invalid, so that a
// crash between the two writes heals itself.
func (s *Service) change(ctx context.Context, key string, absent error, fn func(*Grant, time.Time) error) (*Grant, error) {
	return s.changeOrMake(ctx, key, func() (*Grant, time.Time, error) { return nil, time.Time{}, absent }, fn)
}

// changeOrMake is change for a grant that may not be there yet: then it is what
// begin returns, and is kept at least until the time beside it.
func (s *Service) changeOrMake(ctx context.Context, key string, begin func() (*Grant, time.Time, error), fn func(*Grant, time.Time) error) (*Grant, error) {
	var out *Grant
	var refusal error
	err := s.store.Update(ctx, key, func(r store.Record) (store.Record, error) {
		out, refusal = nil, nil
		g, keep, err := loadOr(r, begin)
		if err != nil {
			return r, err
		}
		out = g
		wasRevoked := !g.Revoked.IsZero()
		refusal = fn(g, time.Now())
		if unchanged := wasRevoked || g.Revoked.IsZero(); refusal != nil && unchanged && !errors.Is(refusal, errStepUp) {
			return r, refusal
		}
		return encode(g, laterOf(g.Expires, keep))
	})
	if out != nil && !out.Revoked.IsZero() && (err == nil || errors.Is(err, refusal)) {
		if revokeErr := s.revoker.Add(ctx, out.ID); revokeErr != nil {
			return nil, revokeErr
		}
	}
	if err != nil {
		return nil, err
	}
	return out, refusal
}

// loadOr returns the grant in a record and until when that is kept, or else what
// begin returns.
func loadOr(r store.Record, begin func() (*Grant, time.Time, error)) (*Grant, time.Time, error) {
	if !r.Exists() {
		return begin()
	}
	g, err := decode(r.Value)
	return g, r.Expires, err
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func encode(g *Grant, expires time.Time) (store.Record, error) {
	data, err := json.Marshal(g)
	return store.Record{Value: data, Expires: expires}, err
}
