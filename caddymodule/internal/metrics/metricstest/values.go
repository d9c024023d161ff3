package metricstest

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
)

// Values are metrics by their names and labels, such as
// `logins_total provider=local result=ok`, without what all names begin with. Of
// histograms there is the number of observations.
type Values map[string]float64

// Read scrapes metrics, and fails the test when they contradict each other.
func Read(t testing.TB, m *metrics.Metrics) Values {
	t.Helper()
	registry := prometheus.NewPedanticRegistry() // as Caddy's
	if err := registry.Register(m); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := Values{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			words := []string{strings.TrimPrefix(family.GetName(), "caddy_mcp_auth_")}
			for _, label := range metric.GetLabel() {
				words = append(words, label.GetName()+"="+label.GetValue())
			}
			out[strings.Join(words, " ")] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return out
}

// Since returns by how much values have changed, without those that have not.
func (v Values) Since(before Values) Values {
	out := Values{}
	for name, value := range v {
		if value != before[name] {
			out[name] = value - before[name]
		}
	}
	return out
}
