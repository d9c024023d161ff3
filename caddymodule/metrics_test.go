package caddymodule

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scrape returns the samples of ours that the admin endpoint shows, and fails the
// test when one is there twice.
func (m *machine) scrape() map[string]float64 {
	m.t.Helper()
	answer := m.get("http://"+m.admin+"/metrics", "")
	if answer.status != http.StatusOK {
		m.t.Fatalf("the admin endpoint answers %d: %s", answer.status, answer.body)
	}
	out := map[string]float64{}
	for line := range strings.Lines(answer.body) {
		sample, ok := strings.CutPrefix(strings.TrimSpace(line), "caddy_mcp_auth_")
		if !ok {
			continue
		}
		i := strings.LastIndexByte(sample, ' ')
		value, err := strconv.ParseFloat(sample[i+1:], 64)
		if _, twice := out[sample[:i]]; twice || err != nil {
			m.t.Errorf("the sample %s is there twice: %v, or is no number: %v", sample, twice, err)
		}
		out[sample[:i]] = value
	}
	return out
}

func TestMetricsGoOnThroughReloads(t *testing.T) {
	m := newMachine(t).withAdmin()
	global := "mcp_auth {\nstore file " + filepath.Join(m.dir, "state.db") + "\n}"
	site := "http://localhost:%[1]d {\nmcp_auth {\n" + robot + "}\nrespond ok\n}\n"
	m.mustLoad(global, site)
	origin := m.url("localhost", 1)
	before := m.scrape()
	if len(before) == 0 {
		t.Fatal("there are no metrics")
	}
	token := m.robotToken(origin, "")
	for i := range 10 {
		m.mustLoad(global, site+strings.Repeat("\n", i))
		m.status("the token", origin+"/mcp", token, http.StatusOK)
		m.status("no token", origin+"/mcp", "", http.StatusUnauthorized)
	}
	check := func(what string, checks float64) {
		t.Helper()
		got := m.scrape()
		want := map[string]float64{
			`tokens_issued_total{grant_type="client_credentials"}`: 1, `token_validations_total{result="ok"}`: checks,
			`token_validations_total{result="missing"}`: checks, "token_validation_duration_seconds_count": 2 * checks,
			`streams_in_flight{transport="sse"}`: 0, `streams_in_flight{transport="streamable_http"}`: 0,
		}
		shown := map[string]float64{}
		for name := range want {
			shown[name] = got[name] - before[name]
		}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		keys := 0
		for name, value := range got {
			if strings.HasPrefix(name, "signing_key_created_timestamp_seconds{") && value > 1.7e9 {
				keys++
			}
		}
		if keys != 1 {
			t.Errorf("%s: %d signing keys, want one", what, keys)
		}
		for name := range before {
			if _, ok := got[name]; !ok {
				t.Errorf("%s: the sample %s is gone", what, name)
			}
		}
	}
	check("after ten reloads", 10)

	// Caddy's admin endpoint shows the registry of a configuration that was
	// rejected, from then on.
	if err := m.load(global, site+"http://localhost:%[2]d {\nmcp_auth {\nauth_type oauth2.1\n}\n}"); err == nil {
		t.Fatal("a configuration that cannot work is accepted")
	}
	m.status("the token", origin+"/mcp", token, http.StatusOK)
	m.status("no token", origin+"/mcp", "", http.StatusUnauthorized)
	check("after a rejected reload", 11)
	if n := m.metricsTaken(); n != 2 {
		t.Errorf("the metrics are taken %d times, want twice: by the configuration and the store", n)
	}
}
