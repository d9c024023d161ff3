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

// counting compares what a gateway has counted with what it should have.
type counting struct {
	*gateway
	t   *testing.T
	cfg gatewayConfig
	all samples // that are expected
}

const countedToken = "a-static-token-of-the-test"

func startCounting(t *testing.T) *counting {
	cfg := gatewayConfig{
		site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + "\nbearer_token {env.STATIC}\n}", env: []string{"STATIC=" + countedToken},
	}
	return &counting{gateway: startGateway(t, cfg), t: t, cfg: cfg, all: samples{}}
}

// more adds to what is expected.
func (c *counting) more(changes samples) {
	for name, n := range changes {
		c.all[name] += n
	}
}

func (c *counting) want(what string) {
	c.t.Helper()
	if diff := cmp.Diff(c.all, c.scrape(c.t).counted()); diff != "" {
		c.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// goTheWay lets a person allow an app, and calls the MCP server with good tokens
// and with others.
func (c *counting) goTheWay() *grant {
	gr := c.newGrant(c.t, nil)
	for _, token := range []string{gr.access, countedToken, "", "junk"} {
		c.call(c.t, c.client, "/mcp", token)
	}
	send(c.t, c.client, http.MethodPost, c.origin+"/mcp", toolsCall, "Authorization", "Bearer "+gr.access, "Origin", "https://evil.example")
	c.more(samples{
		`registrations_total{method="dynamic",result="ok"}`:    1,
		`authorizations_total{outcome="started"}`:              1,
		`authorizations_total{outcome="allowed"}`:              1,
		`logins_total{provider="local",result="ok"}`:           1,
		`tokens_issued_total{grant_type="authorization_code"}`: 1,
		`token_validations_total{result="ok"}`:                 2,
		`token_validations_total{result="missing"}`:            1,
		`token_validations_total{result="malformed"}`:          1,
		`token_validations_total{result="origin"}`:             1,
	})
	return gr
}

// goWrong does what is refused, and revokes.
func (c *counting) goWrong(gr *grant) {
	wantStatus(c.t, "a revoked token", c.call(c.t, c.client, "/mcp", gr.access), http.StatusUnauthorized)
	c.newGrantFor(c.t, gr.visitor, nil).revoke(c.t)
	v := c.newVisitor(c.t)
	v.password = "wrong"
	v.get(c.origin + "/account").signIn()
	c.postForm(c.t, "/token", url.Values{"grant_type": {"password"}})
	c.more(samples{
		`token_validations_total{result="revoked"}`:                                     1,
		`registrations_total{method="dynamic",result="ok"}`:                             1,
		`authorizations_total{outcome="started"}`:                                       1,
		`authorizations_total{outcome="allowed"}`:                                       1,
		`tokens_issued_total{grant_type="authorization_code"}`:                          1,
		`revocations_total{by="client"}`:                                                1,
		`logins_total{provider="local",result="failed"}`:                                1,
		`token_request_errors_total{error="unsupported_grant_type",grant_type="other"}`: 1,
	})
}

// TestMetrics goes whole ways and wrong ways through a gateway and compares every count.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := startCounting(t)
	c.want("before anything")
	gr := c.goTheWay()
	c.want("after one way")

	old := gr.refresh
	gr.renew(t)
	gr.renew(t)
	wantError(t, "a refresh token that is too old", c.refresh(t, gr.clientID, old), "invalid_grant")
	c.more(samples{
		`tokens_issued_total{grant_type="refresh_token"}`:                              2,
		`token_request_errors_total{error="invalid_grant",grant_type="refresh_token"}`: 1,
		"refresh_reuse_detected_total":                                                 1,
		`revocations_total{by="reuse"}`:                                                1,
	})
	c.want("after a theft")
	c.goWrong(gr)
	c.want("in the end")
	c.wantDurations()
	c.wantNothingPersonal(t, gr.clientID, gr.access, "127.0.0.1", userName)

	c.restart(false)
	eventually(t, "the records have been counted", func() bool { _, ok := c.scrape(t)["grants"]; return ok })
	last := c.scrape(t)
	if last["clients"] != 2 || last["grants"] != 2 || last["sessions"] != 1 {
		t.Errorf("there are %v clients, %v grants and %v sessions, want 2, 2 and 1", last["clients"], last["grants"], last["sessions"])
	}
	c.all = samples{}
	c.want("after a restart")
}

// wantDurations demands that each check of a token has a duration, and operations
// of the store have one.
func (c *counting) wantDurations() {
	c.t.Helper()
	last := c.scrape(c.t)
	checks := 0.0
	for name, value := range last {
		if strings.HasPrefix(name, "token_validations_total") {
			checks += value
		}
	}
	if n := last["token_validation_duration_seconds_count"]; n != checks {
		c.t.Errorf("%v checks have a duration, of %v", n, checks)
	}
	if last[`storage_operation_duration_seconds_count{backend="file",operation="update"}`] == 0 {
		c.t.Error("the operations of the store are not measured")
	}
}

// TestMetricsOverReloads keeps a stream open, which stays in the configuration that it was opened in.
func TestMetricsOverReloads(t *testing.T) {
	t.Parallel()
	c := startCounting(t)
	gr := c.goTheWay()
	stream := openStream(t, c.client, c.origin+"/sse", gr.access)
	stream.want(endpointEvent)
	const open = `streams_in_flight{transport="sse"}`
	c.more(samples{`token_validations_total{result="ok"}`: 1, open: 1})
	for i := range 3 {
		c.cfg.global = strings.Repeat("\n", i)
		if err := c.reload(c.cfg); err != nil {
			t.Fatal(err)
		}
	}
	c.want("after reloads")
	if err := c.reload(gatewayConfig{site: strings.Replace(c.cfg.site, userLine, "auth_type oauth2.1", 1), env: c.cfg.env}); err == nil {
		t.Error("a configuration without anybody to sign in is accepted")
	}
	c.want("after a rejected reload")
	gr.revoke(t)
	c.more(samples{`revocations_total{by="client"}`: 1})
	delete(c.all, open) // it ends with its grant
	eventually(t, "the stream ends", func() bool { return c.scrape(t)[open] == 0 })
	c.want("after its revocation")
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
