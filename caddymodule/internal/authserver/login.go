package authserver

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Bounds of what people type, in bytes.
const (
	maxUsername = 256
	maxPassword = 1024
)

// session returns who is signed in in this browser, or nil. Users who are gone,
// or whose password changed since, are not signed in any more.
func (s *Server) session(r *http.Request) (*session, error) {
	current, err := s.sessions.find(r.Context(), s.cookies.read(r, s.cookies.sessionName()))
	if err != nil {
		return nil, unavailable(err)
	}
	if current == nil {
		return nil, nil
	}
	user, ok := s.current(r.Context(), current.User)
	if !ok {
		return nil, nil
	}
	current.User = user
	knowUser(r.Context(), user)
	return current, nil
}

// showLogin shows the sign-in page for a transaction. c is nil when somebody
// signs in to see the connected apps.
func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, tx *transaction, c *client.Client, v pages.Login) error {
	tx.Session = ""
	sealed, err := s.seal.seal(tx)
	if err != nil {
		return err
	}
	v.Token, v.Locales, v.Password = sealed, tx.Locales, s.cfg.Password != nil
	v.Passkey, v.Again = s.passkeyAddress(sealed), tx.Then != ""
	if v.Providers = s.buttons(tx, sealed); len(v.Providers) == 0 && !v.Password {
		return nobodyVouches()
	}
	if c != nil {
		view := s.clientView(c, tx.RedirectURI)
		v.Client, v.Resource = &view, s.resourceView(tx.Resource)
	}
	s.rendered(w, s.pages.Login(w, r, failedStatus(w, v.Failed), v))
	return nil
}

// failedStatus is the status of a page that asks again, and sets Retry-After where
// that has to wait.
func failedStatus(w http.ResponseWriter, f pages.Failed) int {
	switch f.Failure {
	case pages.NoFailure, pages.LoginExpired:
		return http.StatusOK
	case pages.TooManyTries:
		w.Header().Set("Retry-After", strconv.Itoa(int(f.Wait/time.Second)+1))
		return http.StatusTooManyRequests
	case pages.LoginBusy, pages.LoginOutage:
		w.Header().Set("Retry-After", "2")
		return http.StatusServiceUnavailable
	case pages.WrongCredentials, pages.WrongCode, pages.WrongRecovery, pages.CodesLocked, pages.WrongPasskey:
	}
	// 401 would make some browsers ask for HTTP credentials.
	return http.StatusForbidden
}

// login takes user name and password.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	f, c, err := s.readLoginForm(w, r)
	if err != nil {
		return err
	}
	username, password := f.get(pages.FieldUsername), f.get(pages.FieldPassword)
	if err := f.err(); err != nil {
		return err
	}
	again := func(v pages.Login) error {
		v.Username = truncate(username, maxUsername)
		return s.showLogin(w, r, f.tx, c, v)
	}
	account := username
	if !checkable(username, password) {
		account = "" // a count for each would push out those of accounts, and nothing slows it down
	}
	try, wait := s.logins.Begin(r.Context(), account, s.cfg.ClientIP(r))
	if wait > 0 {
		s.cfg.Metrics.Login(metrics.LocalProvider, metrics.LoginLimited)
		s.cfg.Metrics.RateLimited("login")
		s.auditLogin(r.Context(), s.userNamed(r.Context(), username), metrics.LocalProvider, "too many wrong passwords")
		return again(pages.Login{Failed: pages.Failed{Failure: pages.TooManyTries, Wait: wait}})
	}
	user, err := s.authenticate(r, username, password)
	s.countPassword(err)
	switch {
	case errors.Is(err, login.ErrDenied):
		s.auditLogin(r.Context(), s.userNamed(r.Context(), username), metrics.LocalProvider, "wrong user name or password")
		return again(pages.Login{Failed: pages.Failed{Failure: pages.WrongCredentials, TriesLeft: try.Left()}})
	case errors.Is(err, login.ErrBusy):
		try.Back()
		return again(pages.Login{Failed: pages.Failed{Failure: pages.LoginBusy}})
	case err != nil:
		try.Back()
		return err
	}
	try.Succeeded()
	return s.afterPassword(w, r, f.tx, user)
}

// checkable reports whether a user name and a password can be right. Others are
// refused without the work of a hash.
func checkable(username, password string) bool {
	return len(username) <= maxUsername && len(password) <= maxPassword && !strings.ContainsRune(username, 0)
}

func (s *Server) authenticate(r *http.Request, username, password string) (login.Identity, error) {
	if s.cfg.Password == nil || !checkable(username, password) {
		return login.Identity{}, login.ErrDenied
	}
	return s.cfg.Password.Authenticate(r.Context(), username, password)
}

// readLoginForm reads a sign-in or account-switch form, whichever transaction it
// belongs to, with the client of the transaction if there is one.
func (s *Server) readLoginForm(w http.ResponseWriter, r *http.Request) (*form, *client.Client, error) {
	f, err := s.readForm(w, r, signInPurposes...)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.clientOf(r, f.tx)
	return f, c, err
}

// signInPurposes are those of transactions that people sign in for.
var signInPurposes = []purpose{forAuthorize, forAccount, forDevice}

// clientOf returns the client of a transaction, or nil for one that leads to the
// account page.
func (s *Server) clientOf(r *http.Request, tx *transaction) (*client.Client, error) {
	if tx.Purpose == forAuthorize {
		return s.requestClient(r, tx.ClientID, tx.RedirectURI)
	}
	if tx.Purpose == forDevice {
		return s.lookup(r, tx.ClientID)
	}
	return nil, nil
}

// afterLogin sends the browser on with a GET, so that reloading the page does
// not send the password again.
func (s *Server) afterLogin(w http.ResponseWriter, tx *transaction) error {
	target, err := s.onward(tx)
	if err != nil {
		return err
	}
	seeOther(w, target)
	return nil
}

// onward is the address at which a transaction goes on: with what it is for, or
// with the sign-in page for who is not signed in.
func (s *Server) onward(tx *transaction) (string, error) {
	if tx.Purpose == forAccount {
		return cmp.Or(tx.Then, pathAccount), nil
	}
	if tx.Purpose == forDevice {
		return s.continuation(pathDevice, tx)
	}
	return s.continuation(pathAuthorize, tx)
}

// continuation is the address of a page with a transaction that it goes on with.
func (s *Server) continuation(path string, tx *transaction) (string, error) {
	sealed, err := s.seal.seal(tx)
	return path + "?" + url.Values{paramContinue: {sealed}}.Encode(), err
}

// continueAt redirects to a page that goes on with the transaction.
func (s *Server) continueAt(w http.ResponseWriter, path string, tx *transaction) error {
	target, err := s.continuation(path, tx)
	if err != nil {
		return err
	}
	seeOther(w, target)
	return nil
}

// seeOther redirects within our own origin.
func seeOther(w http.ResponseWriter, target string) {
	h := w.Header()
	h.Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

// switchUser ends the session and shows the sign-in page of the same transaction
// again.
func (s *Server) switchUser(w http.ResponseWriter, r *http.Request) error {
	f, c, err := s.readLoginForm(w, r)
	if err != nil {
		return err
	}
	if err := s.endSession(w, r); err != nil {
		return err
	}
	f.tx.Prompt = promptSelect
	return s.showLogin(w, r, f.tx, c, pages.Login{})
}

// endSession signs the browser out.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	if err := s.dropSession(r); err != nil {
		return err
	}
	s.cookies.clear(w, s.cookies.sessionName())
	return nil
}

// dropSession ends the session of the browser on the server.
func (s *Server) dropSession(r *http.Request) error {
	id, ok := s.sessions.id(s.cookies.read(r, s.cookies.sessionName()))
	if !ok {
		return nil
	}
	if err := s.sessions.end(r.Context(), id); err != nil {
		return unavailable(err)
	}
	return nil
}
