package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// forbidden is a call of a tool whose scope the token does not have.
const forbidden = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_case","arguments":{"title":"x","description":"y"}}}`

// framings are ways to send a call of create_case so that one program sees it and another does not. Each is what stands
// behind the Host and Authorization lines.
func framings(t *testing.T) map[string]string {
	post := func(path, headers, body string) string {
		return fmt.Sprintf("POST %s\r\n%sContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
	}
	const js = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	chunks := func(body string, size int) string {
		var b strings.Builder
		for ; body != ""; body = body[min(size, len(body)):] {
			n := min(size, len(body))
			fmt.Fprintf(&b, "%x;x=y\r\n%s\r\n", n, body[:n])
		}
		return b.String() + "0\r\n"
	}
	out := map[string]string{
		"a header says tools/list":         post("/mcp", js+"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n", forbidden),
		"a header names another tool":      post("/mcp", js+"Mcp-Method: tools/call\r\nMcp-Name: get_bug_details\r\n", forbidden),
		"a header in Base64":               post("/mcp", js+"Mcp-Method: tools/call\r\nMcp-Name: =?base64?Z2V0X2J1Z19kZXRhaWxz?=\r\n", forbidden),
		"two headers":                      post("/mcp", js+"Mcp-Name: get_bug_details\r\nMcp-Name: create_case\r\n", forbidden),
		"a header forbids what a body may": post("/mcp", js+"Mcp-Method: tools/call\r\nMcp-Name: create_case\r\n", toolsCall),
		"UTF-16":                           post("/mcp", "Content-Type: application/json; charset=utf-16\r\n", asUTF16(forbidden)),
		"text":                             post("/mcp", "Content-Type: text/plain\r\n", forbidden),
		"no type":                          post("/mcp", "", forbidden),
		"two types":                        post("/mcp", js+"Content-Type: text/plain\r\n", forbidden),
		"a form with the call":             post("/mcp", "Content-Type: multipart/form-data; boundary=x\r\n", "--x\r\nContent-Disposition: form-data; name=body\r\n\r\n"+forbidden+"\r\n--x--\r\n"),
		"gzip":                             post("/mcp", js+"Content-Encoding: gzip\r\n", zipped(t, forbidden)),
		"a compression that is none":       post("/mcp", js+"Content-Encoding: br\r\n", forbidden),
		"chunks of one byte":               "POST /mcp\r\n" + js + "Transfer-Encoding: chunked\r\n\r\n" + chunks(forbidden, 1) + "\r\n",
		"chunks with trailers":             "POST /mcp\r\n" + js + "Trailer: Mcp-Name, Content-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(forbidden, 7) + "Mcp-Name: get_bug_details\r\nContent-Encoding: gzip\r\n\r\n",
		"too many chunks":                  "POST /mcp\r\n" + js + "Transfer-Encoding: chunked\r\n\r\n" + chunks(strings.Repeat(" ", 5<<20)+forbidden, 1<<16) + "\r\n",
		"Expect":                           post("/mcp", js+"Expect: 100-continue\r\n", forbidden),
		"GET":                              strings.Replace(post("/mcp", js, forbidden), "POST", "GET", 1),
		"GET in chunks":                    "GET /mcp\r\n" + js + "Transfer-Encoding: chunked\r\n\r\n" + chunks(forbidden, 50) + "\r\n",
		"GET that says POST":               strings.Replace(post("/mcp", js+"X-HTTP-Method-Override: POST\r\n", forbidden), "POST", "GET", 1),
		"DELETE":                           strings.Replace(post("/mcp", js, forbidden), "POST", "DELETE", 1),
		"PUT":                              strings.Replace(post("/mcp", js, forbidden), "POST", "PUT", 1),
		"QUERY":                            strings.Replace(post("/mcp", js, forbidden), "POST", "QUERY", 1),
		"the old transport":                post("/messages?sessionid=abc", "Content-Type: application/json\r\n", forbidden),
		"the old transport, two names":     post("/messages?sessionid=abc", "Content-Type: application/json\r\n", strings.Replace(forbidden, `"name"`, `"name":"get_bug_details","name"`, 1)),
		"at the stream of the old":         post("/sse", "Content-Type: application/json\r\n", forbidden),
		"below the path":                   post("/mcp/x", js, forbidden),
		"a letter of the path in hex":      post("/%6dcp", js, forbidden),
		"two slashes in the path":          post("/mcp//x", js, forbidden),
		"an absolute address":              post("https://localhost/mcp", js, forbidden),
		"POST that says GET":               post("/mcp", js+"X-HTTP-Method-Override: GET\r\n", forbidden),
		"an upgrade":                       post("/mcp", js+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", forbidden),
		"a slash behind the path":          post("/mcp/", js, forbidden),
	}
	for name, body := range disguises(t) {
		out[name] = post("/mcp", js, body)
	}
	return out
}

// disguises are bodies that one program reads as a call of create_case and another does not.
func disguises(t *testing.T) map[string]string {
	return map[string]string{
		"as it is":                        forbidden,
		"a batch":                         "[" + toolsCall + "," + forbidden + "]",
		"a batch of one":                  "[" + forbidden + "]",
		"a batch in a batch":              "[[" + forbidden + "]]",
		"a notification":                  strings.Replace(forbidden, `"id":1,`, "", 1),
		"two methods":                     strings.Replace(forbidden, `"method"`, `"method":"ping","method"`, 1),
		"two methods, the other way":      strings.Replace(forbidden, `"params"`, `"method":"ping","params"`, 1),
		"two names":                       strings.Replace(forbidden, `"name"`, `"name":"get_bug_details","name"`, 1),
		"two names, the other way":        strings.Replace(forbidden, `"arguments"`, `"name":"get_bug_details","arguments"`, 1),
		"two params":                      strings.Replace(forbidden, `"params"`, `"params":{"name":"get_bug_details"},"params"`, 1),
		"Method":                          strings.Replace(forbidden, `"method"`, `"Method"`, 1),
		"ping and Method":                 strings.Replace(forbidden, `"method"`, `"method":"ping","METHOD"`, 1),
		"NAME":                            strings.Replace(forbidden, `"name"`, `"name":"get_bug_details","NAME"`, 1),
		"paramſ":                          strings.Replace(forbidden, `"params"`, `"params":{"name":"get_bug_details"},"paramſ"`, 1),
		"__proto__":                       `{"jsonrpc":"2.0","id":1,"__proto__":` + forbidden + `}`,
		"__proto__ in the params":         strings.Replace(forbidden, `"name":"create_case"`, `"name":"get_bug_details","__proto__":{"name":"create_case"}`, 1),
		"escapes":                         strings.NewReplacer("tools/call", `t\u006fols\/call`, "create_case", `cr\u0065ate\u005fcase`, `"name"`, `"n\u0061me"`).Replace(forbidden),
		"an escaped key beside the plain": strings.Replace(forbidden, `"name"`, `"n\u0061me":"get_bug_details","name"`, 1),
		"NUL behind the name":             strings.Replace(forbidden, "create_case", `create_case\u0000`, 1),
		"half of a surrogate pair":        strings.Replace(forbidden, "create_case", `create_case\ud800`, 1),
		"a space behind the method":       strings.Replace(forbidden, "tools/call", "tools/call ", 1),
		"another case of the method":      strings.Replace(forbidden, "tools/call", "Tools/Call", 1),
		"params in a list":                `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["create_case",{}]}`,
		"a method in a list":              strings.Replace(forbidden, `"tools/call"`, `["tools/call"]`, 1),
		"the method behind the params":    `{"params":{"name":"create_case","arguments":{}},"method":"tools/call","id":1,"jsonrpc":"2.0"}`,
		"a byte order mark":               "\xef\xbb\xbf" + forbidden,
		"a second message":                toolsCall + forbidden,
		"a second line":                   toolsCall + "\n" + forbidden,
		"a comment":                       "/**/" + forbidden,
		"bytes that are no UTF-8":         strings.Replace(forbidden, `"x"`, "\"\xff\"", 1),
		"UTF-16 without saying so":        asUTF16(forbidden),
		"gzip without saying so":          zipped(t, forbidden),
		"more than is read":               strings.Replace(forbidden, `"title":"x"`, `"title":"`+strings.Repeat("x", 5<<20)+`"`, 1),
		"a name behind much else":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"x":"` + strings.Repeat("x", 2<<20) + `"},"name":"create_case"}}`,
		"white space in front":            strings.Repeat(" ", 1<<20) + forbidden,
		"nested too deep":                 strings.Replace(forbidden, `"x"`, strings.Repeat("[", 5000)+strings.Repeat("]", 5000), 1),
		"a task":                          strings.Replace(forbidden, `"arguments"`, `"task":{"ttl":60000},"arguments"`, 1),
		"a tool in no scope":              strings.Replace(forbidden, "create_case", "update_case", 1),
		"a tool in no scope, in a batch":  "[" + toolsCall + "," + strings.Replace(forbidden, "create_case", "update_case", 1) + "]",
		"a name in another case":          strings.Replace(forbidden, "create_case", "Get_bug_details", 1),
	}
}

func asUTF16(s string) string {
	var b bytes.Buffer
	for _, unit := range utf16.Encode([]rune(s)) {
		b.WriteByte(byte(unit >> 8))
		b.WriteByte(byte(unit))
	}
	return b.String()
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestNoFramingCallsATool sends a call that the token has no scope for in every framing there is. The upstream, which
// keeps each byte that it gets, gets none.
func TestNoFramingCallsATool(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + toolScopes + "\n}"})
	gr := g.newGrant(t, nil)
	stream := openStream(t, g.client, g.origin+"/sse", gr.access)
	stream.want(endpointEvent) // which gives the session of the old transport
	rec.reset()
	for name, framing := range framings(t) {
		line, rest, _ := strings.Cut(framing, "\r\n")
		request := fmt.Sprintf("%s HTTP/1.1\r\nHost: localhost:%d\r\nAuthorization: Bearer %s\r\n%s", line, g.port, gr.access, rest)
		if got := rec.bytes(); got != "" {
			t.Fatalf("before %q the upstream has seen %q", name, tail(got, 300))
		}
		answers := g.rawHTTP1(t, request)
		if len(answers) != 1 {
			t.Errorf("%s: %d answers", name, len(answers))
			continue
		}
		a := answers[0]
		denied := a.status == http.StatusOK && strings.Contains(a.body, `"code":-32602`)
		if !denied && a.status != http.StatusForbidden && a.status != http.StatusBadRequest && a.status != http.StatusUnsupportedMediaType && a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d %s", name, a.status, tail(a.body, 200))
		}
		if got := rec.bytes(); got != "" {
			t.Errorf("%s: the upstream has seen %q", name, tail(got, 300))
			rec.reset()
		}
	}
	for name, req := range map[string]h2Request{
		"HTTP/2":               {body: forbidden},
		"HTTP/2 with trailers": {body: forbidden, trailers: [][2]string{{"mcp-name", "get_bug_details"}, {"content-encoding", "gzip"}}},
		"HTTP/2, two names":    {body: strings.Replace(forbidden, `"name"`, `"name":"get_bug_details","name"`, 1)},
	} {
		req.fields = g.h2Fields("POST", "/mcp", [2]string{"authorization", "Bearer " + gr.access}, [2]string{"content-type", "application/json"})
		if status, err := g.rawHTTP2(t, req); err != nil || status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("%s: %d, %v", name, status, err)
		}
	}
	req := h2Request{fields: g.h2Fields("GET", "/mcp", [2]string{"authorization", "Bearer " + gr.access}), body: forbidden}
	if status, err := g.rawHTTP2(t, req); err != nil || status != http.StatusBadRequest {
		t.Errorf("GET with a body over HTTP/2: %d, %v", status, err)
	}
	if got := rec.bytes(); got != "" {
		t.Errorf("over HTTP/2 the upstream has seen %q", tail(got, 300))
	}
	g.allowedFramings(t, rec, gr.access)
}

// allowedFramings sends what the token has a scope for in framings that are odd and clear. It arrives byte by byte.
func (g *gateway) allowedFramings(t *testing.T, rec *recorder, access string) {
	t.Helper()
	slow := func(body string) io.Reader {
		r, w := io.Pipe()
		go func() {
			for _, piece := range []string{body[:20], body[20:21], body[21:]} {
				_, _ = io.WriteString(w, piece)
				time.Sleep(20 * time.Millisecond)
			}
			w.Close()
		}()
		return r
	}
	for name, client := range map[string]*http.Client{"HTTP/1.1": g.newClient(g.http1()), "HTTP/2": g.newClient(g.http2()), "HTTP/3": g.newClient(g.http3())} {
		for what, body := range map[string]string{
			"a call": toolsCall, "a batch": "[" + toolsCall + `,{"jsonrpc":"2.0","method":"notifications/x"}]`, "white space": "\n\t" + toolsCall + "\r\n ",
			"escapes":     strings.Replace(toolsCall, "search_bugs", `se\u0061rch_bugs`, 1),
			"a large one": strings.Replace(toolsCall, "memory leak", strings.Repeat("memory ", 200_000), 1), "a method in no scope": `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		} {
			req := newRequest(t, g.origin+"/mcp", slow(body))
			req.Header.Set("Authorization", "Bearer "+access)
			req.Header.Set("Mcp-Param-X", "y")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s over %s: %v", what, name, err)
			}
			resp.Body.Close()
			got := rec.last(t)
			if resp.StatusCode != http.StatusOK || string(got.Body) != body || got.Header.Get("Mcp-Param-X") != "y" || got.Header.Get("Content-Length") != fmt.Sprint(len(body)) {
				t.Errorf("%s over %s: %d; the upstream has %d bytes of %d with %v", what, name, resp.StatusCode, len(got.Body), len(body), got.Header)
			}
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			wantStatus(t, method+" over "+name, send(t, client, method, g.origin+"/mcp", "", "Authorization", "Bearer "+access), http.StatusOK)
			if got := rec.last(t); got.Method != method || len(got.Body) > 0 {
				t.Errorf("%s over %s arrives as %s with %d bytes", method, name, got.Method, len(got.Body))
			}
		}
	}
}
