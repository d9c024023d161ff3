package caddymodule

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
)

// processMetrics holds the metrics of the process. Caddy makes a registry for each
// configuration, and starts its own counters anew with it. Ours go on, like the
// stores, and every configuration registers the same ones: so a request or event
// stream of the configuration before is still counted, and so it does not matter
// that after a rejected reload the admin endpoint shows the registry of the
// configuration that was rejected.
var processMetrics = caddy.NewUsagePool()

const metricsKey = "metrics"

func takeMetrics() *metrics.Metrics {
	m, _ := processMetrics.LoadOrStore(metricsKey, metrics.New())
	return m.(*metrics.Metrics)
}

func releaseMetrics() {
	// There is nothing to destruct that could fail.
	_, _ = processMetrics.Delete(metricsKey)
}

// provisionMetrics shows the metrics of the process in the registry of the
// configuration.
func (a *App) provisionMetrics(ctx caddy.Context) error {
	a.metrics = takeMetrics()
	if err := ctx.GetMetricsRegistry().Register(a.metrics); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// snapshot is what gauges show of the state.
func (st *state) snapshot() metrics.Snapshot {
	out := metrics.Snapshot{KeyCreated: map[string]time.Time{}, Records: st.census.Latest()}
	for _, is := range st.known() {
		streamable, sse := is.streams.Len()
		out.StreamableHTTP += streamable
		out.SSE += sse
		for _, key := range is.Keys.List() {
			out.KeyCreated[key.ID] = key.Created
		}
	}
	return out
}

// prefixes are those of the keys of the issuers.
func (st *state) prefixes() []string {
	var out []string
	for _, is := range st.known() {
		out = append(out, is.Prefix)
	}
	return out
}
