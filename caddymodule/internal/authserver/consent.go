package authserver

import (
	"html/template"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// form is a POST of one of our pages, by the browser it was shown in.
type form struct {
	*params
	tx *transaction
}

// decision reports whether the person allows what the form asks.
func (f *form) decision() (allow bool, err error) {
	decision := f.get(pages.FieldDecision)
	if err := f.err(); err != nil {
		return false, err
	}
	if decision != pages.DecisionAllow && decision != pages.DecisionDeny {
		return false, oauth.InvalidRequest("the form has no decision")
	}
	return decision == pages.DecisionAllow, nil
}

// readForm accepts a form that a page of ours made for this browser, and for one
// of the purposes.
func (s *Server) readForm(w http.ResponseWriter, r *http.Request, purposes ...purpose) (*form, error) {
	values, err := formParams(w, r)
	if err != nil {
		return nil, err
	}
	tx, err := s.seal.openAny(values.get(pages.FieldToken), s.cookies.browser(r), purposes...)
	if err != nil {
		return nil, err
	}
	return &form{values, tx}, nil
}

// decide takes the user's answer. Everything but the decision and the optional
// scopes comes from the sealed transaction.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) error {
	f, err := s.readForm(w, r, forAuthorize)
	if err != nil {
		return err
	}
	c, err := s.requestClient(r, f.tx.ClientID, f.tx.RedirectURI)
	if err != nil {
		return err
	}
	allow, err := f.decision()
	switch {
	case err != nil:
		return err
	case allow:
		return s.allow(w, r, f, c)
	}
	return s.deny(w, r, f, c)
}

// consentOf is the decision in the words of the grant.
func consentOf(tx *transaction, current *session, scopes oauth.Scopes) grant.Consent {
	return grant.Consent{
		Request: tx.ID, User: current.User, ClientID: tx.ClientID, Resource: tx.Resource, Scopes: scopes,
		RedirectURI: tx.RedirectURI, Challenge: tx.Challenge, ChallengeMethod: tx.ChallengeMethod,
	}
}

// errDeciderChanged refuses a decision: the session ended or changed hands while the
// page was open, so the person who looks at it now is asked anew.
var errDeciderChanged = page(pages.RequestExpired, http.StatusBadRequest, "the sign-in changed while the page was open")

// decider is who was asked by a form of consent.
func (s *Server) decider(r *http.Request, f *form) (*session, error) {
	current, err := s.session(r)
	if err != nil {
		return nil, err
	}
	if current == nil || f.tx.Session == "" || current.ID != f.tx.Session {
		return nil, errDeciderChanged
	}
	return current, nil
}

// decided are the scopes that were asked for, and the optional ones that were
// ticked.
func (s *Server) decided(r *http.Request, f *form, c *client.Client, user login.Identity) (oauth.Scopes, error) {
	scopes := s.asked(f.tx, c, user)
	if len(scopes) == 0 {
		s.auditAuthorization(r.Context(), audit.ByServer, noScopeFits)
		return nil, s.turnedAway(f.tx, user)
	}
	ticked := oauth.Scopes(f.values[pages.FieldScope])
	return append(scopes, s.choices(f.tx, c, user, scopes).Narrow(ticked)...), nil
}

func (s *Server) allow(w http.ResponseWriter, r *http.Request, f *form, c *client.Client) error {
	current, err := s.decider(r, f)
	if err != nil {
		return err
	}
	if changed, err := s.contradicts(r, current.User); err != nil {
		return err
	} else if changed {
		return errDeciderChanged
	}
	scopes, err := s.decided(r, f, c, current.User)
	if err != nil {
		return err
	}
	code, err := s.permit(r, f.tx, c, current, scopes)
	if err != nil {
		return err
	}
	s.auditAllowed(r, f.tx, scopes, code, audit.ByUser)
	s.handOff(w, r, f.tx, c, pages.Handoff{User: current.User.Display()}, oauth.AuthorizationResponse{Code: code})
	return nil
}

// permit records that the user allows the request, and returns the code for it.
func (s *Server) permit(r *http.Request, tx *transaction, c *client.Client, current *session, scopes oauth.Scopes) (string, error) {
	code, err := s.grants.Allow(r.Context(), consentOf(tx, current, scopes))
	if err != nil {
		return "", err
	}
	if err := s.clients.Touch(r.Context(), c); err != nil {
		return "", unavailable(err)
	}
	s.cfg.Metrics.Authorization(metrics.AuthorizationAllowed)
	return code, nil
}

func (s *Server) deny(w http.ResponseWriter, r *http.Request, f *form, c *client.Client) error {
	current, err := s.session(r)
	if err != nil {
		return err
	}
	// Whoever cancels before signing in leaves nothing behind.
	if current != nil && current.ID == f.tx.Session {
		if err := s.grants.Deny(r.Context(), consentOf(f.tx, current, nil)); err != nil {
			return err
		}
	}
	s.cfg.Metrics.Authorization(metrics.AuthorizationDenied)
	denied := oauth.AccessDenied()
	s.auditAuthorization(r.Context(), audit.ByUser, reasonOf(denied))
	s.handOff(w, r, f.tx, c, pages.Handoff{Denied: true},
		oauth.AuthorizationResponse{Error: denied.Code, ErrorDescription: denied.Description})
	return nil
}

// handOff sends the browser back to the client with a page instead of a
// redirect: browsers apply form-action to the redirects that follow a form, and
// a 307 on the way would turn the callback into a POST.
func (s *Server) handOff(w http.ResponseWriter, r *http.Request, tx *transaction, c *client.Client, v pages.Handoff, answer oauth.AuthorizationResponse) {
	answer.State, answer.Issuer = tx.State, s.cfg.Issuer
	v.Client, v.Resource, v.Locales = s.clientView(c, tx.RedirectURI), s.resourceView(tx.Resource), tx.Locales
	v.URL = template.URL(answer.URL(tx.RedirectURI)) // #nosec G203 -- requestClient has checked it, and the page checks again
	s.rendered(w, s.pages.Handoff(w, r, http.StatusOK, v))
}
