package authserver

import (
	"errors"
	"html/template"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// leadToEnrol sends somebody who has given the right password to the page that sets
// a second factor up, where nobody gets in without one.
func (s *Server) leadToEnrol(w http.ResponseWriter, tx *transaction, user login.Identity) error {
	next := tx.withPassword(forEnrol, user)
	next.Secret = factor.NewSecret()
	return s.continueAt(w, pathEnrol, next)
}

// askEnrol shows the key of the second factor that has to be set up. Once that has
// been done, the address that is left in the browser shows it to nobody.
func (s *Server) askEnrol(w http.ResponseWriter, r *http.Request) error {
	tx, err := s.seal.open(r.URL.Query().Get(paramContinue), forEnrol, s.cookies.browser(r))
	if err != nil {
		return err
	}
	user, state, err := s.toEnrol(r, tx)
	switch {
	case err != nil:
		return err
	case state.App || len(state.Passkeys) > 0:
		return s.afterPassword(w, r, tx.enrolled(), user)
	}
	return s.showEnrol(w, r, tx, pages.Failed{})
}

// toEnrol returns the user of a transaction, and what that user has by now.
func (s *Server) toEnrol(r *http.Request, tx *transaction) (login.Identity, factor.State, error) {
	user, ok := s.local(r.Context(), *tx.Pending.User)
	if !ok {
		return user, factor.State{}, errSignInChanged
	}
	state, err := s.factors.State(r.Context(), user)
	if err != nil {
		err = unavailable(err)
	}
	return user, state, err
}

// enrolled is the transaction as it was before a second factor had to be set up.
func (t *transaction) enrolled() *transaction {
	next := t.resumed()
	next.Secret = nil
	return next
}

func (s *Server) showEnrol(w http.ResponseWriter, r *http.Request, tx *transaction, failed pages.Failed) error {
	back, err := s.onward(tx.resumed())
	if err != nil {
		return err
	}
	return s.showKey(w, r, tx, tx.Pending.User.Subject, pages.Enrol{Failed: failed, Required: true, Back: back, Locales: tx.Locales})
}

// showKey shows the key in a transaction to whoever sets an app up with it.
func (s *Server) showKey(w http.ResponseWriter, r *http.Request, tx *transaction, subject string, v pages.Enrol) error {
	key, err := factor.NewKey(tx.Secret, s.cfg.Name, subject)
	if err != nil {
		return err
	}
	if v.Token, err = s.seal.seal(tx); err != nil {
		return err
	}
	v.URI, v.Secret = template.URL(key.URI), key.Text // #nosec G203 -- an otpauth address of our own
	s.rendered(w, s.pages.Enrol(w, r, failedStatus(w, v.Failed), v))
	return nil
}

// takeEnrol takes the first code of the app, and signs the person in.
func (s *Server) takeEnrol(w http.ResponseWriter, r *http.Request) error {
	f, err := s.readForm(w, r, forEnrol)
	if err != nil {
		return err
	}
	proof, err := f.proof()
	if err != nil {
		return err
	}
	tx := f.tx.enrolled()
	user, state, err := s.toEnrol(r, f.tx)
	switch {
	case err != nil:
		return err
	case len(state.Passkeys) > 0:
		return s.afterPassword(w, r, tx, user)
	}
	var codes []string
	failed, err := s.judge(r, user, proof, func() (err error) {
		codes, err = s.factors.Enrol(r.Context(), user, f.tx.Secret, proof.Code)
		return err
	})
	switch {
	case errors.Is(err, factor.ErrEnrolled):
		return s.leadToCode(w, tx, user) // the user has set one up in another browser
	case err != nil:
		return err
	case failed.Failure != pages.NoFailure:
		s.countCode(failed)
		return s.showEnrol(w, r, f.tx, failed)
	}
	s.auditFactor(r, user, "second factor: "+pages.DecisionEnrol)
	current, err := s.welcome(w, r, tx, user, nil)
	if err != nil {
		return err
	}
	if err := s.sessions.endOthers(r.Context(), current); err != nil {
		return unavailable(err)
	}
	next, err := s.onward(tx)
	if err != nil {
		return err
	}
	s.rendered(w, s.pages.Recovery(w, r, http.StatusOK, pages.Recovery{Codes: codes, Next: next, Required: true, Locales: tx.Locales}))
	return nil
}
