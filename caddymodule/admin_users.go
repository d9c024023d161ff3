package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
)

// adminUsersPath answers GET with the users of each issuer. POST at
// adminSignOutPath ends the sessions of the one that the parameter user names and,
// with revoke=true, what that user has allowed. A name can have any characters, so
// it is no part of the path.
const (
	adminUsersPath   = "/mcp_auth/users"
	adminSignOutPath = adminUsersPath + "/sign-out"
)

// issuerUsers are the users of an issuer: those of its configuration, and all who
// have grants or sessions. Those seen last come first.
type issuerUsers struct {
	Issuer  string                `json:"issuer"`
	Users   []authserver.UserInfo `json:"users"`
	LeftOut int                   `json:"left_out"` // how many more there are
}

// signedOut says what has ended.
type signedOut struct {
	Issuer   string `json:"issuer"`
	User     string `json:"user"`
	Sessions int    `json:"sessions"`
	Grants   int    `json:"grants"`
}

func serveUsers(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	return answerWithLists(w, r, func(m managed, limit int) (any, error) {
		var local []string
		for _, u := range m.home.options.Users {
			local = append(local, u.Name)
		}
		users, leftOut, err := m.server.Users(r.Context(), local, limit)
		return issuerUsers{m.issuer, users, leftOut}, err
	})
}

func serveSignOut(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodPost); err != nil {
		return err
	}
	query := r.URL.Query()
	user := query.Get("user")
	if user == "" {
		return badAdminRequest(errors.New("the parameter user is missing"))
	}
	m, err := managedIssuer(r)
	if err != nil {
		return err
	}
	out := signedOut{Issuer: m.issuer, User: user}
	out.Sessions, out.Grants, err = m.server.SignOut(operated(r), user, query.Get("revoke") == "true")
	if err != nil {
		return m.storeFault("sign a user out", err)
	}
	return answerJSON(w, http.StatusOK, out)
}

// adminResetPath answers POST by taking away what a local user has set up beside
// the password. The parameter user is the name; issuer picks one of several
// issuers.
const adminResetPath = "/mcp_auth/users/reset-factors"

// resetUser is what a user of an issuer had.
type resetUser struct {
	Issuer        string `json:"issuer"`
	User          string `json:"user"`
	App           bool   `json:"app"`
	RecoveryCodes int    `json:"recovery_codes"`
	Passkeys      int    `json:"passkeys"`
}

func serveResetFactors(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodPost); err != nil {
		return err
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	user, wanted := r.URL.Query().Get("user"), r.URL.Query().Get("issuer")
	issuers := app.managed()
	out := []resetUser{}
	for _, issuer := range slices.Sorted(maps.Keys(issuers)) {
		if wanted != "" && wanted != issuer {
			continue
		}
		before, known, err := issuers[issuer].server.ResetFactors(operated(r), user)
		if err != nil {
			app.log.Error("resetting the factors of a user", zap.String("issuer", issuer), zap.String("user", user), zap.Error(err))
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable,
				Err: errors.New("the store could not be asked, and nobody knows whether it has done its work; the log of Caddy says why. Try again")}
		}
		if known {
			out = append(out, resetUser{issuer, user, before.App, before.RecoveryCodes, len(before.Passkeys)})
		}
	}
	if len(out) == 0 {
		return caddy.APIError{HTTPStatus: http.StatusNotFound,
			Err: fmt.Errorf("there is no local user %q. Users of providers and headers have their factors there", user)}
	}
	return answerJSON(w, http.StatusOK, out)
}
