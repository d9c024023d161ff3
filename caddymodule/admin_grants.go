package caddymodule

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// adminGrantsPath answers GET with the grants of each issuer; the parameters user
// and client pick some of them. DELETE at adminGrantPath revokes one.
const (
	adminGrantsPath = "/mcp_auth/grants"
	adminGrantPath  = adminGrantsPath + "/{id}"
)

// issuerGrants are the grants of an issuer, those used last first.
type issuerGrants struct {
	Issuer  string                 `json:"issuer"`
	Grants  []authserver.GrantInfo `json:"grants"`
	LeftOut int                    `json:"left_out"` // how many more there are
}

// revokedGrant is a grant that was ended.
type revokedGrant struct {
	Issuer string `json:"issuer"`
	authserver.GrantInfo

	// Ended is how many grants have ended. Some may have been of the same app and
	// user, whose consent would be remembered otherwise.
	Ended int `json:"ended"`
}

func serveGrants(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	query := r.URL.Query()
	filter := authserver.GrantFilter{User: query.Get("user"), ClientID: query.Get("client")}
	return answerWithLists(w, r, func(m managed, limit int) (any, error) {
		grants, leftOut, err := m.server.Grants(r.Context(), filter, limit)
		return issuerGrants{m.issuer, grants, leftOut}, err
	})
}

func serveGrant(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodDelete); err != nil {
		return err
	}
	m, err := managedIssuer(r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	info, ended, err := m.server.RevokeGrant(operated(r), id)
	if errors.Is(err, store.ErrNotFound) {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is no active grant %q", id)}
	}
	if err != nil {
		return m.storeFault("revoke a grant", err)
	}
	return answerJSON(w, http.StatusOK, revokedGrant{m.issuer, info, ended})
}
