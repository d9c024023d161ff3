package grant

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Revoke ends a grant by its id. Revoking an unknown or already revoked grant is
// no error.
func (s *Service) Revoke(ctx context.Context, id string) error {
	key, ok := s.keyOf(id)
	if !ok {
		return nil
	}
	_, err := s.revoke(ctx, key, func(*Grant) bool { return true })
	return err
}

// RevokeFor ends a grant of a user and returns it as it was before, so that of
// several calls at once one sees it active. Without such a grant of the user it is
// store.ErrNotFound.
func (s *Service) RevokeFor(ctx context.Context, subject, id string) (*Grant, error) {
	key, ok := s.keyOf(id)
	if !ok {
		return nil, store.ErrNotFound
	}
	var before *Grant
	_, err := s.revoke(ctx, key, func(g *Grant) bool {
		if g.User.Subject != subject {
			return false
		}
		copied := *g
		before = &copied
		return true
	})
	if err == nil && before == nil {
		err = store.ErrNotFound
	}
	return before, err
}

// RevokeAllFor ends the grants of a user that which picks, those of codes that nobody
// has redeemed yet among them, and returns how many of them were active.
func (s *Service) RevokeAllFor(ctx context.Context, subject string, which func(*Grant) bool) (ended int, err error) {
	grants, err := s.aliveOf(ctx, subject)
	if err != nil {
		return 0, err
	}
	for _, g := range grants {
		if !which(g) {
			continue
		}
		if err := s.Revoke(ctx, g.ID); err != nil {
			return ended, err
		}
		if g.Code.Used {
			ended++
		}
	}
	return ended, nil
}

// RevokeRefreshToken ends the grant of a refresh token that was issued to the
// client (RFC 7009 section 2.1), and reports whether it went on until now. What is
// no such token is ignored: the client is told nothing about it.
func (s *Service) RevokeRefreshToken(ctx context.Context, token, clientID string) (bool, error) {
	h, ok := s.codec.decode(kindRefresh, token)
	if !ok {
		return false, nil
	}
	return s.revoke(ctx, s.key(h), func(g *Grant) bool { return g.ClientID == clientID })
}

// KeyOf names what a code, a refresh token or a device code belongs to, for whoever
// counts requests; it is "" for what this server did not make. Of a code and a
// refresh token it is the id of the grant. It does not look at the store.
func (s *Service) KeyOf(credential string) string {
	for _, k := range []kind{kindCode, kindRefresh, kindDevice} {
		if h, ok := s.codec.decode(k, credential); ok {
			return idText(h.id)
		}
	}
	return ""
}

// ClientOf returns the client that a refresh token was issued to. It is for
// requests of public clients that name no client: the token is bound to its
// client, so the client is known (RFC 6749 section 6).
func (s *Service) ClientOf(ctx context.Context, token string) (string, error) {
	h, ok := s.codec.decode(kindRefresh, token)
	if !ok {
		return "", errBadRefresh
	}
	g, err := s.get(ctx, s.key(h))
	if errors.Is(err, store.ErrNotFound) {
		return "", errBadRefresh
	}
	if err != nil {
		return "", err
	}
	return g.ClientID, nil
}

// ListFor returns the active grants of a user, in no particular order.
func (s *Service) ListFor(ctx context.Context, subject string) ([]*Grant, error) {
	grants, err := s.aliveOf(ctx, subject)
	return slices.DeleteFunc(grants, func(g *Grant) bool { return !g.Code.Used }), err
}

// aliveOf returns the grants of a user that are active, or will be.
func (s *Service) aliveOf(ctx context.Context, subject string) ([]*Grant, error) {
	var out []*Grant
	now := time.Now()
	for g, err := range s.listPart(ctx, s.UserPart(subject)) {
		if err != nil {
			return nil, err
		}
		if g.User.Subject == subject && g.alive(now) {
			out = append(out, g)
		}
	}
	return out, nil
}

// AnyAlive reports whether somebody has a grant that yields tokens, or will once its
// code is redeemed; user is the text that stands for the person in ids.
func (s *Service) AnyAlive(ctx context.Context, user string) (bool, error) {
	now := time.Now()
	for g, err := range s.listPart(ctx, user) {
		if err != nil || g.alive(now) {
			return err == nil, err
		}
	}
	return false, nil
}

// listPart yields the grants of a user in no particular order. An error ends the
// sequence.
func (s *Service) listPart(ctx context.Context, user string) iter.Seq2[*Grant, error] {
	return func(yield func(*Grant, error) bool) {
		for e, err := range s.store.List(ctx, s.prefix+user+"/") {
			if err != nil {
				yield(nil, err)
				return
			}
			g, err := s.get(ctx, e.Key)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if !yield(g, err) || err != nil {
				return
			}
		}
	}
}

func (s *Service) get(ctx context.Context, key string) (*Grant, error) {
	r, err := s.store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return decode(r.Value)
}

// errNotTheirs leaves a grant alone in which the caller has no say.
var errNotTheirs = errors.New("not a grant of the caller")

// revoke ends a grant, and reports whether it went on until now.
func (s *Service) revoke(ctx context.Context, key string, may func(*Grant) bool) (bool, error) {
	ended := false
	_, err := s.change(ctx, key, errNotTheirs, func(g *Grant, now time.Time) error {
		if !may(g) {
			return errNotTheirs
		}
		if ended = g.Revoked.IsZero(); ended {
			g.Revoked = now
		}
		return nil
	})
	if errors.Is(err, errNotTheirs) {
		return false, nil
	}
	return ended, err
}
