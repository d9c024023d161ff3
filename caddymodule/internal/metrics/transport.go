package metrics

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// Transport counts the requests to a login provider, by whether it has answered,
// has refused or could not.
func (m *Metrics) Transport(provider string, next http.RoundTripper) http.RoundTripper {
	if m == nil {
		return next
	}
	t := measuredTransport{
		RoundTripper: next, ok: m.providers.WithLabelValues(provider, "ok"),
		refused: m.providers.WithLabelValues(provider, "refused"), fault: m.providers.WithLabelValues(provider, "error"),
	}
	return t
}

type measuredTransport struct {
	http.RoundTripper
	ok, refused, fault prometheus.Counter
}

// RoundTrip implements http.RoundTripper.
func (t measuredTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	switch {
	case err != nil && errors.Is(r.Context().Err(), context.Canceled):
		// Whoever waited for the answer is gone.
	case err != nil, resp.StatusCode >= http.StatusInternalServerError, resp.StatusCode == http.StatusTooManyRequests:
		t.fault.Inc()
	case resp.StatusCode >= http.StatusBadRequest:
		t.refused.Inc()
	default:
		t.ok.Inc()
	}
	return resp, err
}
