package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// adminKeysPath answers GET with the signing keys of each issuer, and
// adminRotatePath answers POST with them after a rotation. The parameter issuer
// picks one of several; immediately=true is for stolen keys.
const (
	adminKeysPath   = "/mcp_auth/keys"
	adminRotatePath = "/mcp_auth/keys/rotate"
)

// issuerKeys are the signing keys of an issuer, the newest first.
type issuerKeys struct {
	Issuer string          `json:"issuer"`
	Keys   []token.KeyInfo `json:"keys"`
}

// issuers returns the issuers of a running configuration, by name.
func (a *App) issuers() map[string]*issuerState {
	out := map[string]*issuerState{}
	for _, h := range a.handlers {
		if s := h.site; s != nil && s.issuer != nil {
			out[s.issuerURL()] = s.issuer
		}
	}
	return out
}

func serveKeys(w http.ResponseWriter, r *http.Request) error {
	return answerWithKeys(w, r, http.MethodGet, func(_ *App, _ string, k *token.Keys) ([]token.KeyInfo, error) { return k.List(), nil })
}

func serveRotate(w http.ResponseWriter, r *http.Request) error {
	return answerWithKeys(w, r, http.MethodPost, func(app *App, issuer string, k *token.Keys) ([]token.KeyInfo, error) {
		e := audit.Event{Name: audit.KeysRotate, By: audit.ByOperator}
		immediately := r.URL.Query().Get("immediately") == "true"
		if immediately {
			e.Reason = "immediately"
		}
		keys, err := k.Rotate(r.Context(), immediately)
		if err == nil {
			app.auditOf(issuer).Write(operated(r), e)
		}
		return keys, err
	})
}

// answerWithKeys does something with the keys of each issuer that is asked for.
func answerWithKeys(w http.ResponseWriter, r *http.Request, method string, do func(*App, string, *token.Keys) ([]token.KeyInfo, error)) error {
	if err := checkMethod(r, method); err != nil {
		return err
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	wanted := r.URL.Query().Get("issuer")
	out := []issuerKeys{}
	for issuer, is := range app.issuers() {
		if wanted != "" && wanted != issuer {
			continue
		}
		keys, err := do(app, issuer, is.Keys)
		if err != nil {
			app.log.Error("signing keys: " + err.Error())
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable,
				Err: errors.New("the keys could not be changed; the log of Caddy says why")}
		}
		out = append(out, issuerKeys{issuer, keys})
	}
	if len(out) == 0 {
		return caddy.APIError{HTTPStatus: http.StatusNotFound,
			Err: fmt.Errorf("the running configuration has no issuer %q; leave it out for all issuers", wanted)}
	}
	slices.SortFunc(out, func(a, b issuerKeys) int { return strings.Compare(a.Issuer, b.Issuer) })
	return answerJSON(w, http.StatusOK, out)
}

// checkMethod returns the error for a request with another method.
func checkMethod(r *http.Request, method string) error {
	if r.Method != method {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed", r.Method)}
	}
	return nil
}

// answerJSON answers a request to the admin endpoint.
func answerJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}
