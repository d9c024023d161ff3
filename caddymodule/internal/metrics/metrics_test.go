package metrics_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
)

func TestNothingIsCountedForNobody(*testing.T) {
	var m *metrics.Metrics
	m.Checked(metrics.CheckOK, time.Second)
	m.TokenIssued("x")
	m.TokenRefused("x", "x")
	m.RefreshReused()
	m.Revoked(metrics.ByUser, 1)
	m.Authorization(metrics.AuthorizationStarted)
	m.ExpectLogins("x")
	m.Login("x", metrics.LoginOK)
	m.Registered(metrics.RegistrationDynamic, metrics.RegistrationOK)
	m.RateLimited("x")
	m.ToolCalled("x", "x")
	m.AddSource(nil)()
}

func TestCounters(t *testing.T) {
	m := metrics.New()
	before := metricstest.Read(t, m)
	m.Checked(metrics.CheckOK, time.Microsecond)
	m.Checked(metrics.CheckAudience, time.Second)
	m.TokenIssued("refresh_token")
	m.TokenRefused("refresh_token", "invalid_grant")
	m.RefreshReused()
	m.Revoked(metrics.ByClient, 1)
	m.Authorization(metrics.AuthorizationDenied)
	m.Login("acme", metrics.LoginFailed)
	m.Registered(metrics.RegistrationDocument, metrics.RegistrationRefused)
	m.RateLimited("login")
	m.ToolCalled("search", "ok")
	want := metricstest.Values{
		"token_validations_total result=ok": 1, "token_validations_total result=audience": 1, "token_validation_duration_seconds": 2,
		"tokens_issued_total grant_type=refresh_token":                            1,
		"token_request_errors_total error=invalid_grant grant_type=refresh_token": 1,
		"refresh_reuse_detected_total":                                            1,
		"revocations_total by=client":                                             1,
		"authorizations_total outcome=denied":                                     1,
		"logins_total provider=acme result=failed":                                1,
		"registrations_total method=document result=refused":                      1,
		"rate_limited_total endpoint=login":                                       1,
		"tool_calls_total result=ok tool=search":                                  1,
	}
	if diff := cmp.Diff(want, metricstest.Read(t, m).Since(before)); diff != "" {
		t.Errorf("unexpected counts (-want +got):\n%s", diff)
	}
}

// Prometheus sees no increase of a counter that appears with it.
func TestCountersBeginAtZero(t *testing.T) {
	m := metrics.New()
	m.ExpectLogins(metrics.LocalProvider)
	got := metricstest.Read(t, m)
	for _, name := range []string{
		"refresh_reuse_detected_total", "token_validations_total result=malformed", "authorizations_total outcome=allowed",
		"registrations_total method=dynamic result=ok", "revocations_total by=reuse", "logins_total provider=local result=failed",
	} {
		if value, ok := got[name]; !ok || value != 0 {
			t.Errorf("%s is %v (there: %v), want 0", name, value, ok)
		}
	}
}

// Every configuration has a registry of its own, and several can be there at once.
func TestSeveralRegistriesShowTheSame(t *testing.T) {
	m := metrics.New()
	for i := range 10 {
		m.TokenIssued("authorization_code")
		if got := metricstest.Read(t, m)["tokens_issued_total grant_type=authorization_code"]; got != float64(i+1) {
			t.Errorf("registry %d shows %v", i+1, got)
		}
	}
	twice := prometheus.NewRegistry()
	if err := errors.Join(twice.Register(m), twice.Register(m)); err == nil {
		t.Error("one registry took the metrics twice, and would show each of them twice")
	}
}

func TestGauges(t *testing.T) {
	m := metrics.New()
	made := time.Unix(1_700_000_000, 0)
	first := m.AddSource(func() metrics.Snapshot {
		return metrics.Snapshot{
			StreamableHTTP: 2, SSE: 1, KeyCreated: map[string]time.Time{"k1": made}, Records: &metrics.Records{Clients: 1, Grants: 2, Sessions: 3},
		}
	})
	records := &metrics.Records{Clients: 10, Grants: 20, Sessions: 30}
	second := m.AddSource(func() metrics.Snapshot { return metrics.Snapshot{StreamableHTTP: 5, Records: records} })
	check := func(rule string, want metricstest.Values) {
		t.Helper()
		got := metricstest.Read(t, m).Since(metricstest.Read(t, metrics.New()))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", rule, diff)
		}
	}
	key := "signing_key_created_timestamp_seconds kid=k1"
	check("sources are added up", metricstest.Values{
		"streams_in_flight transport=streamable_http": 7, "streams_in_flight transport=sse": 1, key: 1_700_000_000,
		"clients": 11, "grants": 22, "sessions": 33,
	})
	records = nil
	check("a part of the records is not shown for all", metricstest.Values{
		"streams_in_flight transport=streamable_http": 7, "streams_in_flight transport=sse": 1, key: 1_700_000_000,
	})
	second()
	check("a source that is gone", metricstest.Values{
		"streams_in_flight transport=streamable_http": 2, "streams_in_flight transport=sse": 1, key: 1_700_000_000,
		"clients": 1, "grants": 2, "sessions": 3,
	})
	first()
	check("no source", metricstest.Values{})
}

type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func TestProviderRequests(t *testing.T) {
	m := metrics.New()
	try := func(status int, err error) {
		rt := m.Transport("acme", answer(func(*http.Request) (*http.Response, error) {
			if err != nil {
				return nil, err
			}
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		}))
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://id.example.com/", http.NoBody)
		resp, got := rt.RoundTrip(r)
		if !errors.Is(got, err) {
			t.Errorf("the transport returns %v in place of %v", got, err)
		}
		if resp != nil {
			resp.Body.Close()
		}
	}
	for _, status := range []int{200, 302, 400, 401, 429, 500, 503} {
		try(status, nil)
	}
	try(0, errors.New("connection refused"))
	got := metricstest.Read(t, m)
	for result, want := range map[string]float64{"ok": 2, "refused": 2, "error": 4} {
		if n := got["login_provider_requests_total provider=acme result="+result]; n != want {
			t.Errorf("%v requests are %s, want %v", n, result, want)
		}
	}
}

func TestCountingAtOnce(t *testing.T) {
	m := metrics.New()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			remove := m.AddSource(func() metrics.Snapshot { return metrics.Snapshot{} })
			defer remove()
			for range 100 {
				m.Checked(metrics.CheckOK, time.Microsecond)
				m.Login("acme", metrics.LoginOK)
			}
			metricstest.Read(t, m)
		})
	}
	wg.Wait()
	got := metricstest.Read(t, m)
	if got["token_validations_total result=ok"] != 800 || got["logins_total provider=acme result=ok"] != 800 {
		t.Errorf("counted %v", got)
	}
}
