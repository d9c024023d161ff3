package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
)

// What the admin endpoints for clients, grants and users have in common. The
// parameter issuer picks one of several issuers; lists are of all of them without
// it. The parameter limit bounds a list.
const (
	defaultListed = 1000
	maxListed     = 5000
)

// managed is an issuer whose clients, grants and users are managed.
type managed struct {
	issuer string
	home   *site
	server *authserver.Server
	app    *App
}

// managed returns the issuers of a running configuration, by name.
func (a *App) managed() map[string]managed {
	out := map[string]managed{}
	for _, h := range a.handlers {
		if s := h.site; s != nil && s.home != nil && s.home.auth != nil {
			out[s.issuerURL()] = managed{s.issuerURL(), s.home, s.home.auth, a}
		}
	}
	return out
}

// managedIssuer returns the issuer that a request is about: the one it names, or
// the only one.
func managedIssuer(r *http.Request) (managed, error) {
	app, issuer, _, err := issuerOf(r)
	if err != nil {
		return managed{}, err
	}
	m, ok := app.managed()[issuer]
	if !ok {
		return managed{}, caddy.APIError{HTTPStatus: http.StatusNotFound,
			Err: fmt.Errorf("no site of the running configuration issues the tokens of %s", issuer)}
	}
	return m, nil
}

// managedIssuers returns the issuers that a list is about.
func managedIssuers(r *http.Request) ([]managed, error) {
	if r.URL.Query().Get("issuer") != "" {
		m, err := managedIssuer(r)
		return []managed{m}, err
	}
	app, err := runningApp()
	if err != nil {
		return nil, err
	}
	issuers := app.managed()
	var out []managed
	for _, issuer := range slices.Sorted(maps.Keys(issuers)) {
		out = append(out, issuers[issuer])
	}
	return out, nil
}

// answerWithLists answers with a list of each issuer that is asked for.
func answerWithLists(w http.ResponseWriter, r *http.Request, list func(m managed, limit int) (any, error)) error {
	limit := defaultListed
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxListed {
			return badAdminRequest(fmt.Errorf("limit is a number from 1 to %d", maxListed))
		}
	}
	issuers, err := managedIssuers(r)
	if err != nil {
		return err
	}
	lists := []any{}
	for _, m := range issuers {
		one, err := list(m, limit)
		if err != nil {
			return m.storeFault("list", err)
		}
		lists = append(lists, one)
	}
	return answerJSON(w, http.StatusOK, lists)
}

func badAdminRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

// storeFault is the answer when the store failed. What is wrong with it may name
// secrets, so it goes to the log only.
func (m managed) storeFault(what string, err error) error {
	m.app.log.Error("could not do what the admin endpoint was asked for: "+what, zap.String("issuer", m.issuer), zap.Error(err))
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable,
		Err: errors.New("the store could not be asked, or not all of it; the log of Caddy says why. Try again")}
}
