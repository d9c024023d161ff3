package authserver

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// maxState bounds the state parameter in bytes. It is opaque and optional.
const maxState = 8 << 10

// maxLocales bounds the ui_locales parameter in bytes.
const maxLocales = 128

// paramContinue carries a sealed transaction back to /authorize after sign-in.
const paramContinue = "continue"

// authorize is the authorization endpoint (RFC 6749 section 3.1). It validates the
// request and shows the page that comes next: sign-in or consent.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	p, err := queryParams(r)
	if err != nil {
		return err
	}
	if done, err := s.vouchedElsewhere(w, r, p.get(paramContinue)); done {
		return err
	}
	tx, c, err := s.request(r, p)
	if refusal, ok := errors.AsType[*redirectableError](err); ok {
		s.redirectError(w, r, refusal)
		return nil
	}
	if err != nil {
		return err
	}
	current, err := s.session(r)
	if err != nil {
		return err
	}
	if current, err = s.vouched(w, r, tx, current); err != nil {
		return err
	}
	if current != nil && tx.outdated(current.Since) {
		current = nil
	}
	if done, err := s.answerRemembered(w, r, tx, c, current); done || err != nil {
		return err
	}
	if p.get("prompt") == "none" {
		// The request allows no page (OpenID Connect Core section 3.1.2.6).
		code := "consent_required"
		if current == nil {
			code = "login_required"
		}
		s.redirectError(w, r, &redirectableError{tx.RedirectURI, tx.State, &oauth.Error{Code: code, Description: "a page has to be shown"}})
		return nil
	}
	if tx.Browser == nil {
		tx.Browser = s.cookies.ensureBrowser(w, r)
	}
	if current == nil {
		return s.showLogin(w, r, tx, c, pages.Login{})
	}
	return s.showConsent(w, r, tx, c, current)
}

// redirectableError is a refusal that the client is told about. It can only be
// made once the redirect URI is known to be the client's.
type redirectableError struct {
	redirectURI, state string
	refusal            *oauth.Error
}

func (e *redirectableError) Error() string { return e.refusal.Error() }

func (s *Server) redirectError(w http.ResponseWriter, r *http.Request, e *redirectableError) {
	s.cfg.Metrics.Authorization(refusalOutcome(e.refusal))
	by := audit.ByServer
	if e.refusal.Code == oauth.AccessDenied().Code {
		by = audit.ByUser
	}
	s.auditAuthorization(r.Context(), by, reasonOf(e.refusal))
	sendBack(w, e.redirectURI, oauth.AuthorizationResponse{
		Error: e.refusal.Code, ErrorDescription: e.refusal.Description, State: e.state, Issuer: s.cfg.Issuer,
	})
}

// sendBack redirects the browser to the client. It is for requests that no page
// was shown for; after a form handOff does it. Access logs take the headers of an
// answer when its handler is done: by then the answer is on its way, and the
// address has lost the code.
func sendBack(w http.ResponseWriter, redirectURI string, answer oauth.AuthorizationResponse) {
	h := w.Header()
	h.Set("Location", answer.URL(redirectURI))
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusSeeOther)
	if err := http.NewResponseController(w).Flush(); err == nil {
		h.Set("Location", redirectURI)
	}
}

// request returns the authorization request in the query and its client, or the
// request that goes on after sign-in.
func (s *Server) request(r *http.Request, p *params) (*transaction, *client.Client, error) {
	sealed := p.get(paramContinue)
	if sealed == "" {
		tx, c, err := s.newRequest(r, p)
		if err == nil {
			s.cfg.Metrics.Authorization(metrics.AuthorizationStarted)
		}
		return tx, c, err
	}
	tx, err := s.seal.open(sealed, forAuthorize, s.cookies.browser(r))
	if err != nil {
		return nil, nil, err
	}
	c, err := s.requestClient(r, tx.ClientID, tx.RedirectURI)
	return tx, c, err
}

// newRequest validates an authorization request (RFC 6749 section 4.1.1). The
// order matters: nothing is ever sent to a redirect URI before it is known to be
// registered for the client.
func (s *Server) newRequest(r *http.Request, p *params) (*transaction, *client.Client, error) {
	clientID, redirectURI := p.get("client_id"), p.get("redirect_uri")
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	if clientID == "" {
		return nil, nil, oauth.InvalidRequest("client_id is missing")
	}
	c, err := s.lookup(r, clientID)
	if err != nil {
		return nil, nil, err
	}
	if redirectURI == "" {
		// It can be left out when the client has registered a single one
		// (OAuth 2.1 section 4.1.1).
		if len(c.RedirectURIs) != 1 {
			return nil, nil, oauth.InvalidRequest("redirect_uri is missing")
		}
		redirectURI = c.RedirectURIs[0]
	}
	if err := checkRedirect(c, redirectURI); err != nil {
		return nil, nil, err
	}
	tx := newTransaction(forAuthorize, s.cookies.browser(r))
	tx.ClientID, tx.RedirectURI = clientID, redirectURI
	if state := p.get("state"); len(state) <= maxState {
		tx.State = state
	}
	if err := s.readRequest(tx, p, c); err != nil {
		return nil, nil, &redirectableError{redirectURI, tx.State, err}
	}
	return tx, c, nil
}

// lookup finds a client for a page.
func (s *Server) lookup(r *http.Request, clientID string) (*client.Client, error) {
	c, err := s.clients.Discover(r.Context(), clientID, func() bool { return s.mayDiscover(r) })
	if errors.Is(err, client.ErrDocument) {
		return nil, page(pages.UnknownClient, http.StatusBadRequest, unusableDocument)
	}
	if errors.Is(err, client.ErrUnknown) {
		return nil, page(pages.UnknownClient, http.StatusBadRequest, "client_id is not known here; the app has to register again")
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return c, nil
}

// requestClient finds the client and checks that answers may go to the redirect
// URI. Every step of a transaction does it again, since the client may have been
// removed meanwhile.
func (s *Server) requestClient(r *http.Request, clientID, redirectURI string) (*client.Client, error) {
	c, err := s.lookup(r, clientID)
	if err != nil {
		return nil, err
	}
	if err := checkRedirect(c, redirectURI); err != nil {
		return nil, err
	}
	knowClient(r.Context(), clientID, redirectURI)
	return c, nil
}

// checkRedirect refuses a redirect URI that is not the client's.
func checkRedirect(c *client.Client, redirectURI string) error {
	if !c.Redirects(redirectURI) {
		return page(pages.InvalidRedirect, http.StatusBadRequest, "redirect_uri is not registered for this client")
	}
	return nil
}

// readRequest fills in the rest of the request. The redirect URI is settled, so
// its refusals go to the client.
func (s *Server) readRequest(tx *transaction, p *params, c *client.Client) *oauth.Error {
	responseType, responseMode := p.get("response_type"), p.get("response_mode")
	challenge, method := p.get("code_challenge"), p.get("code_challenge_method")
	scope, resource := p.get("scope"), p.get("resource")
	state := p.get("state")
	tx.Locales = truncate(p.get("ui_locales"), maxLocales)
	prompt, maxAge, hint := p.get("prompt"), p.get("max_age"), p.get("login_hint")
	switch {
	case p.err() != nil:
		return oauth.InvalidRequest("the parameter " + p.repeated + " stands in the request more than once")
	case len(state) > maxState:
		return oauth.InvalidRequest("state is longer than 8192 bytes")
	case p.get("request") != "":
		return &oauth.Error{Code: "request_not_supported", Description: "request objects are not offered here"}
	case p.get("request_uri") != "":
		return &oauth.Error{Code: "request_uri_not_supported", Description: "request objects are not offered here"}
	case responseType == "":
		return oauth.InvalidRequest("response_type is missing; use code")
	case responseType != oauth.ResponseTypeCode:
		return oauth.UnsupportedResponseType()
	case responseMode != "" && responseMode != "query":
		return oauth.InvalidRequest("response_mode must be query")
	case !c.Allows(oauth.GrantAuthorizationCode):
		return oauth.UnauthorizedClient("this client is not registered for the authorization code grant")
	}
	if err := tx.readSignIn(prompt, maxAge, hint); err != nil {
		return err
	}
	if err := s.checkChallenge(challenge, method); err != nil {
		return err
	}
	tx.Challenge, tx.ChallengeMethod = challenge, method
	target, err := s.resource(resource)
	if err != nil {
		var refusal *oauth.Error
		errors.As(err, &refusal)
		return refusal
	}
	tx.Resource = target.URL()
	tx.Scopes = s.grantable(scope, target, c)
	if len(tx.Scopes) == 0 {
		return oauth.InvalidScope("this client can have none of the scopes of this server")
	}
	return nil
}

// checkChallenge demands PKCE of every client (OAuth 2.1 section 7.5.1). A method
// that is left out would mean "plain" and is refused with it.
func (s *Server) checkChallenge(challenge, method string) *oauth.Error {
	switch {
	case challenge == "":
		return oauth.InvalidRequest("code_challenge is missing; this server requires PKCE with S256")
	case method == oauth.ChallengePlain && s.cfg.PKCEPlain:
	case method != oauth.ChallengeS256:
		return oauth.InvalidRequest("code_challenge_method must be S256")
	}
	if !oauth.ValidChallenge(method, challenge) {
		return oauth.InvalidRequest("code_challenge is malformed")
	}
	return nil
}

// grantable narrows the requested scopes to those that exist and that the client
// can have. Clients ask for scopes of other servers too, so unknown ones are
// dropped; when nothing is left, or nothing was asked for, it is the baseline.
func (s *Server) grantable(requested string, target *oauth.Resource, c *client.Client) oauth.Scopes {
	if got := c.Narrow(oauth.ParseScope(requested).Narrow(target.Scopes)); len(got) > 0 {
		return got
	}
	return c.Narrow(target.Baseline)
}

// truncate cuts s to at most n bytes.
func truncate(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// showConsent asks the user. The form belongs to this session and this
// transaction and cannot be used with another of either.
func (s *Server) showConsent(w http.ResponseWriter, r *http.Request, tx *transaction, c *client.Client, current *session) error {
	asked := s.asked(tx, c, current.User)
	if len(asked) == 0 {
		s.auditAuthorization(r.Context(), audit.ByServer, noScopeFits)
		return s.turnedAway(tx, current.User)
	}
	tx.Session = current.ID
	sealed, err := s.seal.seal(tx)
	if err != nil {
		return err
	}
	s.rendered(w, s.pages.Consent(w, r, http.StatusOK, pages.Consent{
		Client: s.clientView(c, tx.RedirectURI), Resource: s.resourceView(tx.Resource), User: current.User.Display(),
		Scopes: s.scopeViews(tx, c, current.User, asked), StayConnected: true, UserCode: tx.UserCode.String(), Token: sealed, Locales: tx.Locales,
	}))
	return nil
}

// clientView is the client as pages show it for one of its redirect URIs, or
// without one for a device: there, somebody may vouch for the name, and nobody
// for the program that asks.
func (s *Server) clientView(c *client.Client, redirectURI string) pages.Client {
	v := pages.Client{Name: c.Name, ID: c.ID, Redirect: redirectURI, Device: redirectURI == "", RegisteredAt: c.Issued}
	switch {
	case c.ByOperator():
		v.Level = pages.Configured
	case c.Kind == client.Described && sameHost(c.ID, redirectURI):
		v.Level = pages.Confirmed
	case c.Kind == client.Described && !isWebsite(redirectURI):
		v.Level = pages.ConfirmedLocal
	case !isWebsite(redirectURI):
		v.Level = pages.UnconfirmedApp
	case s.clients.Known(redirectURI):
		v.Level = pages.KnownWebsite
	default:
		v.Level = pages.UnconfirmedWebsite
	}
	return v
}

// isWebsite reports whether a redirect URI leads to a place that a name vouches
// for.
func isWebsite(redirectURI string) bool {
	return strings.HasPrefix(redirectURI, "https:") && !isThisComputer(redirectURI)
}

// sameHost reports whether answers go to a website at the host of the metadata
// document. Another host is not vouched for, whatever the document says.
func sameHost(document, redirectURI string) bool {
	doc, err := url.Parse(document)
	to, toErr := url.Parse(redirectURI)
	if err != nil || toErr != nil || !isWebsite(redirectURI) || doc.Scheme != "https" {
		return false
	}
	return strings.EqualFold(strings.TrimSuffix(doc.Host, ":443"), strings.TrimSuffix(to.Host, ":443"))
}

// isThisComputer reports whether a redirect URI leads to the computer of whoever
// follows it, which https can do as well. No name of a website vouches for it.
func isThisComputer(redirectURI string) bool {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || err == nil && addr.Unmap().IsLoopback()
}

func (s *Server) resourceView(uri string) pages.Resource {
	v := pages.Resource{URL: uri}
	if target, err := s.resource(uri); err == nil {
		v.Name = target.Name
	}
	return v
}

// nobody is the authorization endpoint where nobody can sign in.
func (s *Server) nobody(http.ResponseWriter, *http.Request) error {
	return page(pages.NotFound, http.StatusNotFound, "nobody can sign in here; this server gives tokens to service accounts only")
}
