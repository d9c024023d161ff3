package authserver

import (
	"errors"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// signInView is how a user signs in, for the account page; nil for users whose
// sign-in is elsewhere.
func (s *Server) signInView(r *http.Request, current *session) (*pages.SignIn, error) {
	user, ok := s.local(r.Context(), current.User)
	if !ok {
		return nil, nil
	}
	state, err := s.factors.State(r.Context(), user)
	if err != nil {
		return nil, unavailable(err)
	}
	v := &pages.SignIn{
		App: state.App, Since: state.Since, RecoveryCodes: state.RecoveryCodes, Required: s.cfg.RequireFactor,
		Offered: s.factors.HasPasskeys(), Full: len(state.Passkeys) >= factor.MaxPasskeys,
	}
	for _, p := range state.Passkeys {
		v.Passkeys = append(v.Passkeys, pages.Passkey{ID: passkeyID(p.ID), Name: p.Name, Added: p.Added, Used: p.Used})
	}
	return v, nil
}

// localSession is the session of a local user, or nil without any session. Others
// have nothing here.
func (s *Server) localSession(r *http.Request) (*session, error) {
	current, err := s.session(r)
	if err != nil || current == nil {
		return nil, err
	}
	if _, ok := s.local(r.Context(), current.User); !ok {
		return nil, page(pages.NotFound, http.StatusNotFound, "this account signs in elsewhere")
	}
	return current, nil
}

// signInAgain shows the sign-in page to somebody who shall prove once more who
// they are, and then goes to the path.
func (s *Server) signInAgain(w http.ResponseWriter, r *http.Request, path string) error {
	tx := newTransaction(forAccount, s.cookies.ensureBrowser(w, r))
	tx.Then = path
	return s.showLogin(w, r, tx, nil, pages.Login{})
}

// factor shows where the second factor is set up or changed.
func (s *Server) factor(w http.ResponseWriter, r *http.Request) error {
	current, err := s.localSession(r)
	if err != nil {
		return err
	}
	if current == nil {
		return s.signInAgain(w, r, pathFactor)
	}
	return s.showFactor(w, r, newTransaction(forFactor, s.cookies.ensureBrowser(w, r)), current, pages.Failed{})
}

// showFactor shows what a user can do about the second factor: set one up with a
// new key, after a sign-in of late, or change the one there is, for which a code
// is needed.
func (s *Server) showFactor(w http.ResponseWriter, r *http.Request, tx *transaction, current *session, failed pages.Failed) error {
	state, err := s.factors.State(r.Context(), current.User)
	if err != nil {
		return unavailable(err)
	}
	switch {
	case state.App:
		tx.Secret = nil
	case tx.Secret != nil:
	case !current.recent():
		return s.signInAgain(w, r, pathFactor)
	default:
		tx.Secret = factor.NewSecret()
	}
	tx.Session = current.ID
	if tx.Secret != nil {
		return s.showKey(w, r, tx, current.User.Subject, pages.Enrol{Failed: failed, Back: pathAccount})
	}
	sealed, err := s.seal.seal(tx)
	if err != nil {
		return err
	}
	s.rendered(w, s.pages.Factor(w, r, failedStatus(w, failed), pages.Factor{Failed: failed, Token: sealed}))
	return nil
}

// changeFactor takes the forms of these pages.
func (s *Server) changeFactor(w http.ResponseWriter, r *http.Request) error {
	f, current, err := s.factorForm(w, r, forFactor)
	if err != nil {
		return err
	}
	decision := f.get(pages.FieldDecision)
	proof, err := f.proof()
	if err != nil {
		return err
	}
	var codes []string
	change := map[string]func() error{
		pages.DecisionEnrol: func() (err error) {
			codes, err = s.factors.Enrol(r.Context(), current.User, f.tx.Secret, proof.Code)
			return err
		},
		pages.DecisionRenew: func() (err error) {
			codes, err = s.factors.Renew(r.Context(), current.User, proof)
			return err
		},
		pages.DecisionRemove: func() error { return s.factors.Remove(r.Context(), current.User, proof) },
	}[decision]
	if change == nil || (decision == pages.DecisionEnrol) != (f.tx.Secret != nil) {
		return oauth.InvalidRequest("the form has no decision")
	}
	failed, err := s.judge(r, current.User, proof, change)
	switch {
	case errors.Is(err, factor.ErrNone), errors.Is(err, factor.ErrEnrolled):
		seeOther(w, pathAccount) // which shows how it is
		return nil
	case err != nil:
		return err
	case failed.Failure != pages.NoFailure:
		return s.showFactor(w, r, f.tx, current, failed)
	}
	s.auditFactor(r, current.User, "second factor: "+decision)
	return s.factorChanged(w, r, f.tx, current, decision, codes)
}

// factorChanged shows what has come of it. With a new factor the sessions end
// that were started without it, but for the one that has just proven it.
func (s *Server) factorChanged(w http.ResponseWriter, r *http.Request, tx *transaction, current *session, decision string, codes []string) error {
	switch decision {
	case pages.DecisionRemove:
		tx.Purpose = forAccount
		notice := pages.FactorOff
		if s.cfg.RequireFactor {
			notice = pages.FactorAnew
		}
		return s.showAccount(w, r, tx, current, pages.Account{Notice: notice})
	case pages.DecisionEnrol:
		if err := s.sessions.endOthers(r.Context(), current); err != nil {
			return unavailable(err)
		}
	}
	s.rendered(w, s.pages.Recovery(w, r, http.StatusOK, pages.Recovery{Codes: codes, Next: pathAccount}))
	return nil
}

// factorForm reads a form of the pages about factors with the session that it was
// shown in, which is that of a local user.
func (s *Server) factorForm(w http.ResponseWriter, r *http.Request, p purpose) (*form, *session, error) {
	f, err := s.readForm(w, r, p)
	if err != nil {
		return nil, nil, err
	}
	current, err := s.localSession(r)
	if err == nil && (current == nil || current.ID != f.tx.Session) {
		err = errSignInChanged
	}
	return f, current, err
}
