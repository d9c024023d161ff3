package gate_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const toolList = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"create_case","x":1}, {"name":"get_bug"}],"nextCursor":"abc","ttlMs":5}}`

const toolListLess = `{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"get_bug"}],"nextCursor":"abc","ttlMs":5}}`

// answered sends a request through a gate with rules.
func (d *door) answered(r *http.Request, upstream http.HandlerFunc) *http.Response {
	d.t.Helper()
	w := httptest.NewRecorder()
	pass, refused := d.Check(w, r, r.URL.Path)
	if refused != nil {
		d.t.Fatalf("refused: %v", refused.Reason)
	}
	a, r := d.Answer(w, r, r.URL.Path, pass)
	defer a.Close()
	upstream(a, r)
	a.Finish()
	return w.Result()
}

func TestListsHaveWhatTheTokenIsGoodFor(t *testing.T) {
	d, _ := ruledDoor(t)
	token := d.mint("/mcp", "mcp")
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	get := func() *http.Request { return request("GET", "/sse", "Authorization", "Bearer "+token) }
	for _, c := range []struct {
		name       string
		r          *http.Request
		kind, sent string
		want       string
	}{
		{name: "JSON", r: rpc("/mcp", token, list), kind: "application/json", sent: toolList, want: toolListLess},
		{name: "JSON without a type", r: rpc("/mcp", token, list), sent: toolList, want: toolListLess},
		{name: "JSON for a server that does not tell cases apart", r: rpc("/mcp", token, strings.Replace(list, "tools", "Tools", 1)), kind: "application/json", sent: toolList, want: toolListLess},
		{name: "a batch", r: rpc("/mcp", token, "["+list+"]"), kind: "application/json", sent: "[" + toolList + "]", want: "[" + toolListLess + "]"},
		{name: "events", r: rpc("/mcp", token, list), kind: "text/event-stream; charset=utf-8", sent: "data: " + toolList + "\n\n", want: "data: " + toolListLess + "\n\n"},
		{name: "events in capitals", r: rpc("/mcp", token, list), kind: "Text/Event-Stream", sent: "data: " + toolList + "\n\n", want: "data: " + toolListLess + "\n\n"},
		{name: "events of another request", r: rpc("/mcp", token, call("get_bug")), kind: "text/event-stream", sent: "data: " + toolList + "\n\n", want: "data: " + toolListLess + "\n\n"},
		{name: "the stream of the old transport", r: get(), kind: "text/event-stream", sent: "event: endpoint\ndata: /messages?sessionId=1\n\ndata: " + toolList + "\n\n",
			want: "event: endpoint\ndata: /messages?sessionId=1\n\ndata: " + toolListLess + "\n\n"},
		{name: "JSON of another request", r: rpc("/mcp", token, call("get_bug")), kind: "application/json", sent: toolList, want: toolList},
		{name: "with the scope", r: rpc("/mcp", d.mint("/mcp", "bugs:write"), list), kind: "application/json", sent: toolList, want: toolList},
		{name: "a resource without rules", r: rpc("/mcp/admin", d.mint("/mcp/admin", "admin"), list), kind: "application/json", sent: toolList, want: toolList},
		{name: "an error", r: rpc("/mcp", token, list), kind: "text/html", sent: "<h1>Oops</h1>", want: "<h1>Oops</h1>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{3, 1 << 20} {
				r := c.r.Clone(t.Context())
				if c.r.GetBody == nil && c.r.Body != nil {
					data, _ := io.ReadAll(c.r.Body)
					c.r.Body, r.Body = io.NopCloser(strings.NewReader(string(data))), io.NopCloser(strings.NewReader(string(data)))
				}
				resp := d.answered(r, func(w http.ResponseWriter, _ *http.Request) {
					if c.kind != "" {
						w.Header().Set("Content-Type", c.kind)
					}
					for sent := c.sent; sent != ""; {
						n := min(size, len(sent))
						if got, err := io.WriteString(w, sent[:n]); got != n || err != nil {
							t.Fatalf("wrote %d of %d: %v", got, n, err)
						}
						sent = sent[n:]
					}
				})
				if got := string(body(t, resp)); got != c.want {
					t.Errorf("in pieces of %d\n got %q\nwant %q", size, got, c.want)
				}
			}
		})
	}
}

func TestAFilteredListHasNoHeadersOfTheOriginal(t *testing.T) {
	d, _ := ruledDoor(t)
	upstream := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "107")
		w.Header().Set("Etag", `"x"`)
		w.Header().Set("Mcp-Session-Id", "s")
		_, _ = io.WriteString(w, toolList)
	}
	resp := d.answered(rpc("/mcp", d.mint("/mcp", "mcp"), `{"id":1,"method":"tools/list"}`), upstream)
	if h := resp.Header; h.Get("Content-Length") != "" || h.Get("Etag") != "" || h.Get("Mcp-Session-Id") != "s" {
		t.Errorf("the headers are %v", h)
	}
	resp = d.answered(rpc("/mcp", d.mint("/mcp", "mcp"), call("get_bug")), upstream)
	if h := resp.Header; h.Get("Content-Length") != "107" || h.Get("Etag") == "" {
		t.Errorf("the headers of another answer are %v", h)
	}
}

// A list that is compressed, or not in ASCII, cannot be looked into, so nobody gets it.
func TestAnEncodedListIsNotPassedOn(t *testing.T) {
	d, _ := ruledDoor(t)
	token, list := d.mint("/mcp", "mcp"), `{"id":1,"method":"tools/list"}`
	for _, c := range []struct {
		name, body, kind, encoding string
		want                       int
	}{
		{"a list", list, "application/json", "gzip", 502}, {"events", call("get_bug"), "text/event-stream", "gzip", 502},
		{"an answer of another kind", call("get_bug"), "application/json", "gzip", 200},
		{"a list in EBCDIC", list, "application/json;charset=IBM037", "", 502}, {"events in UTF-7", list, "text/event-stream; Charset=utf-7", "", 502},
		{"a list in no charset", list, "application/json; charset=", "", 502}, {"two charsets", list, "application/json; charset=utf-8; charset=cp500", "", 502},
		{"a list of two types", list, "text/plain, text/event-stream", "", 502}, {"events of two types", call("get_bug"), "text/plain\ntext/event-stream", "", 502},
		{"a list with an empty encoding", list, "application/json; x", " ", 200},
		{"an answer in EBCDIC", call("get_bug"), "application/json; charset=IBM037", "", 200},
		{"a page in Latin-1", list, "text/html; charset=ISO-8859-1", "", 200}, {"events in UTF-8", list, "text/event-stream; charset=\"UTF-8\"", "", 200},
	} {
		resp := d.answered(rpc("/mcp", token, c.body), func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s: the upstream is asked for %q", c.name, r.Header["Accept-Encoding"])
			}
			w.Header()["Content-Type"] = strings.Split(c.kind, "\n")
			if c.encoding != "" {
				w.Header().Set("Content-Encoding", strings.TrimSpace(c.encoding))
			}
			_, _ = io.WriteString(w, "\x1f\x8b"+toolList)
		})
		if data := string(body(t, resp)); resp.StatusCode != c.want || c.want == 502 && (strings.Contains(data, "create_case") || resp.Header.Get("Content-Encoding") != "") {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, data)
		}
	}
}
