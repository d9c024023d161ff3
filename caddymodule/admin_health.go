package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Probes for whoever runs Caddy: a process that is not live should be started
// anew, one that is not ready should get no requests for a while. They are on the
// admin endpoint, since /health of a site says nothing but that it serves.
const (
	adminLivePath  = "/mcp_auth/health/live"
	adminReadyPath = "/mcp_auth/health/ready"
)

// readyTimeout bounds how long a store may take to answer a probe.
const readyTimeout = time.Second

// health is the answer to a probe. Why a node is not ready is in Caddy's log.
type health struct {
	Status string `json:"status"`
}

func serveLive(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, health{"live"})
}

func serveReady(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	for issuer, is := range app.issuers() {
		// Which record is asked for does not matter.
		if _, err := is.Store.Get(ctx, is.Prefix+"ready"); err != nil && !errors.Is(err, store.ErrNotFound) {
			app.log.Warn("not ready: the store does not answer", zap.String("issuer", issuer), zap.Error(err))
			return answerJSON(w, http.StatusServiceUnavailable, health{"the store does not answer"})
		}
	}
	return answerJSON(w, http.StatusOK, health{"ready"})
}
