package authserver

import (
	"net/http"
	"slices"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// A guard says who calls an endpoint, and with that what browsers may do with it.
// docs/security.md has the same table in words.
type guard int

const (
	// forPeople is for pages. No other origin reads them, frames them or posts to
	// them; no address of theirs is told to the next site; nothing is stored.
	forPeople guard = iota

	// forPrograms is for clients, some of which run in pages of any origin. They
	// may call and read everything, and never with cookies.
	forPrograms

	// forServers is for resource servers, and forMonitors for health checks: no
	// browser has business there.
	forServers
	forMonitors
)

// guarded is an endpoint behind its guard.
func (s *Server) guarded(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r = s.audited(r)
		offered := slices.Contains(e.methods, r.Method)
		foreign := e.guard == forPeople && r.Method == http.MethodPost && !ownForm(r)
		if !offered || foreign || r.Method != http.MethodPost && r.Method != http.MethodPut {
			respond.CloseUnread(w, r)
		}
		switch e.guard {
		case forPeople:
			pages.Protect(w.Header())
		case forPrograms:
			if r.Method == http.MethodOptions {
				respond.Preflight(w, r, "*", e.methods...)
				return
			}
			respond.CORS(w, "*")
		case forServers, forMonitors:
		}
		switch {
		case !offered:
			respond.MethodNotAllowed(w, e.offered()...)
		case foreign:
			s.fail(w, r, page(pages.FormExpired, http.StatusForbidden, "the form came from another site"))
		default:
			e.serve(w, r)
		}
	}
}

// ownForm reports whether a POST comes from a page of this origin. Browsers say
// so in Sec-Fetch-Site; for those too old to do so the sealed value of the form
// and the browser's cookie have to do. Origin says nothing here, because the
// referrer policy of the pages makes it null.
func ownForm(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return false
}
