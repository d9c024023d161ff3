package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
)

// adminStorePath answers GET with an export of a store of the running
// configuration; the query says which one when there are several.
const adminStorePath = "/mcp_auth/store"

func serveStoreExport(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	st, done, err := app.stores.borrow(r.URL.Query().Get("store"))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	defer done()
	// Said before, since who breaks it off has read something all the same. A store
	// may be that of several issuers.
	app.auditOf("").Write(operated(r), audit.Event{Name: audit.StoreExport, By: audit.ByOperator})
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := transfer.Export(r.Context(), st.store, w); err != nil {
		// Part of it may be on its way, so the end of the connection is all
		// that can tell the other side.
		app.log.Error("an export of the store broke off", zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	return nil
}

// borrow returns an open store of the configuration, by its identity or the only
// one, and what gives it back. It stays open that long, also over reloads.
func (h *holding) borrow(identity string) (*state, func(), error) {
	h.mu.Lock()
	open := slices.Compact(slices.Sorted(slices.Values(h.keys)))
	h.mu.Unlock()
	identity, err := choose(open, identity)
	if err != nil {
		return nil, nil, err
	}
	v, _, err := states.LoadOrNew(identity, func() (caddy.Destructor, error) { return nil, errReleased })
	if err != nil {
		return nil, nil, err
	}
	return v.(*state), func() { _, _ = states.Delete(identity) }, nil
}

// choose returns the one of the stores that an identity names; an empty one names
// the only store.
func choose(stores []string, identity string) (string, error) {
	list := "\n  " + strings.Join(stores, "\n  ")
	switch {
	case len(stores) == 0:
		return "", errors.New("the configuration has no mcp_auth directive, and so no store")
	case identity == "" && len(stores) == 1:
		return stores[0], nil
	case identity == "":
		return "", errors.New("there are several stores; name one of them with --store:" + list)
	case !slices.Contains(stores, identity):
		return "", fmt.Errorf("there is no store %q; name one of these with --store:%s", identity, list)
	}
	return identity, nil
}

// copyExport copies an export and makes sure that all of it has come.
func copyExport(to io.Writer, from io.Reader) (transfer.Summary, error) {
	sum, err := transfer.Inspect(io.TeeReader(from, to))
	if err != nil {
		err = fmt.Errorf("reading the export of the running Caddy, whose log may tell more: %w", err)
	}
	return sum, err
}
