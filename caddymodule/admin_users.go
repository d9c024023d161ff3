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

// servers returns the authorization servers of a running configuration, by issuer.
func (a *App) servers() map[string]*authserver.Server {
	out := map[string]*authserver.Server{}
	for _, h := range a.handlers {
		if s := h.site; s != nil && s.home != nil && s.home.auth != nil {
			out[s.issuerURL()] = s.home.auth
		}
	}
	return out
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
	servers := app.servers()
	out := []resetUser{}
	for _, issuer := range slices.Sorted(maps.Keys(servers)) {
		if wanted != "" && wanted != issuer {
			continue
		}
		before, known, err := servers[issuer].ResetFactors(r.Context(), user)
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
