package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
)

// adminTokensPath answers GET with the bearer tokens that were made by command,
// and POST by making one; DELETE at adminNamedTokenPath revokes one. The parameter
// issuer picks one of several issuers.
const (
	adminTokensPath     = "/mcp_auth/tokens"
	adminNamedTokenPath = adminTokensPath + "/{name}"
)

// maxNewToken bounds the description of a new token, in bytes.
const maxNewToken = 64 << 10

// newToken is what POST takes.
type newToken struct {
	Name             string    `json:"name"`
	Scopes           []string  `json:"scopes,omitempty"`
	Resource         string    `json:"resource,omitempty"`
	RegistrationOnly bool      `json:"registration_only,omitempty"`
	Expires          time.Time `json:"expires,omitzero"` // none: never
}

// createdToken is what POST answers.
type createdToken struct {
	Issuer string `json:"issuer"`
	Token  string `json:"token"`
	apitoken.Info
}

// issuerTokens are the tokens of an issuer, by name.
type issuerTokens struct {
	Issuer string          `json:"issuer"`
	Tokens []apitoken.Info `json:"tokens"`
}

func serveTokens(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return serveNewToken(w, r)
	}
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	issuers := app.issuers()
	if wanted := r.URL.Query().Get("issuer"); wanted != "" {
		issuer, is, err := app.issuer(wanted)
		if err != nil {
			return err
		}
		issuers = map[string]*issuerState{issuer: is}
	}
	out := []issuerTokens{}
	for _, issuer := range slices.Sorted(maps.Keys(issuers)) {
		out = append(out, issuerTokens{issuer, issuers[issuer].tokens.List()})
	}
	return answerJSON(w, http.StatusOK, out)
}

func serveNewToken(w http.ResponseWriter, r *http.Request) error {
	app, issuer, is, err := issuerOf(r)
	if err != nil {
		return err
	}
	var wanted newToken
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNewToken))
	body.DisallowUnknownFields()
	if err := body.Decode(&wanted); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("the description of the token cannot be read: %w", err)}
	}
	spec, err := app.tokenSpec(issuer, wanted)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	secret, info, err := is.tokens.Create(r.Context(), spec)
	switch {
	case errors.Is(err, apitoken.ErrExists), errors.Is(err, apitoken.ErrTooMany):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		app.log.Error("making a bearer token", zap.String("issuer", issuer), zap.String("name", spec.Name), zap.Error(err))
		return errTokenStore
	}
	app.auditOf(issuer).Write(operated(r), audit.Event{
		Name: audit.APITokenCreate, By: audit.ByOperator, Named: info.Name, Scopes: info.Scopes, Resource: info.Resource, Token: secret,
	})
	return answerJSON(w, http.StatusCreated, createdToken{issuer, secret, info})
}

// errTokenStore does not say what is wrong with the store, which may name secrets.
var errTokenStore = caddy.APIError{HTTPStatus: http.StatusServiceUnavailable,
	Err: errors.New("the store could not be asked, and nobody knows whether it has done its work; the log of Caddy says why. " +
		"Look at 'caddy mcp-auth token list', and try again")}

func serveNamedToken(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodDelete); err != nil {
		return err
	}
	app, issuer, is, err := issuerOf(r)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	err = is.tokens.Revoke(r.Context(), name)
	switch {
	case errors.Is(err, apitoken.ErrUnknown):
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	case err != nil:
		app.log.Error("revoking a bearer token", zap.String("issuer", issuer), zap.String("name", name), zap.Error(err))
		return errTokenStore
	}
	app.auditOf(issuer).Write(operated(r), audit.Event{Name: audit.APITokenRevoke, By: audit.ByOperator, Named: name})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// issuerOf returns the issuer that a request of the admin endpoint is about: the one
// that the parameter names, or the only one.
func issuerOf(r *http.Request) (app *App, issuer string, is *issuerState, err error) {
	if app, err = runningApp(); err != nil {
		return nil, "", nil, err
	}
	issuer, is, err = app.issuer(r.URL.Query().Get("issuer"))
	return app, issuer, is, err
}

// issuer returns one of the issuers: the one of that name, or the only one.
func (a *App) issuer(name string) (string, *issuerState, error) {
	issuers := a.issuers()
	names := slices.Sorted(maps.Keys(issuers))
	switch {
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "" && len(names) > 1:
		return "", nil, caddy.APIError{HTTPStatus: http.StatusBadRequest,
			Err: errors.New("there are several issuers; name one of them with --issuer: " + strings.Join(names, ", "))}
	}
	is, ok := issuers[name]
	if !ok {
		return "", nil, caddy.APIError{HTTPStatus: http.StatusNotFound,
			Err: fmt.Errorf("the running configuration has no issuer %q", name)}
	}
	return name, is, nil
}
