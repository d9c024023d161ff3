package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// smugglingShapes are ends of a request, from behind its Host line on, that servers read differently: one sees the
// hidden request in the body, another sees it as the next request.
func smugglingShapes(hidden string) map[string]string {
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	length := fmt.Sprint(len(hidden))
	return map[string]string{
		"pipelined":                       "Content-Length: 0\r\n\r\n" + hidden,
		"in the body":                     "Content-Length: " + length + "\r\n\r\n" + hidden,
		"CL.TE":                           "Content-Length: " + fmt.Sprint(len(hidden)+5) + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"TE.CL":                           "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunk,
		"TE with a space before it":       "Transfer-Encoding : chunked\r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + hidden,
		"TE with a space after it":        "Transfer-Encoding: chunked \r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + hidden,
		"TE with a tab":                   "Transfer-Encoding:\tchunked\r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + hidden,
		"TE with a vertical tab":          "Transfer-Encoding:\x0bchunked\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"an unknown TE":                   "Transfer-Encoding: xchunked\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"TE identity":                     "Transfer-Encoding: identity\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"TE twice":                        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + hidden,
		"a list of TE":                    "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden,
		"TE in a folded line":             "Transfer-Encoding:\r\n chunked\r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + hidden,
		"TE with an underline":            "Transfer_Encoding: chunked\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"CL twice, different":             "Content-Length: 0\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"CL as a list":                    "Content-Length: 0, " + length + "\r\n\r\n" + hidden,
		"CL with a sign":                  "Content-Length: +0\r\n\r\n" + hidden,
		"CL below zero":                   "Content-Length: -1\r\n\r\n" + hidden,
		"CL in hexadecimal":               "Content-Length: 0x0\r\n\r\n" + hidden,
		"CL with a space before it":       "Content-Length : 0\r\n\r\n" + hidden,
		"CL with an underline":            "Content_Length: " + length + "\r\n\r\n" + hidden,
		"a chunk size with 0x":            "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + hidden,
		"a chunk size that overflows":     "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + hidden,
		"a chunk extension with LF":       "Transfer-Encoding: chunked\r\n\r\n2;x\nxx\r\n0\r\n\r\n" + hidden,
		"a chunk ended by LF":             "Transfer-Encoding: chunked\r\n\r\n0\n\n" + hidden,
		"a chunk with too much":           "Transfer-Encoding: chunked\r\n\r\n1\r\nxGET\r\n0\r\n\r\n" + hidden,
		"a header block ended by LF":      "Content-Length: 0\n\n" + hidden,
		"a header line ended by CR":       "X: y\rContent-Length: 0\r\n\r\n" + hidden,
		"a NUL in a header":               "X: y\x00\r\nContent-Length: 0\r\n\r\n" + hidden,
		"a header line without a name":    ": y\r\nContent-Length: 0\r\n\r\n" + hidden,
		"a header line without a colon":   "Xy\r\nContent-Length: 0\r\n\r\n" + hidden,
		"trailers that frame":             "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"Expect with a body":              "Expect: 100-continue\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"an upgrade to h2c with a body":   "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
		"an upgrade to WebSocket":         "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + hidden,
		"Connection names Content-Length": "Connection: content-length\r\nContent-Length: " + length + "\r\n\r\n" + hidden,
	}
}

// TestNothingIsSmuggled sends ambiguous requests with a good token, from a client that is allowed in. The request that
// hides in them has no token: the upstream must never see it as a request.
func TestNothingIsSmuggled(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\n}"})
	gr := g.newGrant(t, nil)
	host := fmt.Sprintf("localhost:%d", g.port)
	hidden := "GET /mcp/smuggled HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	var sending sync.WaitGroup
	for name, shape := range smugglingShapes(hidden) {
		conn := g.dialTLS(t, "http/1.1")
		sending.Go(func() {
			defer conn.Close()
			request := "POST /mcp/outer?" + url.QueryEscape(name) + " HTTP/1.1\r\nHost: " + host +
				"\r\nAuthorization: Bearer " + gr.access + "\r\n" + shape
			// Where all was well the connection stays open, and nothing more comes.
			if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(conn, request); err == nil {
				readAnswers(conn, "POST")
			}
		})
	}
	sending.Wait()
	var through []string
	for _, r := range rec.seen() {
		path, name, _ := strings.Cut(r.Target, "?")
		if path != "/mcp/outer" || slices.Contains(through, name) {
			t.Errorf("the upstream took this for a request: %s %s", r.Method, r.Target)
		}
		through = append(through, name)
	}
	if !slices.Contains(through, url.QueryEscape("pipelined")) {
		t.Error("not even a well-formed request has reached the upstream")
	}
	// The connections to the upstream must not be out of step either.
	for range 5 {
		wantStatus(t, "a request afterwards", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
		if got := rec.last(t); got.Target != "/mcp" || string(got.Body) != toolsCall {
			t.Errorf("the upstream sees %s with the body %q", got.Target, got.Body)
		}
	}
}

// TestNoTunnelOpens asks for a WebSocket to the MCP server as HTTP/3 does it (RFC 9220), with a good token.
func TestNoTunnelOpens(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	for name, rules := range map[string]string{"without rules": "", "with rules": toolScopes} {
		g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + rules + "\n}"})
		gr := g.newGrant(t, nil)
		for _, sent := range []string{"", toolsCall} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, g.origin+"/mcp", strings.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			req.Proto = "websocket"
			req.Header = http.Header{"Authorization": {"Bearer " + gr.access}, "Sec-Websocket-Version": {"13"}}
			resp, err := g.http3().RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, POST, DELETE" {
				t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
			}
		}
		wantStatus(t, "a request afterwards", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	}
	for _, r := range rec.seen() {
		if r.Method != http.MethodPost {
			t.Errorf("the upstream sees %s %s %v", r.Method, r.Target, r.Header)
		}
	}
}
