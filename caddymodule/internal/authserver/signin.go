package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Redirect is a login whose users sign in at another place.
type Redirect struct {
	ID    string // stands in the addresses of the sign-in
	Label string // what the button says
	Login login.Redirect
}

// requestLabel is what pages call the login of a proxy in front.
const requestLabel = "SSO"

// Values of the prompt parameter that we and providers know (OpenID Connect Core
// section 3.1.2.1).
const (
	promptLogin  = "login"
	promptSelect = "select_account"

	// promptConsent asks the person even when the answer is known.
	promptConsent = "consent"
)

// maxHint bounds the login_hint parameter in bytes.
const maxHint = 256

// readSignIn reads the parameters of a request that are about the sign-in (OpenID
// Connect Core section 3.1.2.1).
func (t *transaction) readSignIn(prompt, maxAge, hint string) *oauth.Error {
	for word := range strings.FieldsSeq(prompt) {
		t.Ask = t.Ask || word == promptConsent
		if word == promptLogin || word == promptSelect && t.Prompt == "" {
			t.Prompt = word
		}
	}
	if maxAge != "" {
		seconds, err := strconv.ParseUint(maxAge, 10, 31)
		if err != nil {
			return oauth.InvalidRequest("max_age is no number of seconds")
		}
		age := time.Duration(seconds) * time.Second
		t.MaxAge = &age
	}
	if len(hint) <= maxHint && strings.ToValidUTF8(hint, "") == hint && !strings.ContainsFunc(hint, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Hint = hint
	}
	return nil
}

// outdated reports whether a sign-in of that time does not do for the request.
func (t *transaction) outdated(since time.Time) bool {
	if time.Until(since) > clockError {
		return t.Prompt != "" || t.MaxAge != nil
	}
	return t.Prompt != "" && since.Before(t.Started) || t.MaxAge != nil && t.Started.Sub(since) > *t.MaxAge
}

// methods are the logins whose users are known elsewhere.
func (s *Server) methods() []login.Method {
	var out []login.Method
	for _, r := range s.cfg.Redirects {
		out = append(out, r.Login)
	}
	if s.cfg.Request != nil {
		out = append(out, s.cfg.Request)
	}
	return out
}

// known returns the identity of a user as it is now, whoever is allowed in. Of
// users who are elsewhere nothing newer is known than when they signed in.
func (s *Server) known(ctx context.Context, id login.Identity) (login.Identity, bool) {
	for _, m := range s.external {
		if m.Recognizes(id) {
			return id, true
		}
	}
	return s.local(ctx, id)
}

// local returns a user of the directory as it is now, or false for one who is
// gone, whose password has changed or who signs in elsewhere.
func (s *Server) local(ctx context.Context, id login.Identity) (login.Identity, bool) {
	d, ok := s.directory()
	if !ok {
		return login.Identity{}, false
	}
	now, ok := d.Lookup(ctx, id.Subject)
	return now, ok && now.Provider == id.Provider && now.Stamp == id.Stamp
}

// welcome signs somebody in who has just proven who they are. The session that the
// browser had ends: whoever signs out afterwards shall leave none behind. confirm is
// asked, if there is one, once the new session is there and before anybody has it.
func (s *Server) welcome(w http.ResponseWriter, r *http.Request, tx *transaction, user login.Identity, confirm func(context.Context) error) (*session, error) {
	if !s.admits(user) {
		s.cfg.Metrics.Login(user.Provider, metrics.LoginNotAllowed)
		s.auditLogin(r.Context(), user.Subject, user.Provider, "no line 'allow' fits the user")
		return nil, s.turnedAway(tx, user)
	}
	user.Groups = s.keepGroups(user.Groups)
	if err := s.keepDelegated(r.Context(), user); err != nil {
		return nil, unavailable(err)
	}
	if err := s.dropSession(r); err != nil {
		return nil, err
	}
	cookie, err := s.sessions.start(r.Context(), user, confirm)
	if errors.Is(err, errFactorSince) {
		return nil, err
	}
	if err != nil {
		return nil, unavailable(err)
	}
	s.cookies.set(w, s.cookies.sessionName(), cookie, s.cfg.SessionLifetime)
	s.cfg.Metrics.Login(user.Provider, metrics.LoginOK)
	knowUser(r.Context(), user)
	s.cfg.Audit.Write(r.Context(), audit.Event{Name: audit.Login})
	id, _ := s.sessions.id(cookie)
	return &session{ID: id, User: user, Since: time.Now()}, nil
}

// turnedAway is the page for users who are not allowed in, from where they can
// try another account.
func (s *Server) turnedAway(tx *transaction, user login.Identity) error {
	e := page(pages.NotAllowed, http.StatusForbidden, "no line 'allow' of the configuration fits the account")
	e.user, e.told = user.Display(), true
	again := *tx
	again.Session, again.Browser = "", tx.Browser
	if again.Browser == nil {
		return e
	}
	var err error
	if e.switchToken, err = s.seal.seal(&again); err != nil {
		return err
	}
	return e
}

// vouched is who the request is from by the word of what is in front of the
// server. That counts more than a session, which only lasts as long as the word
// says the same: it ends with another one, also when nobody comes in its place.
func (s *Server) vouched(w http.ResponseWriter, r *http.Request, tx *transaction, current *session) (*session, error) {
	if s.cfg.Request == nil {
		return current, nil
	}
	user, err := s.cfg.Request.Identify(r)
	switch {
	case errors.Is(err, login.ErrDenied):
		tx.unvouched = true
		if current != nil && s.cfg.Request.Recognizes(current.User) {
			return nil, s.dropSession(r)
		}
		return current, nil
	case err != nil:
		return nil, unavailable(err)
	case current != nil && s.saysTheSame(user, current.User) && !tx.outdated(current.Since):
		return current, nil
	case current != nil && s.cfg.Request.Recognizes(current.User):
		if err := s.dropSession(r); err != nil {
			return nil, err
		}
	}
	return s.welcome(w, r, tx, user, nil)
}

// saysTheSame reports whether somebody is who is remembered, with the same groups and
// all else that decides what they may.
func (s *Server) saysTheSame(user, remembered login.Identity) bool {
	return user.Subject == remembered.Subject && user.Provider == remembered.Provider &&
		user.Email == remembered.Email && user.Name == remembered.Name && slices.Equal(s.keepGroups(user.Groups), remembered.Groups)
}

// contradicts reports whether what is in front of the server does not say any more
// that a form of the authorization endpoint is from the user who was asked.
func (s *Server) contradicts(r *http.Request, asked login.Identity) (bool, error) {
	if s.cfg.Request == nil {
		return false, nil
	}
	user, err := s.cfg.Request.Identify(r)
	switch {
	case errors.Is(err, login.ErrDenied):
		return s.cfg.Request.Recognizes(asked), nil
	case err != nil:
		return false, unavailable(err)
	}
	return !s.saysTheSame(user, asked), nil
}

// vouchedElsewhere signs in whom a proxy vouches for on the way to the account page
// or to the consent for a device: the word of the proxy counts at the
// authorization endpoint only, which leads back from there.
func (s *Server) vouchedElsewhere(w http.ResponseWriter, r *http.Request, sealed string) (done bool, err error) {
	if s.cfg.Request == nil || sealed == "" {
		return false, nil
	}
	tx, err := s.seal.openAny(sealed, s.cookies.browser(r), forAccount, forDevice)
	if err != nil {
		return false, nil //nolint:nilerr // it may be an authorization request
	}
	c, err := s.clientOf(r, tx)
	if err != nil {
		return true, err
	}
	current, err := s.session(r)
	if err == nil {
		current, err = s.vouched(w, r, tx, current)
	}
	switch {
	case err != nil:
		return true, err
	case current == nil:
		return true, s.showLogin(w, r, tx, c, pages.Login{})
	}
	return true, s.afterLogin(w, tx)
}

// nobodyVouches is the page when the proxy is the only way in and says nothing.
func nobodyVouches() error {
	e := page(pages.LoginFailed, http.StatusForbidden, "no header from a trusted proxy says who you are")
	e.provider = requestLabel
	return e
}

// buttons are the links of the sign-in page.
func (s *Server) buttons(tx *transaction, sealed string) []pages.Provider {
	var out []pages.Provider
	for _, r := range s.cfg.Redirects {
		out = append(out, pages.Provider{
			Label: r.Label, Href: pathLeave + "?" + url.Values{paramLogin: {r.ID}, paramContinue: {sealed}}.Encode(),
		})
	}
	if s.cfg.Request != nil && !tx.unvouched {
		out = append(out, pages.Provider{
			Label: requestLabel, Href: pathAuthorize + "?" + url.Values{paramContinue: {sealed}}.Encode(),
		})
	}
	return out
}
