package integration

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// metricsPrefix begins the names of the gateway's own metrics.
const metricsPrefix = "caddy_mcp_auth_"

// samples are those of a scrape, by name and labels, without the prefix.
type samples map[string]float64

// scrape reads the gateway's own metrics.
func (g *gateway) scrape(t testing.TB) samples {
	t.Helper()
	out := samples{}
	for line := range strings.Lines(g.metricsText(t)) {
		sample, ok := strings.CutPrefix(strings.TrimSpace(line), metricsPrefix)
		if !ok {
			continue
		}
		i := strings.LastIndexByte(sample, ' ')
		value, err := strconv.ParseFloat(sample[i+1:], 64)
		if err != nil {
			t.Fatalf("the sample %s: %v", sample, err)
		}
		out[sample[:i]] = value
	}
	return out
}

func (g *gateway) metricsText(t testing.TB) string {
	t.Helper()
	a := send(t, http.DefaultClient, http.MethodGet, "http://"+g.admin+"/metrics", "")
	if a.status != http.StatusOK {
		t.Fatalf("the metrics answer %d", a.status)
	}
	return a.body
}

// counted are the samples that have a value, but for durations and what depends on the store.
func (s samples) counted() samples {
	out := samples{}
	for name, value := range s {
		if value != 0 && !strings.Contains(name, "duration") && !strings.HasPrefix(name, "signing_key") &&
			!strings.HasPrefix(name, "clients") && !strings.HasPrefix(name, "grants") && !strings.HasPrefix(name, "sessions") {
			out[name] = value
		}
	}
	return out
}

// TestMetrics goes whole ways and wrong ways through a gateway, over reloads, and compares every count.
func TestMetrics(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	cfg := gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\nbearer_token {env.STATIC}\n}", env: []string{"STATIC=a-static-token-of-the-test"}}
	g := startGateway(t, cfg)
	want := func(what string, want samples) {
		t.Helper()
		if diff := cmp.Diff(want, g.scrape(t).counted()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("before anything", samples{})

	gr := g.newGrant(t, nil)
	g.call(t, g.client, "/mcp", gr.access)
	g.call(t, g.client, "/mcp", "a-static-token-of-the-test")
	g.call(t, g.client, "/mcp", "")
	g.call(t, g.client, "/mcp", "junk")
	send(t, g.client, http.MethodPost, g.origin+"/mcp", toolsCall, "Authorization", "Bearer "+gr.access, "Origin", "https://evil.example")
	all := samples{
		`registrations_total{method="dynamic",result="ok"}`:    1,
		`authorizations_total{outcome="started"}`:              1,
		`authorizations_total{outcome="allowed"}`:              1,
		`logins_total{provider="local",result="ok"}`:           1,
		`tokens_issued_total{grant_type="authorization_code"}`: 1,
		`token_validations_total{result="ok"}`:                 2,
		`token_validations_total{result="missing"}`:            1,
		`token_validations_total{result="malformed"}`:          1,
		`token_validations_total{result="origin"}`:             1,
	}
	want("after one way", all)

	// An event stream stays in the configuration that it was opened in.
	stream := openStream(t, g.client, g.origin+"/sse", gr.access)
	stream.want(endpointEvent)
	all[`token_validations_total{result="ok"}`]++
	all[`streams_in_flight{transport="sse"}`] = 1
	for i := range 3 {
		cfg.global = strings.Repeat("\n", i)
		if err := g.reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	want("after reloads", all)
	if err := g.reload(gatewayConfig{site: "mcp_auth " + rec.address + " {\nauth_type oauth2.1\n}", env: cfg.env}); err == nil {
		t.Error("a configuration without anybody to sign in is accepted")
	}
	want("after a rejected reload", all)

	old := gr.refresh
	gr.renew(t)
	gr.renew(t)
	wantError(t, "a refresh token that is too old", g.refresh(t, gr.clientID, old), "invalid_grant")
	all[`tokens_issued_total{grant_type="refresh_token"}`] = 2
	all[`token_request_errors_total{error="invalid_grant",grant_type="refresh_token"}`] = 1
	all["refresh_reuse_detected_total"] = 1
	all[`revocations_total{by="reuse"}`] = 1
	delete(all, `streams_in_flight{transport="sse"}`) // it ends with its grant
	eventually(t, "the stream ends", func() bool { return g.scrape(t)[`streams_in_flight{transport="sse"}`] == 0 })
	want("after a theft", all)

	wantStatus(t, "a revoked token", g.call(t, g.client, "/mcp", gr.access), http.StatusUnauthorized)
	second := g.newGrantFor(t, gr.visitor, nil)
	second.revoke(t)
	v := g.newVisitor(t)
	v.password = "wrong"
	v.get(g.origin + "/account").signIn()
	g.postForm(t, "/token", url.Values{"grant_type": {"password"}})
	all[`token_validations_total{result="revoked"}`] = 1
	all[`registrations_total{method="dynamic",result="ok"}`]++
	all[`authorizations_total{outcome="started"}`]++
	all[`authorizations_total{outcome="allowed"}`]++
	all[`tokens_issued_total{grant_type="authorization_code"}`]++
	all[`revocations_total{by="client"}`] = 1
	all[`logins_total{provider="local",result="failed"}`] = 1
	all[`token_request_errors_total{error="unsupported_grant_type",grant_type="other"}`] = 1
	want("in the end", all)

	last := g.scrape(t)
	checks := 0.0
	for name, value := range last {
		if strings.HasPrefix(name, "token_validations_total") {
			checks += value
		}
	}
	if n := last["token_validation_duration_seconds_count"]; n != checks {
		t.Errorf("%v checks have a duration, of %v", n, checks)
	}
	if last[`storage_operation_duration_seconds_count{backend="file",operation="update"}`] == 0 {
		t.Error("the operations of the store are not measured")
	}
	g.wantNothingPersonal(t, gr.clientID, gr.access, "127.0.0.1", userName)

	g.write(g.caddyfile(cfg))
	g.restart(false)
	eventually(t, "the records have been counted", func() bool { _, ok := g.scrape(t)["grants"]; return ok })
	last = g.scrape(t)
	if last["clients"] != 2 || last["grants"] != 2 || last["sessions"] != 1 {
		t.Errorf("there are %v clients, %v grants and %v sessions, want 2, 2 and 1", last["clients"], last["grants"], last["sessions"])
	}
	want("after a restart", samples{})
}

var labelValue = regexp.MustCompile(`="([^"]*)"`)

// wantNothingPersonal looks at the values of all labels.
func (g *gateway) wantNothingPersonal(t testing.TB, personal ...string) {
	t.Helper()
	for line := range strings.Lines(g.metricsText(t)) {
		if !strings.HasPrefix(line, metricsPrefix) {
			continue
		}
		for _, m := range labelValue.FindAllStringSubmatch(line, -1) {
			for _, p := range personal {
				if strings.Contains(m[1], p) {
					t.Errorf("a label tells %s: %s", p, line)
				}
			}
		}
	}
}

// TestMetricsOfProvider counts a sign-in at an OpenID provider and an outage of it.
func TestMetricsOfProvider(t *testing.T) {
	t.Parallel()
	idp := newOpenIDProvider(t)
	g := idp.siteOfProvider(startRecorder(t).address, "")
	address, _, _ := g.request(t)
	g.newVisitor(t).get(address).leave()
	down := g.scrape(t)
	if down[`logins_total{provider="acme",result="error"}`] != 1 || down[`login_provider_requests_total{provider="acme",result="error"}`] == 0 {
		t.Errorf("an outage counts as %v", down.counted())
	}
	idp.start()
	v := g.newVisitor(t)
	eventually(t, "the provider is asked again", func() bool { return v.get(address).leave().next != "" })
	v.get(v.get(address).leave().atProvider(person("carol")))
	up := g.scrape(t)
	if up[`logins_total{provider="acme",result="ok"}`] != 1 || up[`login_provider_requests_total{provider="acme",result="ok"}`] == 0 {
		t.Errorf("a sign-in counts as %v", up.counted())
	}
}
