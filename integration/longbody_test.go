package integration

import (
	"net/http"
	"strings"
	"testing"
)

// TestRefusalOfLongBodyArrives sends bodies that the gateway does not want. A connection that is closed while data
// arrives is reset by the system, and the client would never see why it was refused.
func TestRefusalOfLongBodyArrives(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\n}"})
	for name, rt := range map[string]http.RoundTripper{"HTTP/1.1": g.http1(), "HTTP/2": g.http2()} {
		t.Run(name, func(t *testing.T) {
			client := g.newClient(rt)
			for _, size := range []int{64 << 10, 300 << 10, 900 << 10} {
				for range 10 {
					a := send(t, client, http.MethodPost, g.origin+"/mcp", strings.Repeat("x", size), "Authorization", "Bearer "+strings.Repeat("a", 40))
					wantStatus(t, "a body that is not wanted", a, http.StatusUnauthorized)
				}
			}
		})
	}
}
