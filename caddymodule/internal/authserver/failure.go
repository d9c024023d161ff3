package authserver

import (
	"cmp"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// pageError is a refusal that is shown to the person and can never become a
// redirect: it has no place to go to. Everything that goes wrong before the
// redirect URI is known to be the client's has this type.
type pageError struct {
	problem pages.Problem
	status  int
	detail  string // for whoever writes the app; nothing secret
	cause   error  // for the log

	user, provider string // whom the page is about
	switchToken    string // lets the person sign in as somebody else
	told           bool   // the audit log has an event about it
}

func (e *pageError) Error() string {
	if e.cause != nil {
		return string(e.problem) + ": " + e.cause.Error()
	}
	return string(e.problem) + ": " + e.detail
}

func (e *pageError) Unwrap() error { return e.cause }

func page(p pages.Problem, status int, detail string) *pageError {
	return &pageError{problem: p, status: status, detail: detail}
}

// unavailable is the answer when the store failed.
func unavailable(cause error) *pageError {
	return &pageError{problem: pages.Unavailable, status: http.StatusServiceUnavailable, cause: cause}
}

// asPageError turns what went wrong in a page's handler into what is shown.
func asPageError(err error) *pageError {
	var shown *pageError
	var refusal *oauth.Error
	switch {
	case errors.As(err, &shown):
		return shown
	case errors.As(err, &refusal):
		return page(pages.InvalidRequest, cmp.Or(refusal.Status, http.StatusBadRequest), refusal.Description)
	case errors.Is(err, errOtherBrowser):
		return page(pages.OtherBrowser, http.StatusBadRequest, "the form was opened in another browser, or cookies are off")
	case errors.Is(err, errSealExpired), errors.Is(err, grant.ErrDecided):
		return page(pages.RequestExpired, http.StatusBadRequest, "the request is too old or has been answered")
	case errors.Is(err, errSealBroken):
		return page(pages.FormExpired, http.StatusBadRequest, "the form was not made by this server")
	}
	return unavailable(err)
}

// fail shows an error page, or its JSON form to programs that ask for one.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asPageError(err)
	reference := rand.Text()[:10]
	switch {
	case e.status >= http.StatusInternalServerError:
		s.cfg.Log.Error("could not serve a page", zap.String("reference", reference), zap.String("problem", string(e.problem)),
			zap.String("path", r.URL.Path), zap.Error(err))
		w.Header().Set("Retry-After", strconv.Itoa(2))
	case !e.told:
		s.cfg.Audit.Write(r.Context(), audit.Event{
			Name: audit.PageRefuse, Outcome: audit.Refused, Path: r.URL.Path, Reference: reference,
			Reason: string(e.problem) + ": " + e.detail,
		})
	}
	if wantsJSON(r) {
		respond.Error(w, &oauth.Error{Code: string(e.problem), Description: e.detail, Status: e.status})
		return
	}
	s.rendered(w, s.pages.Error(w, r, e.status, pages.Error{
		Problem: e.problem, Detail: e.detail, Reference: reference, User: e.user, Provider: e.provider, SwitchToken: e.switchToken,
	}))
}

// rendered takes care of a page that could not be rendered; then nothing has
// been written.
func (s *Server) rendered(w http.ResponseWriter, err error) {
	if err == nil {
		return
	}
	s.cfg.Log.Error("could not render a page", zap.Error(err))
	http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
}
