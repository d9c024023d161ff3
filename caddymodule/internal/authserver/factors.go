package authserver

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// newFactors returns what local users have beside their passwords; nil when there
// are no local users.
func newFactors(cfg Config, st State) (*factor.Service, error) {
	users, ok := cfg.Password.(login.Directory)
	if !ok {
		return nil, nil
	}
	return factor.New(st.Store, st.Prefix, st.Keys.Derive, factor.Config{Origin: cfg.Issuer, Name: cfg.Name, Users: users})
}

// ResetFactors takes away all that a local user has set up beside the password,
// and returns what that was. It reports false when there is no such user, and
// nothing of one who is gone.
func (s *Server) ResetFactors(ctx context.Context, subject string) (before factor.State, known bool, err error) {
	if s.factors == nil {
		return before, false, nil
	}
	if before, err = s.factors.Reset(ctx, subject); err != nil {
		return before, false, err
	}
	d, _ := s.directory()
	_, known = d.Lookup(ctx, subject)
	if known = known || before.App || len(before.Passkeys) > 0; known {
		s.cfg.Audit.Write(ctx, audit.Event{Name: audit.FactorReset, By: audit.ByOperator, User: subject})
	}
	return before, known, nil
}

// afterPassword goes on after the right password: to the second factor of a user
// who has one, and else into the session. That a user has one is known to nobody
// before. Where a second factor is required, a passkey is one as well: were another
// one set up in its place, the password alone would be enough for that.
func (s *Server) afterPassword(w http.ResponseWriter, r *http.Request, tx *transaction, user login.Identity) error {
	// Who is not allowed in is turned away first, and sets nothing up.
	if s.factors != nil && s.admits(user) {
		state, err := s.factors.State(r.Context(), user)
		if err != nil {
			return unavailable(err)
		}
		switch {
		case state.App:
			return s.leadToCode(w, tx, user)
		case s.cfg.RequireFactor && len(state.Passkeys) > 0:
			return s.leadToPasskey(w, tx)
		case s.cfg.RequireFactor:
			return s.leadToEnrol(w, tx, user)
		}
		return s.admitByPassword(w, r, tx, user)
	}
	return s.admit(w, r, tx, user)
}

// errFactorSince says that a user has set a second factor up since the password.
var errFactorSince = errors.New("the user has set a second factor up meanwhile")

// admitByPassword is admit for a user who has no second factor. Whoever sets one up
// ends the sessions of before, but sees only those that are there: the others notice
// it here.
func (s *Server) admitByPassword(w http.ResponseWriter, r *http.Request, tx *transaction, user login.Identity) error {
	_, err := s.welcome(w, r, tx, user, func(ctx context.Context) error {
		state, err := s.factors.State(ctx, user)
		if err == nil && state.App {
			return errFactorSince
		}
		return err
	})
	switch {
	case errors.Is(err, errFactorSince):
		return s.leadToCode(w, tx, user)
	case err != nil:
		return err
	}
	return s.afterLogin(w, tx)
}

// admit starts the session of somebody who has proven everything.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, tx *transaction, user login.Identity) error {
	if _, err := s.welcome(w, r, tx, user, nil); err != nil {
		return err
	}
	return s.afterLogin(w, tx)
}

// withPassword is the transaction while something else is due. That the password
// was right is sealed into it under a purpose of its own, which one endpoint takes
// and no other; a session starts only behind that.
func (t *transaction) withPassword(p purpose, user login.Identity) *transaction {
	return t.waiting(p, &pending{User: &login.Identity{Subject: user.Subject, Provider: user.Provider, Stamp: user.Stamp}})
}

// leadToCode sends the browser to the page for the second factor.
func (s *Server) leadToCode(w http.ResponseWriter, tx *transaction, user login.Identity) error {
	return s.continueAt(w, pathCode, tx.withPassword(forCode, user))
}

// askCode asks for the second factor.
func (s *Server) askCode(w http.ResponseWriter, r *http.Request) error {
	tx, err := s.seal.open(r.URL.Query().Get(paramContinue), forCode, s.cookies.browser(r))
	if err != nil {
		return err
	}
	return s.showCode(w, r, tx, pages.Failed{})
}

func (s *Server) showCode(w http.ResponseWriter, r *http.Request, tx *transaction, failed pages.Failed) error {
	back := tx.resumed()
	c, err := s.clientOf(r, back)
	if err != nil {
		return err
	}
	v := pages.Code{Failed: failed, Locales: tx.Locales}
	if c != nil {
		view := s.clientView(c, tx.RedirectURI)
		v.Client, v.Resource = &view, s.resourceView(tx.Resource)
	}
	if v.Back, err = s.onward(back); err != nil {
		return err
	}
	if v.Token, err = s.seal.seal(tx); err != nil {
		return err
	}
	s.rendered(w, s.pages.Code(w, r, failedStatus(w, failed), v))
	return nil
}

// takeCode takes the second factor.
func (s *Server) takeCode(w http.ResponseWriter, r *http.Request) error {
	f, err := s.readForm(w, r, forCode)
	if err != nil {
		return err
	}
	proof, err := f.proof()
	if err != nil {
		return err
	}
	user, ok := s.local(r.Context(), *f.tx.Pending.User)
	if !ok {
		return errSignInChanged
	}
	failed, err := s.judge(r, user, proof, func() error { return s.factors.Check(r.Context(), user, proof) })
	switch {
	case errors.Is(err, factor.ErrNone):
		return errSignInChanged // it was reset since the password
	case err != nil:
		return err
	case failed.Failure != pages.NoFailure:
		s.countCode(failed)
		return s.showCode(w, r, f.tx, failed)
	}
	return s.admit(w, r, f.tx.resumed(), user)
}

// proof is what was typed as the second factor.
func (f *form) proof() (factor.Proof, error) {
	p := factor.Proof{
		Code: truncate(f.get(pages.FieldCode), maxCode), Recovery: truncate(f.get(pages.FieldRecovery), maxCode),
	}
	return p, f.err()
}

// maxCode bounds what is typed as a code, in bytes.
const maxCode = 64

// judge runs a check of a code within the limit of tries. What it returns as
// failed is for the person; the error is ErrNone, ErrEnrolled or a page.
func (s *Server) judge(r *http.Request, user login.Identity, proof factor.Proof, check func() error) (failed pages.Failed, err error) {
	try, wait := s.codes.Begin(r.Context(), user.Subject, s.cfg.ClientIP(r))
	if wait > 0 {
		s.cfg.Metrics.RateLimited("second_factor")
		s.auditProof(r, user, "too many wrong codes")
		return pages.Failed{Failure: pages.TooManyTries, Wait: wait}, nil
	}
	err = check()
	if errors.Is(err, factor.ErrDenied) {
		failed = pages.Failed{Failure: pages.WrongCode, TriesLeft: try.Left()}
		if proof.Recovery != "" {
			failed.Failure = pages.WrongRecovery
		}
		s.auditProof(r, user, string(failed.Failure))
		return failed, nil
	}
	if err == nil {
		try.Succeeded()
	} else {
		try.Back()
	}
	switch {
	case errors.Is(err, factor.ErrLocked):
		s.auditProof(r, user, "the codes of the user are switched off after too many wrong ones")
		return pages.Failed{Failure: pages.CodesLocked}, nil
	case err == nil, errors.Is(err, factor.ErrNone), errors.Is(err, factor.ErrEnrolled):
		return failed, err
	}
	return failed, unavailable(err)
}
