package authserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// What operators see and do, by the admin endpoint and the commands. Lists read all
// records; of what they find they return the most recently used, as many as asked
// for, and say how many they leave out.

// recent collects the entries of a list that come first in an order, without
// holding all of it.
type recent[T any] struct {
	limit   int // positive
	compare func(a, b T) int
	entries []T
	seen    int
}

func newRecent[T any](limit int, compare func(a, b T) int) *recent[T] {
	return &recent[T]{limit: limit, compare: compare, entries: []T{}}
}

func (r *recent[T]) add(entry T) {
	r.seen++
	r.entries = append(r.entries, entry)
	if len(r.entries) >= 2*r.limit {
		r.cut()
	}
}

func (r *recent[T]) cut() {
	slices.SortStableFunc(r.entries, r.compare)
	r.entries = r.entries[:min(len(r.entries), r.limit)]
}

// list returns the entries, and how many there are beside them.
func (r *recent[T]) list() ([]T, int) {
	r.cut()
	return r.entries, r.seen - len(r.entries)
}

// later returns the later of two moments.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// GrantInfo is a grant as operators see it.
type GrantInfo struct {
	ID       string       `json:"id"`
	User     string       `json:"user"` // the subject
	Name     string       `json:"name"` // as pages show the user
	ClientID string       `json:"client_id"`
	Resource string       `json:"resource"`
	Scopes   oauth.Scopes `json:"scopes"`
	Created  time.Time    `json:"created"`
	LastUsed time.Time    `json:"last_used"`
	Expires  time.Time    `json:"expires"`
}

func newGrantInfo(g *grant.Grant) GrantInfo {
	return GrantInfo{
		ID: g.ID, User: g.User.Subject, Name: g.User.Display(), ClientID: g.ClientID, Resource: g.Resource, Scopes: g.Scopes,
		Created: g.Created, LastUsed: g.LastUsed, Expires: g.Expires,
	}
}

// GrantFilter picks grants; what is empty fits all.
type GrantFilter struct{ User, ClientID string }

// Grants returns the active grants that fit, and how many more there are.
func (s *Server) Grants(ctx context.Context, filter GrantFilter, limit int) ([]GrantInfo, int, error) {
	out := newRecent(limit, func(a, b GrantInfo) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.ID, b.ID))
	})
	collect := func(g *grant.Grant) {
		if filter.ClientID == "" || filter.ClientID == g.ClientID {
			out.add(newGrantInfo(g))
		}
	}
	if filter.User != "" {
		grants, err := s.grants.ListFor(ctx, filter.User)
		if err != nil {
			return nil, 0, err
		}
		for _, g := range grants {
			collect(g)
		}
	} else {
		for g, err := range s.grants.All(ctx) {
			if err != nil {
				return nil, 0, err
			}
			collect(g)
		}
	}
	list, leftOut := out.list()
	return list, leftOut, nil
}

// RevokeGrant ends a grant as its user could: together with others that would let
// the consent be remembered. It returns the grant, and how many have ended, or
// store.ErrNotFound.
func (s *Server) RevokeGrant(ctx context.Context, id string) (GrantInfo, int, error) {
	g, err := s.grants.Find(ctx, id)
	if err != nil {
		return GrantInfo{}, 0, err
	}
	_, _, ended, err := s.endApp(ctx, g.User.Subject, id, metrics.ByAdmin)
	if err != nil {
		return GrantInfo{}, ended, err
	}
	s.auditRevoked(ctx, g, audit.ByOperator, ended)
	return newGrantInfo(g), ended, nil
}

// UserInfo is a person as operators see one.
type UserInfo struct {
	User     string `json:"user"` // the subject
	Name     string `json:"name"` // as pages show the user
	Provider string `json:"provider"`

	// Grants and Sessions are how many there are: connected apps, and browsers
	// that are signed in.
	Grants   int       `json:"grants"`
	Sessions int       `json:"sessions"`
	LastUsed time.Time `json:"last_used,omitzero"` // of a grant, or the last sign-in
}

// Users returns the people who have grants or sessions, those of local among them in
// any case, and how many more there are. It needs some 300 bytes of memory for each.
func (s *Server) Users(ctx context.Context, local []string, limit int) ([]UserInfo, int, error) {
	users := map[string]*UserInfo{}
	entry := func(subject, name, provider string) *UserInfo {
		u := users[subject]
		if u == nil {
			u = &UserInfo{User: subject, Name: name, Provider: provider}
			users[subject] = u
		}
		return u
	}
	for g, err := range s.grants.All(ctx) {
		if err != nil {
			return nil, 0, err
		}
		u := entry(g.User.Subject, g.User.Display(), g.User.Provider)
		u.Grants++
		u.LastUsed = later(u.LastUsed, g.LastUsed)
	}
	for found, err := range s.sessions.all(ctx) {
		if err != nil {
			return nil, 0, err
		}
		u := entry(found.User.Subject, found.User.Display(), found.User.Provider)
		u.Sessions++
		u.LastUsed = later(u.LastUsed, found.Since)
	}
	for _, subject := range local {
		if d, ok := s.directory(); ok {
			if id, known := d.Lookup(ctx, subject); known {
				entry(subject, id.Display(), id.Provider)
			}
		}
	}
	out := newRecent(limit, func(a, b UserInfo) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.User, b.User))
	})
	for _, u := range users {
		out.add(*u)
	}
	list, leftOut := out.list()
	return list, leftOut, nil
}

// revokeEverything ends what a user has allowed, and returns how many active grants
// that were. The devices come first: what one has got meanwhile is among the grants.
func (s *Server) revokeEverything(ctx context.Context, subject string) (int, error) {
	err := s.grants.TakeBackDevices(ctx, subject)
	n, revokeErr := s.grants.RevokeAllFor(ctx, subject, func(*grant.Grant) bool { return true })
	return n, errors.Join(err, revokeErr)
}

// SignOut ends all sessions of a user and, with revoke, all grants, also those that
// clients and devices have not come for yet. It returns how many sessions and active
// grants there were.
func (s *Server) SignOut(ctx context.Context, subject string, revoke bool) (sessions, grants int, err error) {
	if sessions, err = s.sessions.endAll(ctx, subject, ""); err != nil {
		return sessions, 0, err
	}
	s.cfg.Audit.Write(ctx, audit.Event{Name: audit.Logout, By: audit.ByOperator, User: subject, Count: sessions})
	if revoke {
		grants, err = s.revokeEverything(ctx, subject)
		s.cfg.Metrics.Revoked(metrics.ByAdmin, grants)
	}
	if grants > 0 {
		s.cfg.Audit.Write(ctx, audit.Event{Name: audit.GrantRevoke, By: audit.ByOperator, User: subject, Count: grants})
	}
	if err == nil {
		err = s.signedOut(ctx, subject)
	}
	return sessions, grants, err
}
