package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
)

// adminClientsPath answers GET with the clients of each issuer, and POST by adding
// one. With the parameter id, GET answers with one client, and DELETE removes it. The
// id is no part of the path, since it can be a URL: the router of the admin endpoint
// would take the slashes in it for its own.
const adminClientsPath = "/mcp_auth/clients"

// maxNewClient bounds the description of a new client, in bytes.
const maxNewClient = 128 << 10

// issuerClients are the clients of an issuer, those used last first.
type issuerClients struct {
	Issuer  string                  `json:"issuer"`
	Clients []authserver.ClientInfo `json:"clients"`
	LeftOut int                     `json:"left_out"` // how many more there are
}

// issuerClient is one client of an issuer. The secret is there once, when it was
// just made.
type issuerClient struct {
	Issuer string `json:"issuer"`
	Secret string `json:"client_secret,omitempty"`
	authserver.ClientInfo
}

// removedClient says what a removal has ended.
type removedClient struct {
	Issuer string `json:"issuer"`
	authserver.Removal
}

func serveClients(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	switch {
	case r.Method == http.MethodPost:
		return serveNewClient(w, r)
	case r.Method == http.MethodDelete:
		return serveRemoveClient(w, r, id)
	case r.Method != http.MethodGet:
		return checkMethod(r, http.MethodGet)
	case id != "":
		return serveClient(w, r, id)
	}
	return answerWithLists(w, r, func(m managed, limit int) (any, error) {
		clients, leftOut, err := m.server.Clients(r.Context(), limit)
		return issuerClients{m.issuer, clients, leftOut}, err
	})
}

func serveClient(w http.ResponseWriter, r *http.Request, id string) error {
	m, err := managedIssuer(r)
	if err != nil {
		return err
	}
	info, err := m.server.Client(r.Context(), id)
	if err != nil {
		return m.clientFault("show a client", id, err)
	}
	return answerJSON(w, http.StatusOK, issuerClient{Issuer: m.issuer, ClientInfo: info})
}

func serveNewClient(w http.ResponseWriter, r *http.Request) error {
	m, err := managedIssuer(r)
	if err != nil {
		return err
	}
	var wanted client.Addition
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNewClient))
	body.DisallowUnknownFields()
	if err := body.Decode(&wanted); err != nil {
		return badAdminRequest(fmt.Errorf("the description of the client cannot be read: %w", err))
	}
	if isTokenSubject(wanted.ID) {
		return badAdminRequest(fmt.Errorf("the id %q could be the subject of requests with a static token; choose another one", wanted.ID))
	}
	info, secret, err := m.server.AddClient(operated(r), wanted)
	if err != nil {
		return m.clientFault("add a client", wanted.ID, err)
	}
	return answerJSON(w, http.StatusCreated, issuerClient{m.issuer, secret, info})
}

func serveRemoveClient(w http.ResponseWriter, r *http.Request, id string) error {
	m, err := managedIssuer(r)
	if err != nil {
		return err
	}
	removal, err := m.server.RemoveClient(operated(r), id)
	switch {
	case errors.Is(err, authserver.ErrConfigured):
		return caddy.APIError{HTTPStatus: http.StatusConflict,
			Err: fmt.Errorf("the client %q is in the configuration. Take the block 'client %s { … }' out of the Caddyfile, and reload", id, id)}
	case err != nil:
		return m.clientFault("remove a client", id, err)
	}
	return answerJSON(w, http.StatusOK, removedClient{m.issuer, removal})
}

// clientFault is the answer for what could not be done with a client.
func (m managed) clientFault(what, id string, err error) error {
	_, resting := errors.AsType[*authserver.RestingError](err)
	_, wrong := errors.AsType[client.AdditionError](err)
	switch {
	case errors.Is(err, client.ErrUnknown):
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is no client %q", id)}
	case wrong:
		return badAdminRequest(err)
	case errors.Is(err, authserver.ErrConfigured):
		return caddy.APIError{HTTPStatus: http.StatusConflict,
			Err: fmt.Errorf("the configuration has a client %q, which would count in place of this one; choose another id", id)}
	case errors.Is(err, client.ErrExists), resting:
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	}
	return m.storeFault(what, err)
}
