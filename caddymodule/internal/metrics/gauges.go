package metrics

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Snapshot is what an open store and its issuers have at a moment.
type Snapshot struct {
	// Event streams that are open, by transport.
	StreamableHTTP, SSE int

	// KeyCreated has the signing keys by their id.
	KeyCreated map[string]time.Time

	// Records are those of the store, or nil while they have not been counted.
	Records *Records
}

// Records counts what a store holds and what has not expired.
type Records struct{ Clients, Grants, Sessions int }

func (r *Records) add(other *Records) {
	r.Clients += other.Clients
	r.Grants += other.Grants
	r.Sessions += other.Sessions
}

// AddSource makes gauges show what source returns at the time of a scrape, beside
// other sources, until remove is called. source must be quick.
func (m *Metrics) AddSource(source func() Snapshot) (remove func()) {
	if m == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[&source] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.sources, &source)
	}
}

// snapshot is what all sources have together. Records are left out unless each
// of them has counted its own.
func (m *Metrics) snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := Snapshot{KeyCreated: map[string]time.Time{}, Records: &Records{}}
	for source := range m.sources {
		s := (*source)()
		all.StreamableHTTP += s.StreamableHTTP
		all.SSE += s.SSE
		maps.Copy(all.KeyCreated, s.KeyCreated)
		switch {
		case s.Records == nil:
			all.Records = nil
		case all.Records != nil:
			all.Records.add(s.Records)
		}
	}
	if len(m.sources) == 0 {
		all.Records = nil
	}
	return all
}

var (
	streamsDesc  = gaugeDesc("streams_in_flight", "Event streams that are open.", "transport")
	keyDesc      = gaugeDesc("signing_key_created_timestamp_seconds", "When a signing key of access tokens was made.", "kid")
	clientsDesc  = gaugeDesc("clients", "Registered clients in the store.")
	grantsDesc   = gaugeDesc("grants", "Grants in the store, with those that were revoked and are not yet forgotten.")
	sessionsDesc = gaugeDesc("sessions", "Browsers that are signed in.")

	gaugeDescs = []*prometheus.Desc{streamsDesc, keyDesc, clientsDesc, grantsDesc, sessionsDesc}
)

func gaugeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func (m *Metrics) collectGauges(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s := m.snapshot()
	gauge(streamsDesc, float64(s.StreamableHTTP), "streamable_http")
	gauge(streamsDesc, float64(s.SSE), "sse")
	for kid, created := range s.KeyCreated {
		gauge(keyDesc, float64(created.Unix()), kid)
	}
	if r := s.Records; r != nil {
		gauge(clientsDesc, float64(r.Clients))
		gauge(grantsDesc, float64(r.Grants))
		gauge(sessionsDesc, float64(r.Sessions))
	}
}
