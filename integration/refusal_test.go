package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestNothingPassesWithoutToken sends what attackers send: whatever the path, the method or the headers, no byte of a
// request without a token in its Authorization header may reach the upstream. Each form of the directive gets all of it.
func TestNothingPassesWithoutToken(t *testing.T) {
	t.Parallel()
	for _, form := range []struct{ name, site, path string }{
		{"shortcut", "mcp_auth UPSTREAM {\n" + userLine + "\n}", "/mcp"},
		{"guard", "mcp_auth {\n" + userLine + "\n}\nreverse_proxy UPSTREAM", "/mcp"},
		{"guard with resources", `mcp_auth {
			resource /github/mcp
			resource /cisco/mcp
			` + userLine + `
		}
		handle_path /github/* {
			reverse_proxy UPSTREAM
		}
		reverse_proxy UPSTREAM`, "/github/mcp"},
	} {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			rec := startRecorder(t)
			g := startGateway(t, gatewayConfig{site: strings.ReplaceAll(form.site, "UPSTREAM", rec.address)})
			gr := g.newGrant(t, nil)
			g.forgetSecrets() // tokens are sent where they do not belong, and where the log cannot tell them apart
			session := sessionCookie(t, gr.visitor)

			for name, request := range unauthenticatedHTTP1(g, form.path, gr.access, session) {
				g.rawHTTP1(t, request)
				wantNothing(t, rec, "HTTP/1.1: "+name)
			}
			for name, request := range unauthenticatedHTTP2(g, form.path, gr.access, session) {
				if status, err := g.rawHTTP2(t, request); err == nil && (status < 400 || status > 499) && !strings.HasPrefix(name, "public") {
					t.Errorf("HTTP/2: %s: got %d, want a refusal", name, status)
				}
				wantNothing(t, rec, "HTTP/2: "+name)
			}
			client := g.newClient(g.http3())
			for name, req := range unauthenticatedHTTP3(t, g, form.path, gr.access) {
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
				}
				wantNothing(t, rec, "HTTP/3: "+name)
			}

			// Proof that the recorder would have seen it.
			wantStatus(t, "with a token", g.call(t, g.client, form.path, gr.access), http.StatusOK)
			rec.last(t)
		})
	}
}

// wantNothing names what got through.
func wantNothing(t *testing.T, rec *recorder, name string) {
	t.Helper()
	if n := len(rec.seen()); n > 0 || rec.bytes() != "" {
		t.Errorf("this reached the upstream without a token: %s", name)
		rec.reset()
	}
}

// sessionCookie is the cookie that says who is signed in. It is no credential for the MCP server.
func sessionCookie(t *testing.T, v *visitor) string {
	t.Helper()
	origin, err := url.Parse(v.g.origin)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range v.client.Jar.Cookies(origin) {
		out = append(out, c.String())
	}
	if !strings.Contains(strings.Join(out, "; "), "mcp_session=") {
		t.Fatalf("nobody is signed in: the cookies are %q", out)
	}
	return strings.Join(out, "; ")
}

// targets are spellings of a protected path, and paths that pretend to be public ones.
func targets(path string) []string {
	dir, base := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	return []string{
		path, path + "/", path + "/x", strings.ToUpper(path), dir + strings.ToUpper(base[:1]) + base[1:],
		path + "%2f", path + "%2F..%2f" + base, dir + "%" + fmt.Sprintf("%02x", base[0]) + base[1:],
		strings.ReplaceAll(path, "/", "%2f"), path + ";", path + ";x=1", "/;" + path, dir + ";/" + base, dir + base + "/;/x",
		"/" + path, "//" + path, dir + "/" + base, "/." + path, "/x/.." + path, "/%2e" + path, "/x/%2e%2e" + path,
		path + "/.", path + "/..", path + "/../health", path + "/%2e%2e/health", path + "/..;/health", path + "\\..\\health",
		"/health/.." + path, "/health/..;" + path, "/health%2f.." + path, "/health%2f%2e%2e" + path, "/health;" + path, "/health/" + path,
		"/.well-known/.." + path, "/.well-known/oauth-protected-resource/../.." + path, "/.well-known/oauth-protected-resource/%2e%2e/%2e%2e" + path,
		"/authorize/.." + path, "/token/.." + path, "/register%2f.." + path, "/" + path + "/../authorize",
		path + "%00", path + "%00.html", "/health%00/.." + path, path + "%0d%0aX:%20y", path + "%09", path + "%20", "/%20" + path,
		path + "?", path + "?x=/health", path + "?/../health", path + "#/health", path + "%23", path + "%3f",
		"/\\" + path, "\\" + path, path + "%5c", path + "%252f", "/%252e%252e" + path, path + "%c0%af", "/%c0%ae%c0%ae" + path,
		path + "%ff", path + "%ef%bc%8f", path + ".", path + "~", path + ".json", path + "%", path + "%zz",
		"/sse", "/messages", "/messages?sessionId=1", "/messages/", "/sse/", "/", "/favicon.ico", "/robots.txt", "/whoami", "/health/", "/health/x",
		"/HEALTH", "/token/x", "/account/x", "/.well-known", "/.well-known/", "/.well-known/x", "/.WELL-KNOWN/oauth-protected-resource",
	}
}

// methods are all that servers know, and some that they do not.
var methods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MOVE", "PRI", "QUERY", "get", "Post", "X", "M-SEARCH",
}

// headerTricks are headers that some server somewhere takes for authentication or for another path. token is a valid
// token, so that the only thing wrong is where it stands.
func headerTricks(token, session string) map[string][][2]string {
	bearer := "Bearer " + token
	return map[string][][2]string{
		"two fields, both good":           {{"authorization", bearer}, {"authorization", bearer}},
		"two fields, the first good":      {{"authorization", bearer}, {"authorization", "Bearer x"}},
		"two fields, the second good":     {{"authorization", "Basic eDp5"}, {"authorization", bearer}},
		"a list":                          {{"authorization", bearer + ", " + bearer}},
		"a list with Basic":               {{"authorization", "Basic eDp5, " + bearer}},
		"another scheme":                  {{"authorization", "Token " + token}},
		"no scheme":                       {{"authorization", token}},
		"no token":                        {{"authorization", "Bearer"}},
		"an empty field":                  {{"authorization", ""}},
		"quotes":                          {{"authorization", `Bearer "` + token + `"`}},
		"something behind it":             {{"authorization", bearer + " x"}},
		"Basic":                           {{"authorization", "Basic " + token}},
		"Proxy-Authorization":             {{"proxy-authorization", bearer}},
		"X-Authorization":                 {{"x-authorization", bearer}},
		"X-Forwarded-Authorization":       {{"x-forwarded-authorization", bearer}},
		"X-Forwarded-Access-Token":        {{"x-forwarded-access-token", token}},
		"X-Access-Token":                  {{"x-access-token", token}},
		"Authorization with an underline": {{"authorization_", bearer}, {"x_authorization", bearer}},
		"a cookie":                        {{"cookie", "access_token=" + token + "; Authorization=" + token}},
		"the session cookie":              {{"cookie", session}},
		"an identity header":              {{"x-forwarded-user", userName}, {"remote-user", userName}, {"x-mcp-user", userName}},
		"X-Original-URL":                  {{"x-original-url", "/health"}, {"x-rewrite-url", "/health"}, {"x-original-uri", "/health"}},
		"X-Forwarded-Uri":                 {{"x-forwarded-uri", "/health"}, {"x-forwarded-prefix", "/health"}, {"x-forwarded-method", "OPTIONS"}},
		"X-HTTP-Method-Override":          {{"x-http-method-override", "OPTIONS"}, {"x-method-override", "OPTIONS"}},
		"a preflight by POST":             {{"origin", "https://evil.example"}, {"access-control-request-method", "POST"}},
		"a local address":                 {{"x-forwarded-for", "127.0.0.1"}, {"x-real-ip", "127.0.0.1"}, {"forwarded", "for=127.0.0.1;host=localhost"}},
		"a health check":                  {{"user-agent", "kube-probe/1.30"}, {"user-agent", "GoogleHC/1.0"}},
		"another host":                    {{"x-forwarded-host", "evil.example"}, {"x-forwarded-proto", "http"}, {"x-forwarded-port", "80"}},
		"a Caddy placeholder":             {{"authorization", "Bearer {http.auth.user.id}"}, {"x-mcp-user", "{env.HOME}"}},
	}
}

// unauthenticatedHTTP1 are requests in bytes.
func unauthenticatedHTTP1(g *gateway, path, token, session string) map[string]string {
	host := fmt.Sprintf("localhost:%d", g.port)
	request := func(method, target, more string) string {
		return method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/json\r\n" + more + "\r\n"
	}
	body := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(toolsCall), toolsCall)
	out := map[string]string{}
	for _, target := range append(targets(path), "*", "mcp", "http://"+host+path, "https://"+host+path, "http://evil.example"+path, "//"+host+path, "http:"+path, "/"+path+" HTTP/1.1") {
		out["GET "+target] = request("GET", target, "")
		out["POST "+target] = request("POST", target, body)
	}
	for _, method := range methods {
		out[method] = request(method, path, "")
		out[method+" with a body"] = request(method, path, body)
	}
	out["CONNECT the upstream"] = "CONNECT 127.0.0.1:3000 HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n"
	out["CONNECT itself"] = "CONNECT " + host + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	for name, fields := range headerTricks(token, session) {
		var lines strings.Builder
		for _, f := range fields {
			fmt.Fprintf(&lines, "%s: %s\r\n", f[0], f[1])
		}
		out[name] = request("POST", path, lines.String()+body)
	}
	form := "access_token=" + token + "&token=" + token
	out["a form"] = "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(form), form)
	out["the query"] = request("POST", path+"?access_token="+token+"&token="+token, body)
	out["a trailer"] = request("POST", path, "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer "+token+"\r\n")
	out["user information"] = request("POST", "http://"+token+"@"+host+path, body)
	for _, other := range []string{"localhost.", "LOCALHOST", "127.0.0.1", "evil.example", "", host + "@evil.example", "localhost:80", "[::1]", "localhost\tx"} {
		out["Host: "+other] = strings.Replace(request("POST", path, body), "Host: "+host, "Host: "+other, 1)
	}
	out["no Host"] = strings.Replace(request("POST", path, body), "Host: "+host+"\r\n", "", 1)
	out["two Hosts"] = request("POST", path, "Host: evil.example\r\n"+body)
	out["HTTP/1.0"] = strings.Replace(request("POST", path, body), "HTTP/1.1", "HTTP/1.0", 1)
	out["HTTP/0.9"] = "GET " + path + "\r\n"
	out["HTTP/9.9"] = strings.Replace(request("GET", path, ""), "HTTP/1.1", "HTTP/9.9", 1)
	out["websocket"] = request("GET", path, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
	out["h2c"] = request("GET", path, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")
	out["Expect"] = request("POST", path, "Expect: 100-continue\r\n"+body)
	for name, shape := range smugglingShapes("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n") {
		out["smuggled behind a public path: "+name] = "POST /health HTTP/1.1\r\nHost: " + host + "\r\n" + shape
		out["smuggled behind a refusal: "+name] = "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + shape
	}
	return out
}

// unauthenticatedHTTP2 are requests in frames.
func unauthenticatedHTTP2(g *gateway, path, token, session string) map[string]h2Request {
	out := map[string]h2Request{}
	for _, target := range targets(path) {
		name := "POST " + target
		if target == "/" {
			name = "public " + name
		}
		out[name] = h2Request{fields: g.h2Fields("POST", target), body: toolsCall}
	}
	for _, method := range methods {
		out[method] = h2Request{fields: g.h2Fields(method, path)}
	}
	for name, fields := range headerTricks(token, session) {
		out[name] = h2Request{fields: g.h2Fields("POST", path, fields...), body: toolsCall}
	}
	authority := fmt.Sprintf("localhost:%d", g.port)
	fields := func(f ...[2]string) h2Request { return h2Request{fields: f, body: toolsCall} }
	out["a trailer"] = h2Request{g.h2Fields("POST", path, [2]string{"trailer", "authorization"}), toolsCall, [][2]string{{"authorization", "Bearer " + token}}}
	out["CONNECT"] = fields([2]string{":method", "CONNECT"}, [2]string{":authority", authority})
	out["extended CONNECT"] = h2Request{fields: g.h2Fields("CONNECT", path, [2]string{":protocol", "websocket"}, [2]string{"sec-websocket-version", "13"})}
	out["two paths"] = fields([2]string{":method", "POST"}, [2]string{":scheme", "https"}, [2]string{":authority", authority},
		[2]string{":path", "/health"}, [2]string{":path", path})
	out["no path"] = fields([2]string{":method", "POST"}, [2]string{":scheme", "https"}, [2]string{":authority", authority})
	out["an empty path"] = h2Request{fields: g.h2Fields("POST", ""), body: toolsCall}
	out["a path without a slash"] = h2Request{fields: g.h2Fields("POST", strings.TrimPrefix(path, "/")), body: toolsCall}
	out["an absolute path"] = h2Request{fields: g.h2Fields("POST", "https://"+authority+path), body: toolsCall}
	out["a path with a space"] = h2Request{fields: g.h2Fields("POST", path+" HTTP/1.1"), body: toolsCall}
	out["a path with a line break"] = h2Request{fields: g.h2Fields("POST", path+"\r\nAuthorization: Bearer "+token), body: toolsCall}
	out["a header with a line break"] = h2Request{fields: g.h2Fields("POST", path, [2]string{"x", "y\r\nauthorization: Bearer " + token}), body: toolsCall}
	out["a pseudo-header at the end"] = h2Request{fields: append(g.h2Fields("POST", path, [2]string{"x", "y"}), [2]string{":path", "/health"}), body: toolsCall}
	out["a header in capitals"] = h2Request{fields: g.h2Fields("POST", path, [2]string{"Authorization", "Bearer " + token}), body: toolsCall}
	out["Transfer-Encoding"] = h2Request{fields: g.h2Fields("POST", path, [2]string{"transfer-encoding", "chunked"}), body: "0\r\n\r\nGET " + path + " HTTP/1.1\r\n\r\n"}
	out["a wrong Content-Length"] = h2Request{fields: g.h2Fields("POST", path, [2]string{"content-length", "1"}), body: toolsCall}
	out["Connection"] = h2Request{fields: g.h2Fields("POST", path, [2]string{"connection", "upgrade"}, [2]string{"upgrade", "h2c"}), body: toolsCall}
	return out
}

// unauthenticatedHTTP3 are those requests that the library can send over HTTP/3.
func unauthenticatedHTTP3(t *testing.T, g *gateway, path, token string) map[string]*http.Request {
	out := map[string]*http.Request{}
	for _, target := range targets(path) {
		u, err := url.Parse(g.origin + target)
		if err != nil {
			continue // what is no URL cannot be sent with the library
		}
		for _, method := range []string{"GET", "POST", "DELETE", "MOVE"} {
			req := &http.Request{Method: method, URL: u, Header: http.Header{}}
			out[method+" "+target] = req.WithContext(t.Context())
		}
	}
	for name, fields := range headerTricks(token, "x=y") {
		u, err := url.Parse(g.origin + path)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: "POST", URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(toolsCall))}
		for _, f := range fields {
			req.Header.Add(f[0], f[1])
		}
		out[name] = req.WithContext(t.Context())
	}
	return out
}

// TestRefusalDoesNotWaitForBody holds back the body of a request without a token. The answer must come nevertheless:
// every such request would otherwise hold a connection for a minute.
func TestRefusalDoesNotWaitForBody(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + "\n}"})
	head := "HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(g.port) + "\r\nContent-Type: application/json\r\n"
	form := strings.Replace(head, "application/json", formType, 1)
	endless := func(fill string) string {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", 128<<10, strings.Repeat(fill, 128<<10))
	}
	for _, tt := range []struct {
		name, request string
		want          int
	}{
		{"a body of known length", "POST /mcp " + head + "Content-Length: 1000\r\n\r\n", http.StatusUnauthorized},
		{"a body of 20 MiB", "POST /mcp " + head + "Content-Length: 20971520\r\n\r\n{", http.StatusUnauthorized},
		{"a body in chunks", "POST /mcp " + head + "Transfer-Encoding: chunked\r\n\r\n", http.StatusUnauthorized},
		{"a DELETE with a body", "DELETE /mcp " + head + "Content-Length: 1000\r\n\r\n", http.StatusUnauthorized},
		{"a bad token", "POST /mcp " + head + "Authorization: Bearer x\r\nContent-Length: 1000\r\n\r\n", http.StatusUnauthorized},
		{"no resource", "POST /nothing " + head + "Content-Length: 1000\r\n\r\n", http.StatusNotFound},
		{"an ambiguous path", "POST /mcp%2f " + head + "Content-Length: 1000\r\n\r\n", http.StatusBadRequest},
		{"a method that an endpoint does not have", "PUT /token " + head + "Content-Length: 1000\r\n\r\n", http.StatusMethodNotAllowed},
		{"metadata by POST", "POST /.well-known/oauth-protected-resource " + head + "Content-Length: 1000\r\n\r\n", http.StatusMethodNotAllowed},
		{"a form of another type", "POST /token " + head + "Content-Length: 1000\r\n\r\n", http.StatusBadRequest},
		{"a form that says it is too long", "POST /token " + form + "Content-Length: 99999999\r\n\r\n", http.StatusBadRequest},
		{"a form that gets too long", "POST /token " + form + endless("a"), http.StatusBadRequest},
		{"a registration that says it is too long", "POST /register " + head + "Content-Length: 99999999\r\n\r\n", http.StatusBadRequest},
		{"a registration that gets too long", "POST /register " + head + endless(" "), http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := g.dialTLS(t, "http/1.1")
			if _, err := io.WriteString(conn, tt.request); err != nil {
				t.Fatal(err)
			}
			wantAnswerNow(t, conn, tt.want)
		})
	}
}

// wantAnswerNow waits a second for an answer: a gateway that waits for the body sends none within a minute.
func wantAnswerNow(t *testing.T, conn *tls.Conn, want int) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(bufio.NewReader(conn), "POST")
	if err != nil {
		t.Fatalf("no answer within a second: %v", err)
	}
	wantStatus(t, "the answer", a, want)
}
