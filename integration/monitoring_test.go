package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const (
	alertsFile    = "../deploy/prometheus/alerts.yml"
	dashboardFile = "../deploy/grafana/dashboard.json"
)

// promtool runs Prometheus's own tool on the files.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	stdout, stderr, err := runCommand(t, nil, needTool(t, "promtool"), args...)
	if err != nil {
		t.Errorf("promtool %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
}

// TestAlerts lets each alert fire, and not fire.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", alertsFile)
	tests := "../deploy/prometheus/alerts_test.yml"
	promtool(t, "test", "rules", tests)
	rules, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile(tests)
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 7 {
		t.Errorf("there are %d alerts", len(alerts))
	}
	for _, alert := range alerts {
		fires := regexp.MustCompile(`alertname: ` + alert[1] + `\n\s+exp_alerts:\n`)
		if !fires.Match(tested) {
			t.Errorf("no test lets %s fire", alert[1])
		}
	}
}

// classicDashboard is the form that every Grafana imports, and that can be put into a folder for it. The form that is to
// take its place is one of its programming interface.
type classicDashboard = dashboard.Dashboard //nolint:staticcheck // see above

// readDashboard reads the dashboard as strictly as Grafana's own schema has it.
func readDashboard(t *testing.T) *classicDashboard {
	t.Helper()
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	// Where nothing is wrong, this returns an empty list, and has left parts out. So it is read a second time.
	err = new(classicDashboard).UnmarshalJSONStrict(data)
	if problems, ok := errors.AsType[cog.BuildErrors](err); err != nil && (!ok || len(problems) > 0) {
		t.Fatal(err)
	}
	d := &classicDashboard{}
	if err := json.Unmarshal(data, d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard holds the dashboard against Grafana's schema, its queries against Prometheus's, and the names in them
// against what a gateway shows.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if d.Uid == nil || d.SchemaVersion < 39 {
		t.Errorf("the dashboard has the id %v and schema version %d", d.Uid, d.SchemaVersion)
	}
	checkVariables(t, d)
	checkGrid(t, d)
	rules := &strings.Builder{}
	fmt.Fprint(rules, "groups:\n- name: dashboard\n  rules:\n")
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue
		}
		for _, expr := range checkPanel(t, p.Panel) {
			quoted, _ := json.Marshal(plain(expr)) // strings always marshal; JSON is YAML
			fmt.Fprintf(rules, "  - record: dashboard:%d\n    expr: %s\n", *p.Panel.Id, quoted)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
	checkForeignNames(t, rules.String())
}

// plain is a query without Grafana's variables.
func plain(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$__range", "1d", "$job", ".*", "$instance", ".*").Replace(expr)
}

// checkPanel returns the queries of a panel.
func checkPanel(t *testing.T, p *dashboard.Panel) (queries []string) {
	t.Helper()
	name := *p.Title
	if p.Description == nil || *p.Description == "" || p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == nil {
		t.Errorf("the panel %s has no description or no unit", name)
	}
	if !slices.Contains([]string{"stat", "timeseries"}, p.Type) || len(p.Targets) == 0 {
		t.Errorf("the panel %s is of the type %s and has %d queries", name, p.Type, len(p.Targets))
	}
	for _, target := range p.Targets {
		q, ok := target.(*prometheus.Dataquery)
		switch {
		case !ok:
			t.Errorf("a query of the panel %s is of the type %T", name, target)
			continue
		case q.LegendFormat == nil || *q.LegendFormat == "":
			t.Errorf("a query of the panel %s has no legend", name)
		case !strings.Contains(q.Expr, `job=~"$job", instance=~"$instance"`):
			t.Errorf("a query of the panel %s does not ask about the chosen gateways: %s", name, q.Expr)
		case p.Datasource == nil || *p.Datasource.Uid != "${DS_PROMETHEUS}" || *q.Datasource.Uid != "${DS_PROMETHEUS}":
			t.Errorf("the panel %s does not ask the chosen data source", name)
		}
		queries = append(queries, q.Expr)
	}
	return queries
}

// checkVariables wants the data source and the gateways to be chosen.
func checkVariables(t *testing.T, d *classicDashboard) {
	t.Helper()
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
	}
	if want := []string{"DS_PROMETHEUS", "job", "instance"}; !slices.Equal(names, want) {
		t.Errorf("the variables are %v, want %v", names, want)
	}
}

// checkGrid wants each panel to have a place and an id of its own, below a row.
func checkGrid(t *testing.T, d *classicDashboard) {
	t.Helper()
	ids, taken, rows := map[uint32]bool{}, map[[2]uint32]string{}, 0
	for i, p := range d.Panels {
		var id uint32
		var at *dashboard.GridPos
		var title string
		if p.RowPanel != nil {
			id, at, title = p.RowPanel.Id, p.RowPanel.GridPos, *p.RowPanel.Title
			rows++
		} else {
			id, at, title = *p.Panel.Id, p.Panel.GridPos, *p.Panel.Title
		}
		if id == 0 || ids[id] || at == nil || at.X+at.W > 24 || i == 0 && p.RowPanel == nil {
			t.Fatalf("the panel %s has the id %d, and its place is %+v", title, id, at)
		}
		ids[id] = true
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other, ok := taken[[2]uint32{x, y}]; ok {
					t.Fatalf("the panels %s and %s lie on each other", title, other)
				}
				taken[[2]uint32{x, y}] = title
			}
		}
	}
	if rows != 4 {
		t.Errorf("there are %d rows, want 4", rows)
	}
}

var (
	foreignName = regexp.MustCompile(`\b(?:caddy|go|process)_[a-z_]+`)
	scrapedType = regexp.MustCompile(`(?m)^# TYPE (\S+)`)
)

// checkForeignNames looks for the metrics of Caddy and of the Go runtime in a scrape. A test of the package that counts
// looks for our own, which need not all be there before something has happened.
func checkForeignNames(t *testing.T, queries string) {
	t.Helper()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address})
	scraped := map[string]bool{}
	for _, m := range scrapedType.FindAllStringSubmatch(g.metricsText(t), -1) {
		scraped[m[1]] = true
	}
	found := 0
	for _, name := range foreignName.FindAllString(queries, -1) {
		if strings.HasPrefix(name, metricsPrefix) {
			continue
		}
		if found++; !scraped[name] {
			t.Errorf("the dashboard asks for %s, which a gateway does not have", name)
		}
	}
	if found < 3 {
		t.Errorf("the dashboard asks for %d metrics of others", found)
	}
}
