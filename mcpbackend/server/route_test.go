package server_test

import (
	"bufio"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

const (
	listTools = `{"jsonrpc":"2.0","method":"tools/list","id":1}`
	callTool  = `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search_bugs_by_keyword","arguments":{"keyword":"memory leak","severity":"3","page_index":1}},"id":1}`
	initReq   = `{"jsonrpc":"2.0","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}},"id":1}`
)

// Scripts POST one message without a session. What they get is plain JSON.
func TestBarePost(t *testing.T) {
	url := start(t, server.Options{})
	for _, tc := range []struct {
		name, body string
		header     []string
	}{
		{"as curl does", listTools, []string{"Accept", "*/*"}},
		{"as Python's requests does", callTool, []string{"Accept", "*/*", "Accept-Encoding", "gzip, deflate", "User-Agent", "python-requests/2.32"}},
		{"without Accept", listTools, nil},
		{"accepting JSON only", listTools, []string{"Accept", "application/json"}},
		{"accepting JSON with a weight", listTools, []string{"Accept", "text/html, application/JSON;q=0.9"}},
		{"accepting both", callTool, []string{"Accept", "application/json, text/event-stream"}},
		{"with a charset", listTools, []string{"Content-Type", "application/json; charset=utf-8"}},
		{"with a version of the past", listTools, []string{"Mcp-Protocol-Version", "2025-06-18"}},
		{"with Mcp-Method, as some older clients send it", listTools, []string{"Mcp-Method", "tools/list"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := send(t, "POST", url+"/mcp", tc.body, append([]string{"Content-Type", "application/json"}, tc.header...)...)
			if r.status != 200 || r.header.Get("Content-Type") != "application/json" || r.header.Get("Mcp-Session-Id") != "" {
				t.Fatalf("%d %v\n%s", r.status, r.header, r.body)
			}
			got := decode[rpcReply](t, r.body)
			if got.Error != nil || got.Result.IsError || len(got.Result.Tools) != 10 && got.Result.StructuredContent["total_results"] != 10.0 {
				t.Errorf("answer %s", r.body)
			}
		})
	}
}

func TestBarePostVariants(t *testing.T) {
	url := start(t, server.Options{MaxBody: 2000})
	for _, tc := range []struct {
		name, body string
		header     []string
		status     int
		want       string
	}{
		{name: "a batch of version 2025-03-26 gets an array", body: "[" + listTools + "]", status: 200, want: `[{"jsonrpc"`},
		{name: "a notification gets no body", body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`, status: 202},
		{name: "ping works", body: `{"jsonrpc":"2.0","method":"ping","id":7}`, status: 200, want: `"id":7`},
		{name: "an unknown tool is an invalid parameter", body: `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"nope"},"id":1}`, status: 200, want: `-32602`},
		{name: "a form is not JSON", body: listTools, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{name: "accepting HTML only is refused", body: listTools, header: []string{"Accept", "text/html"}, status: 400, want: "Accept must contain"},
		{name: "no JSON is malformed", body: `{`, status: 400, want: "malformed payload"},
		{name: "an empty body is refused", body: ``, status: 400, want: "non-empty body"},
		{name: "a body over the bound is refused", body: strings.Repeat(" ", 2001), status: 413, want: "exceeds 2000 bytes"},
		{name: "a body over the bound is refused with a session too", body: strings.Repeat(" ", 2001), header: []string{"Mcp-Session-Id", "x"}, status: 404},
		{name: "a version that never was is refused", body: listTools, header: []string{"Mcp-Protocol-Version", "2025-01-01"}, status: 400, want: "Unsupported protocol version"},
		{name: "an unknown session is gone, so that clients begin anew", body: listTools, header: []string{"Mcp-Session-Id", "x"}, status: 404, want: "session not found"},
		{name: "modern metadata without its header is refused", body: `{"jsonrpc":"2.0","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}},"id":1}`, status: 400, want: "-32020"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := send(t, "POST", url+"/mcp", tc.body, append([]string{"Content-Type", "application/json", "Accept", "*/*"}, tc.header...)...)
			if r.status != tc.status || !strings.Contains(r.body, tc.want) {
				t.Errorf("%d %s\nwant %d %s", r.status, r.body, tc.status, tc.want)
			}
		})
	}
}

// The session protocol, step by step.
func TestSessionByHand(t *testing.T) {
	url := start(t, server.Options{})
	jsonHeader := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}
	r := send(t, "POST", url+"/mcp", initReq, jsonHeader...)
	id := r.header.Get("Mcp-Session-Id")
	if r.status != 200 || id == "" || r.header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("initialize: %d %v", r.status, r.header)
	}
	if !strings.Contains(r.body, "Sample data") {
		t.Errorf("the instructions do not say that the data is invented: %s", r.body)
	}
	if !strings.Contains(r.body, `"capabilities":{"tools":{}}`) {
		t.Errorf("unexpected capabilities: %s", r.body)
	}
	session := append([]string{"Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-11-25"}, jsonHeader...)
	if r := send(t, "POST", url+"/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, session...); r.status != 202 {
		t.Errorf("initialized: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/mcp", callTool, session...); r.status != 200 || !strings.HasPrefix(r.body, "event: message\n") {
		t.Errorf("tools/call: %d %s", r.status, r.body)
	}
	if r := send(t, "DELETE", url+"/mcp", "", session...); r.status != 204 {
		t.Errorf("DELETE: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/mcp", callTool, session...); r.status != 404 {
		t.Errorf("after DELETE: %d %s", r.status, r.body)
	}
}

func TestModernByHand(t *testing.T) {
	url := start(t, server.Options{})
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	call := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + params + meta + `}}`
	}
	header := func(method string, more ...string) []string {
		return append([]string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream",
			"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}, more...)
	}
	for _, tc := range []struct {
		name, method, body string
		header             []string
		status             int
		want               string
	}{
		{"discovery", "POST", call("server/discover", ""), header("server/discover"), 200, `"2026-07-28"`},
		{"a tool call", "POST", call("tools/call", `"name":"get_bug_details","arguments":{"bug_ids":"CSCzz10001"},`), header("tools/call", "Mcp-Name", "get_bug_details"), 200, "CSCzz10001"},
		{"a session id is ignored", "POST", call("tools/list", ""), header("tools/list", "Mcp-Session-Id", "gone"), 200, "get_bug_details"},
		{"a name that is not the body's is refused", "POST", call("tools/call", `"name":"create_case","arguments":{},`), header("tools/call", "Mcp-Name", "get_bug_details"), 400, "-32020"},
		{"a method that is not the body's is refused", "POST", call("tools/call", `"name":"create_case","arguments":{},`), header("tools/list"), 400, "-32020"},
		{"an unknown method is not found", "POST", call("tools/nope", ""), header("tools/nope"), 404, "-32601"},
		{"a version of the future is refused", "POST", strings.ReplaceAll(call("tools/list", ""), "2026-07-28", "2999-01-01"), append(header("tools/list"), "Mcp-Protocol-Version", "2999-01-01"), 400, "-32022"},
		{"initialize is gone", "POST", call("initialize", ""), header("initialize"), 404, "-32601"},
		{"there is no GET", "GET", "", header(""), 405, ""},
		{"there is no DELETE", "DELETE", "", header(""), 405, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := send(t, tc.method, url+"/mcp", tc.body, tc.header...)
			if r.status != tc.status || !strings.Contains(r.body, tc.want) {
				t.Errorf("%d %s\nwant %d %s", r.status, r.body, tc.status, tc.want)
			}
		})
	}
}

func TestForeignHostIsRefusedOnLoopback(t *testing.T) {
	url := start(t, server.Options{})
	for _, tc := range []struct{ method, path, body string }{
		{"POST", "/mcp", listTools}, {"POST", "/mcp", initReq}, {"GET", "/mcp", ""}, {"GET", "/sse", ""}, {"POST", "/messages", listTools},
	} {
		r := send(t, tc.method, url+tc.path, tc.body, "Content-Type", "application/json", "Accept", "*/*", "Host", "mcp.example.com")
		if r.status != 403 || !strings.Contains(r.body, "invalid Host header") {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, r.status, r.body)
		}
	}
	if r := send(t, "POST", url+"/mcp", listTools, "Content-Type", "application/json", "Host", "localhost:80"); r.status != 200 {
		t.Errorf("localhost: %d %s", r.status, r.body)
	}
}

func TestForeignOriginIsRefusedOnDemand(t *testing.T) {
	open := start(t, server.Options{})
	guarded := start(t, server.Options{CrossOrigin: http.NewCrossOriginProtection()})
	header := []string{"Content-Type", "application/json", "Origin", "https://evil.example"}
	if r := send(t, "POST", open+"/mcp", listTools, header...); r.status != 200 {
		t.Errorf("without the check: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", guarded+"/mcp", listTools, header...); r.status != 403 {
		t.Errorf("with the check: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", guarded+"/messages?sessionid=x", listTools, header...); r.status != 403 {
		t.Errorf("with the check on /messages: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", guarded+"/mcp", listTools, header[:2]...); r.status != 200 {
		t.Errorf("with the check, without Origin: %d %s", r.status, r.body)
	}
}

// openSSE opens a stream and returns its lines.
func openSSE(t *testing.T, address string) *bufio.Scanner {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %d %v", address, res.StatusCode, res.Header)
	}
	return bufio.NewScanner(res.Body)
}

// next reads lines until one has the prefix, and returns the rest of it.
func next(t *testing.T, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return rest
		}
	}
	t.Fatalf("the stream ended (%v) before %q", lines.Err(), prefix)
	return ""
}

func TestSSEByHand(t *testing.T) {
	url := start(t, server.Options{KeepAlive: 20 * time.Millisecond})
	lines := openSSE(t, url+"/sse?anything=1")
	next(t, lines, "event: endpoint")
	endpoint := next(t, lines, "data: ")
	if !regexp.MustCompile(`^/messages\?sessionid=[A-Z0-9]{20,}$`).MatchString(endpoint) {
		t.Fatalf("endpoint %q", endpoint)
	}
	if r := send(t, "POST", url+endpoint, strings.Replace(initReq, "2025-11-25", "2024-11-05", 1), "Content-Type", "application/json"); r.status != 202 {
		t.Fatalf("initialize: %d %s", r.status, r.body)
	}
	for {
		if data := next(t, lines, "data: "); strings.Contains(data, `"protocolVersion":"2024-11-05"`) {
			break
		}
	}
	for {
		if data := next(t, lines, "data: "); strings.Contains(data, `"method":"ping"`) {
			return
		}
	}
}

func TestSSEPathsAndMethods(t *testing.T) {
	url := start(t, server.Options{})
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/sse", 405}, // clients that try streamable HTTP first then fall back
		{"GET", "/messages", 405},
		{"POST", "/messages", 400},
		{"POST", "/messages?sessionid=none", 404},
		{"GET", "/nowhere", 404},
		{"PUT", "/mcp", 405},
		{"OPTIONS", "/mcp", 405},
		{"GET", "/mcp", 400}, // no session
	} {
		r := send(t, tc.method, url+tc.path, listTools, "Content-Type", "application/json", "Accept", "*/*")
		if r.status != tc.status {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.path, r.status, r.body, tc.status)
		}
	}
}
