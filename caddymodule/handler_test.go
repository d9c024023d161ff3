package caddymodule

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// serveDirect sends a request to a handler without a web server.
func serveDirect(t testing.TB, h *Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil), w)
	err := h.ServeHTTP(w, r, nothing)
	if fault, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		w.Code = fault.StatusCode
	} else if err != nil {
		t.Fatal(err)
	}
	return w
}

// nothing is what comes after the handler.
var nothing = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// prepared gives a request what the web server gives to it.
func prepared(r *http.Request, w http.ResponseWriter) *http.Request {
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
}
