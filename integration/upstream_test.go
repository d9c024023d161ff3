package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// forwardingSite tells the upstream who is calling.
func forwardingSite(upstream string) string {
	return "mcp_auth " + upstream + ` {
		` + userLine + `
		forward X-Mcp-User {http.auth.user.id}
		forward X-Caller-Email {http.auth.user.email}
		forward X-Caller-Client {http.auth.user.client_id}
	}`
}

// protocolClients are clients of each version of HTTP.
func protocolClients(g *gateway) map[string]*http.Client {
	return map[string]*http.Client{
		"HTTP/1.1": g.newClient(g.http1()), "HTTP/2": g.newClient(g.http2()), "HTTP/3": g.newClient(g.http3()),
	}
}

// TestUpstreamLearnsWhoCalls sends what a caller could use to pass for somebody else, or to keep the gateway from
// saying who it is. The value of every forged field holds the word "forged", which must not arrive in any place.
func TestUpstreamLearnsWhoCalls(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: forwardingSite(rec.address)})
	gr := g.newGrant(t, nil)
	session := sessionCookie(t, gr.visitor)
	g.keepSecret(session)

	tests := []struct {
		name   string
		header http.Header // names as they are
		http1  bool        // what HTTP/2 and HTTP/3 do not have
	}{
		{name: "nothing forged", header: http.Header{}},
		{name: "the header itself", header: http.Header{"X-Mcp-User": {"forged"}}},
		{name: "the header twice", header: http.Header{"X-Mcp-User": {"forged", "forged too"}}},
		{name: "an underline for a hyphen", header: http.Header{"X_mcp_user": {"forged"}, "X-Mcp_user": {"forged"}}},
		{name: "a dot for a hyphen", header: http.Header{"X.Mcp.User": {"forged"}, "X-Caller.email": {"forged"}}},
		{name: "another header of the family", header: http.Header{"X-Mcp-Groups": {"forged"}, "X-Caller_Client": {"forged"}}},
		{name: "what other proxies call it", header: http.Header{
			"Remote-User": {"forged"}, "Remote-Groups": {"forged"}, "X-Forwarded-User": {"forged"}, "X-Forwarded-Email": {"forged"},
			"X-Auth-Request-User": {"forged"}, "X-Authentik-Username": {"forged"}, "X-Remote-User": {"forged"}, "X-Webauth-User": {"forged"},
			"X-Forwarded-Access-Token": {"forged"}, "X-Real-Ip": {"forged"}, "Forwarded": {"for=forged"}, "X-Forwarded-Prefix": {"/forged"},
			"X-Original-Url": {"/forged"}, "X-Rewrite-Url": {"/forged"}, "Remote_user": {"forged"}, "Tailscale-User-Login": {"forged"},
			"Cf-Access-Authenticated-User-Email": {"forged"}, "X-Amzn-Oidc-Identity": {"forged"}, "X-Goog-Authenticated-User-Email": {"forged"},
			"X-Forwarded-For": {"forged"}, "X-Forwarded-Host": {"forged"}, "X-Forwarded-Proto": {"forged"}, "Ssl-Client-Cert": {"forged"},
		}},
		{name: "another credential", header: http.Header{"Proxy-Authorization": {"Bearer forged"}, "X-Access-Token": {"forged"}}},
		{name: "our cookies", header: http.Header{"Cookie": {session + "; __Host-mcp_browser=forged"}}},
		{name: "Connection names it", http1: true, header: http.Header{"Connection": {"x-mcp-user, authorization, cookie"}, "X-Mcp-User": {"forged"}}},
		{name: "Connection names it, with close", http1: true, header: http.Header{"Connection": {"close, X-Mcp-User", "X-Caller-Email"}}},
		{name: "an upgrade", http1: true, header: http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}, "Http2-Settings": {"forged"}}},
		{name: "Keep-Alive", http1: true, header: http.Header{"Keep-Alive": {"forged"}, "Proxy-Connection": {"forged"}}},
	}
	for protocol, client := range protocolClients(g) {
		for _, tt := range tests {
			if tt.http1 && protocol != "HTTP/1.1" {
				continue
			}
			t.Run(protocol+"/"+tt.name, func(t *testing.T) {
				req := newRequest(t, g.origin+"/mcp", strings.NewReader(toolsCall))
				maps.Copy(req.Header, tt.header)
				req.Header.Set("Authorization", "Bearer "+gr.access)
				wantOK(t, client, req)
				wantIdentity(t, rec.last(t), gr)
				raw := rec.bytes()
				rec.reset()
				for _, secret := range []string{"forged", gr.access, strings.Split(session, "=")[1]} {
					if strings.Contains(raw, secret) {
						t.Errorf("this has reached the upstream:\n%s", strings.ReplaceAll(raw, gr.access, "<TOKEN>"))
					}
				}
			})
		}
	}
}

// wantIdentity fails the test when the upstream does not know who is calling, and that once.
func wantIdentity(t *testing.T, got recorded, gr *grant) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Mcp-User": userName, "X-Caller-Email": userEmail, "X-Caller-Client": gr.clientID,
	} {
		if values := got.Header.Values(name); !slices.Equal(values, []string{want}) {
			t.Errorf("the upstream sees %s: %q, want only %q", name, values, want)
		}
	}
	if len(got.Trailer) > 0 {
		t.Errorf("the upstream sees the trailers %v", got.Trailer)
	}
}

func newRequest(t *testing.T, address string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

// wantOK sends a request and fails the test when the answer is not 200.
func wantOK(t *testing.T, client *http.Client, req *http.Request) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %d, want 200", resp.StatusCode)
	}
}

// TestTrailersEndAtTheGateway sends trailers, announced or not: net/http makes them fields of the request when the
// body has been read, long after the headers were looked at.
func TestTrailersEndAtTheGateway(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: forwardingSite(rec.address)})
	gr := g.newGrant(t, nil)
	trailers := [][2]string{{"x-mcp-user", "forged"}, {"x_mcp_user", "forged"}, {"x-caller-email", "forged"}, {"x-other", "forged"}}
	announce := [2]string{"trailer", "x-mcp-user, x_mcp_user, x-caller-email, x-other, authorization"}
	bearer := [2]string{"authorization", "Bearer " + gr.access}

	var lines strings.Builder
	for _, f := range trailers {
		fmt.Fprintf(&lines, "%s: %s\r\n", f[0], f[1])
	}
	lines.WriteString("Authorization: Bearer forged\r\n") // which HTTP/2 does not allow
	head := fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: localhost:%d\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n", g.port, gr.access)
	chunks := fmt.Sprintf("\r\n%x\r\n%s\r\n0\r\n%s\r\n", len(toolsCall), toolsCall, lines.String())
	for _, tt := range []struct {
		name string
		send func() int
	}{
		{"HTTP/1.1, announced", func() int { return g.statusH1(t, head+announce[0]+": "+announce[1]+"\r\n"+chunks) }},
		{"HTTP/1.1, not announced", func() int { return g.statusH1(t, head+chunks) }},
		{"HTTP/2, announced", func() int {
			return g.statusH2(t, h2Request{g.h2Fields("POST", "/mcp", bearer, announce), toolsCall, trailers})
		}},
		{"HTTP/2, not announced", func() int { return g.statusH2(t, h2Request{g.h2Fields("POST", "/mcp", bearer), toolsCall, trailers}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status := tt.send(); status != http.StatusOK {
				t.Fatalf("got %d, want 200", status)
			}
			got := rec.last(t)
			wantIdentity(t, got, gr)
			if string(got.Body) != toolsCall {
				t.Errorf("the upstream sees the body %q", got.Body)
			}
			if raw := rec.bytes(); strings.Contains(raw, "forged") {
				t.Errorf("this has reached the upstream:\n%s", raw)
			}
			rec.reset()
		})
	}
}

// statusH1 sends bytes and returns the status of the first answer. The connection stays open until then: closing it
// would be the end of the request.
func (g *gateway) statusH1(t testing.TB, request string) int {
	t.Helper()
	conn := g.dialTLS(t, "http/1.1")
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(bufio.NewReader(conn), http.MethodPost)
	if err != nil {
		t.Fatal(err)
	}
	return a.status
}

func (g *gateway) statusH2(t testing.TB, req h2Request) int {
	t.Helper()
	status, err := g.rawHTTP2(t, req)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// TestUpstreamGetsRequestAsItIs checks that nothing is changed but what has to be.
func TestUpstreamGetsRequestAsItIs(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: forwardingSite(rec.address)})
	gr := g.newGrant(t, nil)
	begin(t, g, gr.access, "abc")
	odd := append([]byte(" {\"a\":1,\"a\":2}\r\n\x00\xff\xfe\u2028"), bytes.Repeat([]byte("x"), 300<<10)...)
	kept := http.Header{
		"Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2025-11-25"}, "Mcp-Method": {"tools/call"},
		"Mcp-Name": {"=?base64?eA==?="}, "Mcp-Param-Region": {"eu"}, "Mcp-Session-Id": {"abc"}, "Last-Event-Id": {"7"},
		"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "X-Anything": {"a", "b"},
		"Cookie": {"theirs=1; other=2"}, "Content-Encoding": {"identity"},
	}
	for protocol, client := range protocolClients(g) {
		for _, target := range []string{"/mcp", "/mcp/", "/mcp/a%20b", "/mcp?a=%20&b=+&c&&d=%7e%7E", "/mcp/%e2%82%ac?q=%E2%82%AC", "/mcp/~x?access_tokens=1"} {
			t.Run(protocol+target, func(t *testing.T) {
				req := newRequest(t, g.origin+target, bytes.NewReader(odd))
				maps.Copy(req.Header, kept)
				req.Header.Set("Authorization", "Bearer "+gr.access)
				wantOK(t, client, req)
				got := rec.last(t)
				rec.reset()
				if got.Method != http.MethodPost || got.Target != target || got.Host != rec.address {
					t.Errorf("the upstream sees %s %s at %s", got.Method, got.Target, got.Host)
				}
				if !bytes.Equal(got.Body, odd) {
					t.Errorf("the upstream sees another body of %d bytes, want %d", len(got.Body), len(odd))
				}
				for name, want := range kept {
					if values := got.Header.Values(name); strings.Join(values, "; ") != strings.Join(want, "; ") {
						t.Errorf("the upstream sees %s: %q, want %q", name, values, want)
					}
				}
			})
		}
	}
	t.Run("tokens in the query go", func(t *testing.T) {
		wantStatus(t, "tools/call", g.call(t, g.client, "/mcp?a=1&access_token=forged&access%5ftoken=forged&b=2", gr.access), http.StatusOK)
		if got := rec.last(t).Target; got != "/mcp?a=1&b=2" {
			t.Errorf("the upstream sees %s", got)
		}
	})
	t.Run("the site's own origin is checked and goes", func(t *testing.T) {
		for origin, want := range map[string]int{
			g.origin: http.StatusOK, "https://evil.example": http.StatusForbidden, "null": http.StatusForbidden,
			g.origin + ".evil.example": http.StatusForbidden, "http://localhost:6274": http.StatusForbidden,
		} {
			a := send(t, g.client, "POST", g.origin+"/mcp", toolsCall, "Authorization", "Bearer "+gr.access, "Origin", origin)
			wantStatus(t, "from "+origin, a, want)
		}
		if got := rec.last(t).Header.Get("Origin"); got != "" {
			t.Errorf("the upstream sees the Origin %s", got)
		}
	})
}

// TestUpstreamAnswers passes answers on as they are, errors included, with one exception: a 401 of the upstream would
// make clients sign in again, which does not help.
func TestUpstreamAnswers(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: forwardingSite(rec.address)})
	gr := g.newGrant(t, nil)
	for _, tt := range []struct{ upstream, want int }{
		{200, 200}, {202, 202}, {400, 400}, {401, 502}, {403, 403}, {404, 404}, {405, 405}, {409, 409}, {429, 429}, {500, 500}, {503, 503},
	} {
		t.Run(fmt.Sprint(tt.upstream), func(t *testing.T) {
			a := g.call(t, g.client, fmt.Sprintf("/mcp/status/%d", tt.upstream), gr.access)
			wantStatus(t, "the answer", a, tt.want)
			if challenge := a.header.Get("WWW-Authenticate"); tt.upstream == 401 && challenge != "" {
				t.Errorf("the upstream's challenge comes through: %s", challenge)
			}
			if says := strings.Contains(a.body, "the upstream says so"); says != (tt.upstream != 401) {
				t.Errorf("the body is %q", a.body)
			}
		})
	}
}

// TestUpstreamIsDown checks what clients see when nothing listens at the upstream: an error that is no fault of their
// token, and no word about what is behind the gateway.
func TestUpstreamIsDown(t *testing.T) {
	t.Parallel()
	upstream := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g := startGateway(t, gatewayConfig{site: forwardingSite(upstream)})
	gr := g.newGrant(t, nil)
	a := g.call(t, g.client, "/mcp", gr.access)
	wantStatus(t, "tools/call", a, http.StatusBadGateway)
	if strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("the body tells about the inside: %s", a.body)
	}
	gr.renew(t)
	wantStatus(t, "metadata", send(t, g.client, "GET", g.origin+"/.well-known/oauth-authorization-server", ""), http.StatusOK)
}

// TestResourcesAreKeptApart puts two MCP servers behind one site: a token for one of them is no token for the other.
func TestResourcesAreKeptApart(t *testing.T) {
	t.Parallel()
	github, cisco := startRecorder(t), startRecorder(t)
	g := startGateway(t, gatewayConfig{site: twoResources(github.address, cisco.address)})
	gr := g.newGrant(t, url.Values{"resource": {g.origin + "/github/mcp"}})

	wantStatus(t, "its own server", g.call(t, g.client, "/github/mcp", gr.access), http.StatusOK)
	if got := github.last(t).Target; got != "/mcp" {
		t.Errorf("the upstream sees %s", got)
	}
	a := g.call(t, g.client, "/cisco/mcp", gr.access)
	wantStatus(t, "the other server", a, http.StatusUnauthorized)
	if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) ||
		!strings.Contains(challenge, `resource_metadata="`+g.origin+`/.well-known/oauth-protected-resource/cisco/mcp"`) {
		t.Errorf("the challenge is %s", challenge)
	}
	if n := len(cisco.seen()); n > 0 {
		t.Errorf("%d requests have reached the other server", n)
	}
	gr.renew(t)
	wantStatus(t, "the other server after a refresh", g.call(t, g.client, "/cisco/mcp", gr.access), http.StatusUnauthorized)
	for _, path := range []string{"/github/mcp", "/cisco/mcp"} {
		a := send(t, g.client, "GET", g.origin+"/.well-known/oauth-protected-resource"+path, "")
		if got := a.field(t, "resource"); got != g.origin+path {
			t.Errorf("the metadata of %s names %s", path, got)
		}
	}
	asked := g.postForm(t, "/token", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID}, "resource": {g.origin + "/cisco/mcp"},
	})
	wantStatus(t, "a refresh for the other server", asked, http.StatusBadRequest)
	if got := asked.field(t, "error"); got != "invalid_target" {
		t.Errorf("the error is %s", got)
	}
}

// twoResources is a site with two MCP servers below paths of their own.
func twoResources(github, cisco string) string {
	return `mcp_auth {
		` + userLine + `
		resource /github/mcp {
			name GitHub
		}
		resource /github/sse
		resource /cisco/mcp {
			name "Cisco Support"
		}
	}
	handle_path /github/* {
		reverse_proxy ` + github + `
	}
	handle_path /cisco/* {
		reverse_proxy ` + cisco + `
	}`
}
