package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace begins the name of every metric.
const namespace = "caddy_mcp_auth"

// Check is what came out of the check of a request.
type Check uint8

// Outcomes of checks.
const (
	CheckOK Check = iota
	CheckMissing
	CheckMalformed
	CheckExpired
	CheckRevoked
	CheckAudience
	CheckScope
	CheckOrigin
	CheckSession     // the MCP session is not the caller's
	CheckLimited     // the token is good, and was used too often
	CheckUnavailable // nobody could tell whether the token is good
)

var checkNames = [...]string{
	CheckOK: "ok", CheckMissing: "missing", CheckMalformed: "malformed", CheckExpired: "expired", CheckRevoked: "revoked",
	CheckAudience: "audience", CheckScope: "scope", CheckOrigin: "origin", CheckSession: "session", CheckLimited: "limited", CheckUnavailable: "unavailable",
}

// String returns the value of the label.
func (c Check) String() string { return checkNames[c] }

// Who revoked a grant.
const (
	ByUser   = "user"
	ByAdmin  = "admin"
	ByClient = "client"
	ByReuse  = "reuse" // the server itself, when a code or refresh token came twice

	// ByProvider is the server itself as well, when a login provider has ended
	// its own tokens of the user.
	ByProvider = "provider"
)

// Outcomes of authorization requests. Each request that is valid is started, and
// at most one of the others follows; one that nobody answers has no other.
const (
	AuthorizationStarted = "started"
	AuthorizationAllowed = "allowed"
	AuthorizationDenied  = "denied"
	AuthorizationExpired = "expired"
	AuthorizationFailed  = "failed"
)

// LocalProvider is the provider of sign-ins with a password of the configuration.
const LocalProvider = "local"

// Results of sign-ins.
const (
	LoginOK         = "ok"
	LoginFailed     = "failed"      // the credentials or the answer of the provider were wrong
	LoginNotAllowed = "not_allowed" // no rule lets the person in
	LoginLimited    = "limited"     // too many tries
	LoginCancelled  = "cancelled"   // the person turned back at the provider
	LoginError      = "error"       // the provider, or the check of the password, could not be reached
)

// How clients introduce themselves.
const (
	RegistrationDynamic  = "dynamic"  // at the registration endpoint
	RegistrationDocument = "document" // by a metadata document that was fetched for the first time
)

// Results of registrations.
const (
	RegistrationOK      = "ok"
	RegistrationRefused = "refused"
	RegistrationError   = "error"
)

// Other stands for what has no name of its own among the values of a label.
const Other = "other"

// Metrics are the metrics of a process. They belong to the state that outlives
// reloads of the configuration, so that counters neither start again nor miss
// what a request of the configuration before does after it; each configuration
// registers the same ones. They are safe for concurrent use.
type Metrics struct {
	collectors []prometheus.Collector

	checks        [len(checkNames)]prometheus.Counter
	checkDuration prometheus.Observer

	issued         *prometheus.CounterVec
	tokenErrors    *prometheus.CounterVec
	reused         prometheus.Counter
	revocations    *prometheus.CounterVec
	authorizations *prometheus.CounterVec
	logins         *prometheus.CounterVec
	registrations  *prometheus.CounterVec
	limited        *prometheus.CounterVec
	toolCalls      *prometheus.CounterVec
	providers      *prometheus.CounterVec

	storage storageMetrics

	mu      sync.Mutex
	sources map[*func() Snapshot]struct{}
}

// New returns metrics that have counted nothing yet. What can be counted without
// anybody's configuration is there from the beginning, as zero: Prometheus does
// not see the first increase of a counter that appears with it.
func New() *Metrics {
	m := &Metrics{sources: map[*func() Snapshot]struct{}{}}
	checks := m.counters("token_validations_total", "Requests to protected resources by what came out of their check.", "result")
	for i, name := range checkNames {
		m.checks[i] = checks.WithLabelValues(name)
	}
	m.checkDuration = m.histograms("token_validation_duration_seconds", "How long the check of a request took.", []float64{
		1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 0.1, 0.5, 2.5,
	}).WithLabelValues()
	m.issued = m.counters("tokens_issued_total", "Access tokens that were issued.", "grant_type")
	m.tokenErrors = m.counters("token_request_errors_total", "Token requests that were refused, by the error code of OAuth.", "grant_type", "error")
	m.reused = m.counters("refresh_reuse_detected_total",
		"Refresh tokens that came again after the grace period, which revoked their grants.").WithLabelValues()
	m.revocations = m.counters("revocations_total", "Grants that were revoked, by who did it.", "by")
	m.authorizations = m.counters("authorizations_total", "Authorization requests by how far they got.", "outcome")
	m.logins = m.counters("logins_total", "Sign-ins by the login and their result.", "provider", "result")
	m.registrations = m.counters("registrations_total", "Clients that introduced themselves.", "method", "result")
	m.limited = m.counters("rate_limited_total", "Requests that were held back because there were too many.", "endpoint")
	m.toolCalls = m.counters("tool_calls_total", "Calls of tools where scopes name tools, by what they are named there and what was decided.", "tool", "result")
	m.providers = m.counters("login_provider_requests_total", "Requests of this server to the providers that people sign in at.", "provider", "result")
	m.storage = newStorageMetrics(m)
	zero(m.revocations, ByUser, ByAdmin, ByClient, ByReuse, ByProvider)
	zero(m.authorizations, AuthorizationStarted, AuthorizationAllowed, AuthorizationDenied, AuthorizationExpired, AuthorizationFailed)
	for _, method := range []string{RegistrationDynamic, RegistrationDocument} {
		for _, result := range []string{RegistrationOK, RegistrationRefused, RegistrationError} {
			m.registrations.WithLabelValues(method, result)
		}
	}
	return m
}

func zero(v *prometheus.CounterVec, values ...string) {
	for _, value := range values {
		v.WithLabelValues(value)
	}
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.collectors = append(m.collectors, v)
	return v
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	m.collectors = append(m.collectors, v)
	return v
}

// Checked counts the check of a request. It is on the way of every request.
func (m *Metrics) Checked(c Check, took time.Duration) {
	if m == nil {
		return
	}
	m.checks[c].Inc()
	m.checkDuration.Observe(took.Seconds())
}

// TokenIssued counts an access token.
func (m *Metrics) TokenIssued(grantType string) {
	if m != nil {
		m.issued.WithLabelValues(grantType).Inc()
	}
}

// TokenRefused counts a token request that was refused with an error code of
// this program. A grant type that there is not is [Other].
func (m *Metrics) TokenRefused(grantType, code string) {
	if m != nil {
		m.tokenErrors.WithLabelValues(grantType, code).Inc()
	}
}

// RefreshReused counts a refresh token that came again too late.
func (m *Metrics) RefreshReused() {
	if m != nil {
		m.reused.Inc()
	}
}

// Revoked counts grants that were revoked.
func (m *Metrics) Revoked(by string, grants int) {
	if m != nil {
		m.revocations.WithLabelValues(by).Add(float64(grants))
	}
}

// Authorization counts what became of an authorization request.
func (m *Metrics) Authorization(outcome string) {
	if m != nil {
		m.authorizations.WithLabelValues(outcome).Inc()
	}
}

// ExpectLogins makes the sign-ins of a provider of the configuration show before
// the first one.
func (m *Metrics) ExpectLogins(provider string) {
	if m == nil {
		return
	}
	for _, result := range []string{LoginOK, LoginFailed, LoginNotAllowed, LoginLimited, LoginError} {
		m.logins.WithLabelValues(provider, result)
	}
}

// Login counts a sign-in. The provider is one of the configuration.
func (m *Metrics) Login(provider, result string) {
	if m != nil {
		m.logins.WithLabelValues(provider, result).Inc()
	}
}

// Registered counts a client that introduced itself.
func (m *Metrics) Registered(method, result string) {
	if m != nil {
		m.registrations.WithLabelValues(method, result).Inc()
	}
}

// RateLimited counts a request that was held back.
func (m *Metrics) RateLimited(endpoint string) {
	if m != nil {
		m.limited.WithLabelValues(endpoint).Inc()
	}
}

// ToolCalled counts a call of a tool. The tool is a text of the configuration, or
// [Other].
func (m *Metrics) ToolCalled(tool, result string) {
	if m != nil {
		m.toolCalls.WithLabelValues(tool, result).Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors {
		c.Describe(ch)
	}
	for _, d := range gaugeDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors {
		c.Collect(ch)
	}
	m.collectGauges(ch)
}

// Interface guard
var _ prometheus.Collector = (*Metrics)(nil)
