package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newBreaking returns the address of an upstream that breaks off each of its
// answers, and what requests it has got.
func newBreaking(t *testing.T) (string, <-chan *http.Request) {
	t.Helper()
	got := make(chan *http.Request, 8)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half of it"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(upstream.Close)
	return strings.TrimPrefix(upstream.URL, "http://"), got
}

// Caddy writes a line with the request to the upstream when an answer breaks off,
// which anybody who leaves can make it do.
func TestNoLineHasTheSecretsOfAnUpstream(t *testing.T) {
	const lines = "store memory\nbearer_token dev_token_12345\nupstream_credential X-Api-Key s3cret-key-88\nforward_assertion\n"
	for form, site := range map[string]string{
		"the shortcut": "mcp_auth %s {\n" + lines + "}",
		"the guard":    "mcp_auth {\n" + lines + "}\nreverse_proxy %s {\ntransport mcp_auth {\ndial_timeout 3s\n}\n}",
	} {
		t.Run(form, func(t *testing.T) {
			address, upstream := newBreaking(t)
			m := newMachine(t)
			m.mustLoad("", "http://localhost:%[1]d {\n"+fmt.Sprintf(site, address)+"\n}")
			r := m.request(m.url("localhost", 1)+"/mcp?code=s3cret-code-88&x=1", "dev_token_12345", nil)
			r.Header.Set("Referer", "https://app.example/cb?state=s3cret-state-88")
			if resp, err := http.DefaultClient.Do(r); err == nil {
				_ = resp.Body.Close()
			}
			got := <-upstream
			if got.Header.Get("X-Api-Key") != "s3cret-key-88" || !strings.HasPrefix(got.Header.Get("X-Mcp-Assertion"), "ey") ||
				got.Header.Get("Referer") != r.Header.Get("Referer") || got.URL.RawQuery != r.URL.RawQuery {
				t.Errorf("the upstream gets %s with %v", got.URL, got.Header)
			}
			told := ""
			for deadline := time.Now().Add(20 * time.Second); told == "" && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				for line := range strings.Lines(m.logs()) {
					if strings.Contains(line, "aborting with incomplete response") {
						told = line
					}
				}
			}
			if strings.Contains(told, "s3cret") || strings.Contains(told, got.Header.Get("X-Mcp-Assertion")) ||
				!strings.Contains(told, `"uri":"/mcp?code=REDACTED&x=1"`) || !strings.Contains(told, `"X-Api-Key":["REDACTED"]`) {
				t.Errorf("the log has %q", told)
			}
		})
	}
}
