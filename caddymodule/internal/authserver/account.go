package authserver

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// account shows the apps that a user has connected.
func (s *Server) account(w http.ResponseWriter, r *http.Request) error {
	current, err := s.session(r)
	if err != nil {
		return err
	}
	tx := newTransaction(forAccount, s.cookies.ensureBrowser(w, r))
	tx.Locales = truncate(r.URL.Query().Get("ui_locales"), maxLocales)
	if current == nil {
		return s.showLogin(w, r, tx, nil, pages.Login{})
	}
	return s.showAccount(w, r, tx, current, pages.Account{})
}

// showAccount shows the account page, with what the view says has been done.
func (s *Server) showAccount(w http.ResponseWriter, r *http.Request, tx *transaction, current *session, view pages.Account) error {
	grants, err := s.grants.ListFor(r.Context(), current.User.Subject)
	if err != nil {
		return err
	}
	slices.SortFunc(grants, func(a, b *grant.Grant) int { return cmp.Or(b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.ID, b.ID)) })
	view.User = current.User.Display()
	listed := map[consentKey]int{} // the entries of apps that are remembered
	for _, g := range grants {
		c, err := s.recall(r.Context(), g)
		if err != nil {
			return err
		}
		app, key := s.appView(c, g), consentKeyOf(g)
		if i, ok := listed[key]; ok && s.remembers(c, g.Code.RedirectURI) {
			view.Apps[i] = merged(view.Apps[i], app)
			continue
		}
		listed[key] = len(view.Apps)
		view.Apps = append(view.Apps, app)
	}
	if view.SignIn, err = s.signInView(r, current); err != nil {
		return err
	}
	tx.Session = current.ID
	if view.Token, err = s.seal.seal(tx); err != nil {
		return err
	}
	s.rendered(w, s.pages.Account(w, r, http.StatusOK, view))
	return nil
}

// merged is the entry of an app with a further grant, which was used before.
func merged(entry, further pages.App) pages.App {
	if further.Connected.Before(entry.Connected) {
		entry.Connected = further.Connected
	}
	for _, sentence := range further.Scopes {
		if !slices.Contains(entry.Scopes, sentence) {
			entry.Scopes = append(entry.Scopes, sentence)
		}
	}
	return entry
}

// recall finds the client of a grant. One whose registration has lapsed is still
// listed, by its id, so that it can be removed.
func (s *Server) recall(ctx context.Context, g *grant.Grant) (*client.Client, error) {
	c, err := s.clients.Recall(ctx, g.ClientID)
	if errors.Is(err, client.ErrUnknown) {
		return &client.Client{ID: g.ClientID, Kind: client.Registered}, nil
	}
	return c, err
}

// appView is a grant as the page lists it. An app that is remembered may have
// several, of which the page shows the one that was used last.
func (s *Server) appView(c *client.Client, g *grant.Grant) pages.App {
	app := pages.App{
		ID: g.ID, Client: s.clientView(c, g.Code.RedirectURI), Resource: s.resourceView(g.Resource),
		StayConnected: true, Connected: g.Created, LastUsed: g.LastUsed,
	}
	for _, sc := range s.cfg.Scopes {
		if g.Scopes.Has(sc.Name) {
			app.Scopes = append(app.Scopes, sc.Description)
		}
	}
	return app
}

// errSignInChanged refuses a form that was shown in another session.
var errSignInChanged = page(pages.FormExpired, http.StatusBadRequest, "the sign-in changed while the page was open")

// accountForm reads a form of the account page with the session it was shown in,
// or nil when that has ended since.
func (s *Server) accountForm(w http.ResponseWriter, r *http.Request) (*form, *session, error) {
	f, err := s.readForm(w, r, forAccount)
	if err != nil {
		return nil, nil, err
	}
	current, err := s.session(r)
	if err == nil && current != nil && current.ID != f.tx.Session {
		err = errSignInChanged
	}
	return f, current, err
}

// remove takes the access of one app away.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) error {
	f, current, err := s.accountForm(w, r)
	if err != nil {
		return err
	}
	if current == nil {
		return errSignInChanged
	}
	id := f.get(pages.FieldGrant)
	if err := f.err(); err != nil {
		return err
	}
	removed, err := s.removeApp(r, current, id)
	if err != nil {
		return err
	}
	return s.showAccount(w, r, f.tx, current, pages.Account{Removed: removed})
}

// removeApp takes the access of an app away. What is gone already is what was asked
// for.
func (s *Server) removeApp(r *http.Request, current *session, id string) (*pages.Client, error) {
	g, c, ended, err := s.endApp(r.Context(), current.User.Subject, id, metrics.ByUser)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.auditRevoked(r.Context(), g, audit.ByUser, ended)
	view := s.clientView(c, g.Code.RedirectURI)
	return &view, nil
}

// endApp ends a grant of a user and, so that the consent is not remembered, the
// others of the same entry. It returns the grant as it was, its client, and how many
// have ended.
func (s *Server) endApp(ctx context.Context, subject, id, by string) (*grant.Grant, *client.Client, int, error) {
	g, err := s.grants.RevokeFor(ctx, subject, id)
	if err != nil {
		return nil, nil, 0, err
	}
	ended := 0
	if g.Revoked.IsZero() {
		ended = 1
	}
	c, err := s.recall(ctx, g)
	// The second time it finds what one of them was remembered for meanwhile.
	for range 2 {
		if err != nil || !s.remembers(c, g.Code.RedirectURI) {
			break
		}
		var others int
		others, err = s.grants.RevokeAllFor(ctx, subject, func(other *grant.Grant) bool { return consentKeyOf(other) == consentKeyOf(g) })
		ended += others
	}
	s.cfg.Metrics.Revoked(by, ended)
	return g, c, ended, err
}

// toAccount leads a GET of the sign-out, such as a bookmark, to the account page:
// only a form may sign somebody out.
func (s *Server) toAccount(w http.ResponseWriter, _ *http.Request) error {
	seeOther(w, pathAccount)
	return nil
}

// logout signs out here, or everywhere.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	f, current, err := s.accountForm(w, r)
	if err != nil {
		return err
	}
	// Without a session this form has done its work before, or it has ended by
	// itself.
	everywhere := current != nil && f.get(pages.FieldEverywhere) == "1"
	if everywhere {
		if err := s.sessions.endOthers(r.Context(), current); err != nil {
			return unavailable(err)
		}
	}
	if err := s.endSession(w, r); err != nil {
		return err
	}
	if current != nil {
		e := audit.Event{Name: audit.Logout, By: audit.ByUser, User: current.User.Subject, Provider: current.User.Provider}
		if everywhere {
			e.Reason = "everywhere"
		}
		s.cfg.Audit.Write(r.Context(), e)
		if err := s.signedOut(r.Context(), current.User.Subject); err != nil {
			return unavailable(err)
		}
	}
	s.rendered(w, s.pages.SignedOut(w, r, http.StatusOK, pages.SignedOut{Everywhere: everywhere}))
	return nil
}
