package authserver

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// paramLogin names the login that a button of the sign-in page stands for.
const paramLogin = "login"

// pending is what a transaction waits for: a sign-in at a provider that the
// browser has left for, a passkey, or the second factor.
type pending struct {
	ID       string  `json:"id,omitempty"` // of this one attempt
	Login    string  `json:"l,omitempty"`
	Nonce    string  `json:"n,omitempty"` // for the provider, or the challenge for a passkey
	Standing string  `json:"s,omitempty"` // of the passkeys that there were, while a new one is asked for
	Verifier string  `json:"v,omitempty"`
	For      purpose `json:"f"` // the purpose that the transaction had

	// User is who has given the right password, while the second factor is due.
	User *login.Identity `json:"u,omitempty"`
}

// leave begins a sign-in at a provider. The page that led here has given the
// browser its cookie, and everything that is needed later travels in the state,
// sealed and bound to that cookie: whoever gets hold of the address of the
// callback cannot go on with it in another browser.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) error {
	p, err := queryParams(r)
	if err != nil {
		return err
	}
	id, sealed := p.get(paramLogin), p.get(paramContinue)
	if err := p.err(); err != nil {
		return err
	}
	l := s.redirectLogin(id)
	if l == nil {
		return page(pages.NotFound, http.StatusNotFound, "there is no such way to sign in")
	}
	tx, c, err := s.continued(r, sealed)
	if err != nil {
		return err
	}
	away := tx.waiting(forProvider, &pending{ID: rand.Text(), Login: l.ID, Nonce: rand.Text(), Verifier: rand.Text() + rand.Text()})
	away.Session = ""
	state, err := s.seal.seal(away)
	if err != nil {
		return err
	}
	target, err := l.Login.Begin(r.Context(), s.attempt(away, state))
	if err != nil {
		return s.unanswered(w, r, tx, c, l, err)
	}
	seeOther(w, target)
	return nil
}

func (s *Server) redirectLogin(id string) *Redirect {
	for i := range s.cfg.Redirects {
		if s.cfg.Redirects[i].ID == id {
			return &s.cfg.Redirects[i]
		}
	}
	return nil
}

// continued opens a sealed transaction that people sign in for, with its client
// if it has one.
func (s *Server) continued(r *http.Request, sealed string) (*transaction, *client.Client, error) {
	tx, err := s.seal.openAny(sealed, s.cookies.browser(r), signInPurposes...)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.clientOf(r, tx)
	return tx, c, err
}

// attempt is a sign-in in the words of the login.
func (s *Server) attempt(tx *transaction, state string) login.Attempt {
	return login.Attempt{
		Callback: s.cfg.Issuer + pathCallback, State: state, Nonce: tx.Pending.Nonce, Verifier: tx.Pending.Verifier,
		Prompt: tx.Prompt, MaxAge: tx.MaxAge, Hint: tx.Hint,
	}
}

// unanswered shows the sign-in page again when a provider is down, since the
// other ways go on.
func (s *Server) unanswered(w http.ResponseWriter, r *http.Request, tx *transaction, c *client.Client, l *Redirect, err error) error {
	if !errors.Is(err, login.ErrUnreachable) {
		return s.unbelieved(r, l, err)
	}
	s.cfg.Metrics.Login(l.ID, metrics.LoginError)
	s.cfg.Log.Error("a provider cannot be used", zap.String("login", l.ID), zap.Error(err))
	return s.showLogin(w, r, tx, c, pages.Login{Failed: pages.Failed{Failure: pages.LoginOutage, Provider: l.Label}})
}

// unbelieved is the page for an answer that proves nothing. The reason is for the
// log only.
func (s *Server) unbelieved(r *http.Request, l *Redirect, err error) error {
	s.cfg.Metrics.Login(l.ID, metrics.LoginFailed)
	s.auditLogin(r.Context(), "", l.ID, err.Error())
	e := page(pages.LoginFailed, http.StatusForbidden, "the answer of the provider was refused; the log of the server says why")
	e.provider, e.told = l.Label, true
	return e
}

// callback is where providers send the browser back to.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	p, err := queryParams(r)
	if err != nil {
		return err
	}
	state := p.get("state")
	if err := p.err(); err != nil {
		return err
	}
	away, err := s.seal.open(state, forProvider, s.cookies.browser(r))
	if err != nil {
		return err
	}
	l := s.redirectLogin(away.Pending.Login)
	if l == nil {
		return page(pages.RequestExpired, http.StatusBadRequest, "this way to sign in has been taken away")
	}
	if err := s.checkUnused(r.Context(), away); err != nil {
		return err
	}
	return s.finish(w, r, l, away, s.attempt(away, state), p.values)
}

// finish lets the login judge what the provider has sent, and signs the person in.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, l *Redirect, away *transaction, a login.Attempt, answer url.Values) error {
	tx := away.resumed()
	peer := s.cfg.ClientIP(r)
	try, wait := s.callbacks.Begin(r.Context(), peer, peer)
	if wait > 0 {
		s.cfg.Metrics.Login(l.ID, metrics.LoginLimited)
		s.cfg.Metrics.RateLimited("callback")
		s.auditLogin(r.Context(), "", l.ID, "too many answers that prove nothing")
		return s.afterFailure(w, r, tx, pages.Failed{Failure: pages.TooManyTries, Wait: wait})
	}
	user, err := l.Login.Finish(r.Context(), a, answer)
	switch {
	case errors.Is(err, login.ErrCancelled):
		try.Back()
		s.cfg.Metrics.Login(l.ID, metrics.LoginCancelled)
		s.auditLogin(r.Context(), "", l.ID, "the person turned back")
		return s.cancelled(w, r, tx)
	case errors.Is(err, login.ErrUnreachable):
		try.Back()
		s.cfg.Metrics.Login(l.ID, metrics.LoginError)
		s.cfg.Log.Error("a provider cannot be used", zap.String("login", l.ID), zap.Error(err))
		return s.afterFailure(w, r, tx, pages.Failed{Failure: pages.LoginOutage, Provider: l.Label})
	case err != nil:
		return s.unbelieved(r, l, err)
	}
	try.Succeeded()
	if err := s.use(r.Context(), away); err != nil {
		return err
	}
	return s.admit(w, r, tx, user)
}

// afterFailure shows the sign-in page of a transaction again.
func (s *Server) afterFailure(w http.ResponseWriter, r *http.Request, tx *transaction, failed pages.Failed) error {
	c, err := s.clientOf(r, tx)
	if err != nil {
		return err
	}
	return s.showLogin(w, r, tx, c, pages.Login{Failed: failed})
}

// cancelled tells the client that the person turned back at the provider. Where
// there is no client to go back to, the person can choose again.
func (s *Server) cancelled(w http.ResponseWriter, r *http.Request, tx *transaction) error {
	if tx.Purpose != forAuthorize {
		return s.afterFailure(w, r, tx, pages.Failed{})
	}
	if _, err := s.requestClient(r, tx.ClientID, tx.RedirectURI); err != nil {
		return err
	}
	s.redirectError(w, r, &redirectableError{tx.RedirectURI, tx.State, oauth.AccessDenied()})
	return nil
}

// signInMark is the value of the mark of a finished sign-in, with the version of
// its schema.
const signInMark = `{"v":1}`

// errFinished refuses the callback of a sign-in that has been finished.
var errFinished = page(pages.RequestExpired, http.StatusBadRequest, "this sign-in has been finished before")

func (s *Server) signInKey(away *transaction) string { return s.signIns + away.Pending.ID }

// checkUnused refuses a sign-in that has been finished before anything is asked
// of the provider.
func (s *Server) checkUnused(ctx context.Context, away *transaction) error {
	_, err := s.store.Get(ctx, s.signInKey(away))
	switch {
	case err == nil:
		return errFinished
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return unavailable(err)
}

// use marks a sign-in as finished, which only one of several callbacks at once
// can do. The mark is not made before the provider has told who it is, so that
// nobody can fill the store with marks.
func (s *Server) use(ctx context.Context, away *transaction) error {
	err := s.store.Update(ctx, s.signInKey(away), func(r store.Record) (store.Record, error) {
		if r.Value != nil {
			return r, errFinished
		}
		// One minute more than the state can be opened.
		return store.Record{Value: []byte(signInMark), Expires: time.Now().Add(grant.RequestLifetime + time.Minute)}, nil
	})
	if err != nil && !errors.Is(err, errFinished) {
		return unavailable(err)
	}
	return err
}
