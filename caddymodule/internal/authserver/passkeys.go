package authserver

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// maxAnswer bounds the JSON of a credential, and maxPasskeyName the name that a
// person gives it, in bytes.
const (
	maxAnswer      = 32 << 10
	maxPasskeyName = 200
)

// passkeyAddress is the link of the sign-in page to the page for passkeys, or ""
// where there are none.
func (s *Server) passkeyAddress(sealed string) string {
	if s.factors == nil || !s.factors.HasPasskeys() {
		return ""
	}
	return pathPasskey + "?" + url.Values{paramContinue: {sealed}}.Encode()
}

// leadToPasskey sends somebody who has given the right password to the page for
// passkeys. A passkey signs in by itself, so that page need not know of the password.
func (s *Server) leadToPasskey(w http.ResponseWriter, tx *transaction) error {
	next := *tx
	next.Due = true
	return s.continueAt(w, pathPasskey, &next)
}

// askPasskey asks for a passkey in place of the password.
func (s *Server) askPasskey(w http.ResponseWriter, r *http.Request) error {
	tx, c, err := s.continued(r, r.URL.Query().Get(paramContinue))
	if err != nil {
		return err
	}
	return s.showPasskey(w, r, tx, c, pages.Failed{})
}

// showPasskey shows the page with a new challenge, which travels in the
// transaction.
func (s *Server) showPasskey(w http.ResponseWriter, r *http.Request, tx *transaction, c *client.Client, failed pages.Failed) error {
	asked, err := s.factors.BeginLogin()
	if err != nil {
		return err
	}
	tx.Session = ""
	v := pages.PasskeyPage{Options: string(asked.Options), Due: tx.Due, Failed: failed, Locales: tx.Locales}
	if c != nil {
		view := s.clientView(c, tx.RedirectURI)
		v.Client, v.Resource = &view, s.resourceView(tx.Resource)
	}
	if v.Token, err = s.seal.seal(tx.waiting(forPasskey, newQuestion(asked))); err != nil {
		return err
	}
	tx.Due = false // whoever goes back begins anew
	if v.Back, err = s.onward(tx); err != nil {
		return err
	}
	s.rendered(w, s.pages.Passkey(w, r, failedStatus(w, failed), v))
	return nil
}

// newQuestion is what a transaction keeps while a browser is asked for a passkey.
func newQuestion(asked factor.Ceremony) *pending {
	return &pending{ID: rand.Text(), Nonce: asked.Challenge, Standing: asked.Standing}
}

// takePasskey signs in whose passkey has signed the challenge. A person cannot
// mistype here, so tries count against the address only: nobody can hold others
// back by guesses in their name.
func (s *Server) takePasskey(w http.ResponseWriter, r *http.Request) error {
	f, err := s.readForm(w, r, forPasskey)
	if err != nil {
		return err
	}
	answer := f.get(pages.FieldAnswer)
	if err := f.err(); err != nil {
		return err
	}
	if err := s.checkUnused(r.Context(), f.tx); err != nil {
		return err
	}
	peer := s.cfg.ClientIP(r)
	try, wait := s.passkeys.Begin(r.Context(), peer, peer)
	if wait > 0 {
		s.cfg.Metrics.RateLimited("passkey")
		s.auditLogin(r.Context(), "", metrics.LocalProvider, "too many passkeys that prove nothing")
		return s.askPasskeyAgain(w, r, f.tx, pages.Failed{Failure: pages.TooManyTries, Wait: wait})
	}
	user, err := s.proven(r, f.tx, answer)
	if errors.Is(err, factor.ErrDenied) {
		s.auditLogin(r.Context(), "", metrics.LocalProvider, "passkey: "+err.Error())
		return s.askPasskeyAgain(w, r, f.tx, pages.Failed{Failure: pages.WrongPasskey})
	}
	if err != nil {
		try.Back()
		return err
	}
	try.Succeeded()
	return s.admit(w, r, f.tx.resumed(), user)
}

func (s *Server) askPasskeyAgain(w http.ResponseWriter, r *http.Request, tx *transaction, failed pages.Failed) error {
	s.countCode(failed)
	back := tx.resumed()
	c, err := s.clientOf(r, back)
	if err != nil {
		return err
	}
	return s.showPasskey(w, r, back, c, failed)
}

// proven finds out whose passkey has signed the challenge of a transaction. Only
// a right signature uses the challenge up, so that nobody can fill the store.
func (s *Server) proven(r *http.Request, tx *transaction, answer string) (login.Identity, error) {
	if len(answer) > maxAnswer {
		return login.Identity{}, factor.ErrDenied
	}
	p, err := s.factors.Prove(r.Context(), tx.Pending.Nonce, []byte(answer))
	if err == nil {
		if err := s.use(r.Context(), tx); err != nil {
			return login.Identity{}, err
		}
		err = s.factors.Use(r.Context(), p)
	}
	switch {
	case err == nil:
		return p.User, nil
	case errors.Is(err, factor.ErrDenied):
		return login.Identity{}, err
	}
	return login.Identity{}, unavailable(err)
}

// newPasskey shows where a passkey is added to an account.
func (s *Server) newPasskey(w http.ResponseWriter, r *http.Request) error {
	current, err := s.localSession(r)
	if err != nil {
		return err
	}
	if current == nil || !current.recent() {
		return s.signInAgain(w, r, pathNewPasskey)
	}
	return s.showNewPasskey(w, r, newTransaction(forAccount, s.cookies.ensureBrowser(w, r)), current, pages.Failed{})
}

func (s *Server) showNewPasskey(w http.ResponseWriter, r *http.Request, tx *transaction, current *session, failed pages.Failed) error {
	asked, err := s.factors.BeginAdd(r.Context(), current.User)
	if errors.Is(err, factor.ErrFull) {
		return s.showAccount(w, r, tx, current, pages.Account{})
	}
	if err != nil {
		return unavailable(err)
	}
	tx.Session = current.ID
	sealed, err := s.seal.seal(tx.waiting(forNewPasskey, newQuestion(asked)))
	if err != nil {
		return err
	}
	s.rendered(w, s.pages.Passkey(w, r, failedStatus(w, failed), pages.PasskeyPage{
		Adding: true, Options: string(asked.Options), Failed: failed, Back: pathAccount, Token: sealed,
	}))
	return nil
}

// addPasskey takes a new passkey. The challenge is used up last: adding the same
// passkey once more changes nothing, so what failed on the way can be repeated.
func (s *Server) addPasskey(w http.ResponseWriter, r *http.Request) error {
	f, current, err := s.factorForm(w, r, forNewPasskey)
	if err != nil {
		return err
	}
	answer, name := f.get(pages.FieldAnswer), passkeyName(f.get(pages.FieldName))
	if err := f.err(); err != nil {
		return err
	}
	if err := s.checkUnused(r.Context(), f.tx); err != nil {
		return err
	}
	err = factor.ErrDenied
	if len(answer) <= maxAnswer {
		asked := factor.Ceremony{Challenge: f.tx.Pending.Nonce, Standing: f.tx.Pending.Standing}
		err = s.factors.FinishAdd(r.Context(), current.User, asked, name, []byte(answer))
	}
	tx := f.tx.resumed()
	switch {
	case errors.Is(err, factor.ErrDenied):
		s.cfg.Audit.Write(r.Context(), audit.Event{Name: audit.FactorChange, Outcome: audit.Refused, Reason: "new passkey: " + err.Error()})
		return s.showNewPasskey(w, r, tx, current, pages.Failed{Failure: pages.WrongPasskey})
	case errors.Is(err, factor.ErrFull):
		return s.showAccount(w, r, tx, current, pages.Account{})
	case err != nil:
		return unavailable(err)
	}
	if err := s.use(r.Context(), f.tx); err != nil {
		return err
	}
	s.auditFactor(r, current.User, "passkey added")
	return s.showAccount(w, r, tx, current, pages.Account{Notice: pages.PasskeyAdded, Named: name})
}

// passkeyName is the name that a person gave, or a word in its place.
func passkeyName(typed string) string {
	if name := strings.TrimSpace(strings.ToValidUTF8(truncate(typed, maxPasskeyName), "")); name != "" {
		return name
	}
	return "Passkey"
}

func passkeyID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

// removePasskey takes a passkey away. That needs a sign-in of late as well: where a
// second factor is required, the password would be enough to set one up afterwards.
func (s *Server) removePasskey(w http.ResponseWriter, r *http.Request) error {
	f, current, err := s.factorForm(w, r, forAccount)
	if err != nil {
		return err
	}
	if !current.recent() {
		return s.signInAgain(w, r, pathAccount)
	}
	id, err := base64.RawURLEncoding.DecodeString(f.get(pages.FieldPasskey))
	if err := f.err(); err != nil {
		return err
	}
	var view pages.Account
	if err == nil {
		name, err := s.factors.RemovePasskey(r.Context(), current.User, id)
		if err != nil {
			return unavailable(err)
		}
		if name != "" {
			s.auditFactor(r, current.User, "passkey removed")
			view = pages.Account{Notice: pages.PasskeyRemoved, Named: name}
		}
	}
	return s.showAccount(w, r, f.tx, current, view)
}
