package metrics_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
)

var (
	describedName = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	usedName      = regexp.MustCompile(`\bcaddy_mcp_auth_[a-z_]+`)
	documented    = regexp.MustCompile("`([a-z_]+)`")
)

// described returns the labels of each metric that there is.
func described(t *testing.T) map[string][]string {
	t.Helper()
	ch := make(chan *prometheus.Desc, 100)
	metrics.New().Describe(ch)
	close(ch)
	out := map[string][]string{}
	for d := range ch {
		m := describedName.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		out[m[1]] = strings.Split(m[2], ",")
	}
	return out
}

// TestDeployedFilesUseMetricsThatThereAre looks at the alerts and the dashboard
// that operators are given.
func TestDeployedFilesUseMetricsThatThereAre(t *testing.T) {
	known := described(t)
	for _, file := range []string{"prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/dashboard.json"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		names := usedName.FindAllString(string(data), -1)
		if len(names) < 10 {
			t.Errorf("%s uses %d metrics", file, len(names))
		}
		for _, name := range names {
			if _, ok := known[strings.TrimSuffix(name, "_bucket")]; !ok {
				t.Errorf("%s uses %s, which does not exist", file, name)
			}
		}
	}
}

// TestMetricsAreDocumented compares the table of the reference with what there is.
func TestMetricsAreDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(data), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{} // labels by name
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, name := range documented.FindAllStringSubmatch(cells[1], -1) {
			rows["caddy_mcp_auth_"+name[1]] = cells[2]
		}
	}
	for name, labels := range described(t) {
		cell, ok := rows[name]
		if !ok {
			t.Errorf("%s is not in the reference", name)
		}
		for _, label := range labels {
			if label != "" && !strings.Contains(cell, "`"+label+"`") {
				t.Errorf("the label %s of %s is not in the reference", label, name)
			}
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("the reference has %s, which does not exist", name)
	}
}
