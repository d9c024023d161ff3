package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// showsRead shows the tools that read.
func showsRead(tool string) bool { return strings.HasPrefix(tool, "get_") }

// filtered is what a filter makes of a document that arrives in pieces of a size.
func filtered(feed func([]byte) []byte, rest func() []byte, doc string, size int) string {
	var out bytes.Buffer
	for i := 0; i < len(doc); i += size {
		out.Write(feed([]byte(doc[i:min(i+size, len(doc))])))
	}
	out.Write(rest())
	return out.String()
}

func TestFilter(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"a list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_a"},{"name":"create_b"},{"name":"get_c"}]}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_a"},{"name":"get_c"}]}}`},
		{"the first goes", `{"result":{"tools":[ {"name":"create"} , {"name":"get_a"} ]}}`, `{"result":{"tools":[   {"name":"get_a"} ]}}`},
		{"the last goes", `{"result":{"tools":[{"name":"get_a"} , {"name":"create"} ]}}`, `{"result":{"tools":[{"name":"get_a"}  ]}}`},
		{"all go and the cursor stays", `{"result":{"tools":[{"name":"x"},{"name":"y"}],"nextCursor":"abc"}}`, `{"result":{"tools":[],"nextCursor":"abc"}}`},
		{"none goes, byte by byte", " {\n \"result\" : { \"ttlMs\": 1e3, \"tools\" : [\t{\"name\" : \"get_\\u0061\", \"x\":[{}]} ,\r\n {\"name\":\"get_b\"}\n] } }\n",
			" {\n \"result\" : { \"ttlMs\": 1e3, \"tools\" : [\t{\"name\" : \"get_\\u0061\", \"x\":[{}]} ,\r\n {\"name\":\"get_b\"}\n] } }\n"},
		{"a batch", `[{"id":1,"result":{"tools":[{"name":"x"}]}},{"id":2,"result":{"tools":[{"name":"get_a"}]}}]`,
			`[{"id":1,"result":{"tools":[]}},{"id":2,"result":{"tools":[{"name":"get_a"}]}}]`},
		{"names of other things", `{"result":{"tools":[{"name":"get_a","inputSchema":{"name":"create","properties":{"name":{"name":"x"}}}}]}}`,
			`{"result":{"tools":[{"name":"get_a","inputSchema":{"name":"create","properties":{"name":{"name":"x"}}}}]}}`},
		{"the name last", `{"result":{"tools":[{"description":"\"name\":\"get_a\"}","name":"create"}]}}`, `{"result":{"tools":[]}}`},
		{"two names", `{"result":{"tools":[{"name":"get_a","name":"create"},{"name":"create","name":"get_a"}]}}`, `{"result":{"tools":[]}}`},
		{"a name in another case", `{"result":{"tools":[{"name":"get_a","Name":"create"}]}}`, `{"result":{"tools":[]}}`},
		{"keys with escapes", `{"r\u0065sult":{"t\u006fols":[{"n\u0061me":"cr\u0065ate"},{"name":"g\u0065t_a"}]}}`,
			`{"r\u0065sult":{"t\u006fols":[{"name":"g\u0065t_a"}]}}`},
		{"keys in another case", `{"Result":{"TOOLS":[{"name":"create"}]}}`, `{"Result":{"TOOLS":[]}}`},
		{"two lists", `{"result":{"tools":[{"name":"create"}],"tools":[{"name":"create"},{"name":"get_a"}]},"result":{"tools":[{"name":"x"}]}}`,
			`{"result":{"tools":[],"tools":[{"name":"get_a"}]},"result":{"tools":[]}}`},
		{"params of the server's own requests", `{"method":"sampling/createMessage","params":{"tools":[{"name":"create"}]}}`,
			`{"method":"sampling/createMessage","params":{"tools":[{"name":"create"}]}}`},
		{"a result of a tool", `{"result":{"content":[{"name":"create"}],"structuredContent":{"tools":[{"name":"create"}]}}}`,
			`{"result":{"content":[{"name":"create"}],"structuredContent":{"tools":[{"name":"create"}]}}}`},
		{"elements that are no tools", `{"result":{"tools":["create", 1 ,[{"name":"create"}],null,{"title":"x"},{"name":5},{"name":"create"},true]}}`,
			`{"result":{"tools":["create", 1 ,[{"name":"create"}],null,{"title":"x"},{"name":5},true]}}`},
		{"what is no tool behind one that goes", `{"result":{"tools":[{"name":"create"}, "a",{"name":"create"}]}}`, `{"result":{"tools":[ "a"]}}`},
		{"no list", `{"result":{"tools":{"name":"create"}}}`, `{"result":{"tools":{"name":"create"}}}`},
		{"several messages", "{\"result\":{\"tools\":[{\"name\":\"x\"}]}}\n{\"result\":{\"tools\":[{\"name\":\"x\"}]}}\n", "{\"result\":{\"tools\":[]}}\n{\"result\":{\"tools\":[]}}\n"},
		{"a byte order mark", "\xef\xbb\xbf{\"result\":{\"tools\":[{\"name\":\"x\"}]}}", "\xef\xbb\xbf{\"result\":{\"tools\":[]}}"},
		{"no JSON", "<html>{\"result\":{\"tools\":[{\"name\":\"x\"}]}}", "<html>{\"result\":{\"tools\":[{\"name\":\"x\"}]}}"},
		{"UTF-16", "\xfe\xff\x00{\x00\"", ""},
		{"UTF-16 without a mark", "\x00{\x00\"", ""},
		{"UTF-16 with the low byte first", "[\x00{\x00\"\x00r\x00", "[\x00{"},
		{"nothing", "", ""},
		{"a list that ends too early", `{"result":{"tools":[{"name":"get_a"},{"name":"get_b"`, `{"result":{"tools":[{"name":"get_a"}`},
		{"what follows what cannot be read", `{"a":]}{"result":{"tools":[{"name":"x"}]}}`, `{"a":`},
		{"text behind the message", `{}x{"result":{"tools":[{"name":"x"}]}}`, `{}`},
		{"a key that is no string", `{result:{"tools":[{"name":"x"}]}}`, `{`},
		{"a comma at the end", `{"result":{"tools":[{"name":"x"},]}}`, `{"result":{"tools":[]}}`},
		{"a name that is no text", `{"result":{"tools":[{"name":"\x"},{"name":"get_\ud800"}]}}`, `{"result":{"tools":[{"name":"get_\ud800"}]}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 7, 1 << 20} {
				f := NewFilter(showsRead)
				if got := filtered(f.Feed, f.Rest, tt.in, size); got != tt.want {
					t.Errorf("in pieces of %d\n got %q\nwant %q", size, got, tt.want)
				}
			}
		})
	}
}

// A tool that is too large to be held is left out, and the rest of the list is
// not.
func TestALargeToolIsLeftOut(t *testing.T) {
	large := fmt.Sprintf(`{"name":"get_large","description":%q}`, strings.Repeat("x", maxTool))
	f := NewFilter(showsRead)
	got := filtered(f.Feed, f.Rest, `{"result":{"tools":[{"name":"get_a"},`+large+`,{"name":"get_b"}]}}`, 32<<10)
	if want := `{"result":{"tools":[{"name":"get_a"},{"name":"get_b"}]}}`; got != want {
		t.Errorf("got %.200q", got)
	}
}

// Nothing but the element of a list waits for its end.
func TestTheFilterHoldsNothingBack(t *testing.T) {
	f := NewFilter(showsRead)
	for _, piece := range []string{`{"res`, `ult":{"con`, `tent":[{"te`, `xt":"a\`, `"b`, `"}],"n":1`, `2}`, `}`} {
		if got := string(f.Feed([]byte(piece))); got != piece {
			t.Errorf("of %q only %q went out", piece, got)
		}
	}
	if rest := f.Rest(); len(rest) > 0 {
		t.Errorf("%q was left", rest)
	}
}

func TestEventFilter(t *testing.T) {
	list := `{"result":{"tools":[{"name":"create"},{"name":"get_a"}]}}`
	less := `{"result":{"tools":[{"name":"get_a"}]}}`
	for _, tt := range []struct{ name, in, want string }{
		{"an event", "event: message\nid: 1\ndata: " + list + "\n\n", "event: message\nid: 1\ndata: " + less + "\n\n"},
		{"no space", "data:" + list + "\n\n", "data:" + less + "\n\n"},
		{"carriage returns", "data: " + list + "\r\n\r\ndata: " + list + "\r\rdata: " + list + "\n\n", "data: " + less + "\r\n\r\ndata: " + less + "\r\rdata: " + less + "\n\n"},
		{"a byte order mark", "\xef\xbb\xbfdata: " + list + "\n\n", "\xef\xbb\xbfdata: " + less + "\n\n"},
		{"other events", "event: endpoint\ndata: /messages?sessionId=1\n\n: ping\n\nretry: 5\n\ndata\n\ndata:\n\n", "event: endpoint\ndata: /messages?sessionId=1\n\n: ping\n\nretry: 5\n\ndata\n\ndata:\n\n"},
		{"a message on several lines", "data: {\"result\":\ndata: {\"tools\":[{\"name\":\ndata: \"create\"},\ndata:\ndata: {\"name\":\"get_a\"}]}}\n\n",
			"data: {\"result\":\ndata: {\"tools\":[\ndata: \ndata:\ndata: {\"name\":\"get_a\"}]}}\n\n"},
		{"lines in between", "data: {\"result\":{\"tools\":[{\nid: 7\n: x\ndata: \"name\":\"get_a\"}]}}\n\n", "data: {\"result\":{\"tools\":[{\nid: 7\n: x\ndata: \"name\":\"get_a\"}]}}\n\n"},
		{"lines in between of what goes", "data: {\"result\":{\"tools\":[{\nid: 7\n: x\ndata: \"name\":\"create\"}]}}\n\n", "data: {\"result\":{\"tools\":[\nid: 7\n: x\ndata: ]}}\n\n"},
		{"an event that breaks off", "data: {\"result\":{\"tools\":[{\n\ndata: " + list + "\n\n", "data: {\"result\":{\"tools\":[\n\ndata: " + less + "\n\n"},
		{"an event that cannot be read", "data: {]" + list + "\ndata: " + list + "\n\ndata: " + list + "\n\n", "data: {\ndata: \n\ndata: " + less + "\n\n"},
		{"a comment with a list", ": " + list + "\nx-data: " + list + "\n\n", ": " + list + "\nx-data: " + list + "\n\n"},
		{"readers that are not strict", "Data : " + list + "\n\n", "Data : " + less + "\n\n"},
		{"no end", "data: " + list, "data: " + less},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 7, 1 << 20} {
				f := NewEventFilter(showsRead)
				if got := filtered(f.Feed, f.Rest, tt.in, size); got != tt.want {
					t.Errorf("in pieces of %d\n got %q\nwant %q", size, got, tt.want)
				}
			}
		})
	}
}

// An idle stream has not much room, whatever went through it before.
func TestAnIdleFilterKeepsLittle(t *testing.T) {
	f := NewEventFilter(showsRead)
	f.Feed([]byte("data: {\"result\":{\"tools\":[{\"name\":\"get_" + strings.Repeat("a", 1<<19) + "\"}]}}\n\n"))
	f.Feed([]byte(": ping\n\n"))
	if room := cap(f.list.out) + cap(f.list.held) + cap(f.list.captured); room > 4*idleRoom {
		t.Errorf("%d bytes are kept", room)
	}
}

// FuzzFilter compares the filter with a full parse of valid documents, whatever
// the pieces in which they arrive.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`{"result":{"tools":[{"name":"get_a"},{"name":"x"},1,{"Name":"y"}],"nextCursor":"c"}}`, `[{"result":{"tools":[]}},{}]`,
		`{"result":{"tools":[{"n\u0061me":"x"}],"tools":[[{"name":"x"}]]}}`, "\"a\"", `{"result":{"tools":[{"name":"a","b":{"name":"\\\""}},null]}}`,
	} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, doc string, size int) {
		size = max(1, size)
		filter, events := NewFilter(showsRead), NewEventFilter(showsRead)
		got := filtered(filter.Feed, filter.Rest, doc, size)
		lines := "data: " + strings.ReplaceAll(doc, "\n", "\ndata: ") + "\n\n"
		gotLines := filtered(events.Feed, events.Rest, lines, size)
		if !json.Valid([]byte(doc)) {
			return
		}
		want, changed := expected(t, doc)
		if again, _ := expected(t, got); again != want || !changed && got != doc {
			t.Errorf("%q became %q, want %q", doc, got, want)
		}
		if strings.Contains(doc, "\r") {
			return // ends a line of the stream
		}
		message := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(gotLines, "data: "), "\n\n"), "\ndata: ", "\n")
		if again, _ := expected(t, message); again != want || !changed && gotLines != lines {
			t.Errorf("%q became %q, want %q", lines, gotLines, want)
		}
	})
}

// expected is what a document is after a full parse and without what is not shown.
// It has the members in their order, also those that are there twice.
func expected(t *testing.T, doc string) (out string, changed bool) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	root := parseNode(t, d)
	messages := []*node{root}
	if root.kind == '[' {
		messages = root.items
	}
	for _, m := range messages {
		for _, result := range m.all("result", '{') {
			for _, list := range result.all("tools", '[') {
				before := len(list.items)
				var kept []*node
				for _, item := range list.items {
					if !item.hidden() {
						kept = append(kept, item)
					}
				}
				list.items = kept
				changed = changed || len(kept) != before
			}
		}
	}
	var b strings.Builder
	root.write(&b)
	return b.String(), changed
}

// node is a parsed value.
type node struct {
	kind  json.Delim // 0 for a scalar
	keys  []string
	items []*node
	value any
}

func parseNode(t *testing.T, d *json.Decoder) *node {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatalf("not JSON: %v", err)
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return &node{value: token}
	}
	n := &node{kind: delim}
	for d.More() {
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				t.Fatalf("not JSON: %v", err)
			}
			n.keys = append(n.keys, key.(string))
		}
		n.items = append(n.items, parseNode(t, d))
	}
	if _, err := d.Token(); err != nil {
		t.Fatalf("not JSON: %v", err)
	}
	return n
}

// all are the members of the name and kind.
func (n *node) all(name string, kind json.Delim) []*node {
	var out []*node
	for i, key := range n.keys {
		if strings.EqualFold(key, name) && n.items[i].kind == kind {
			out = append(out, n.items[i])
		}
	}
	return out
}

// hidden reports whether the node is a tool that is not shown.
func (n *node) hidden() bool {
	for _, name := range n.all("name", 0) {
		if s, ok := name.value.(string); ok && !showsRead(s) {
			return true
		}
	}
	return false
}

func (n *node) write(b *strings.Builder) {
	if n.kind == 0 {
		fmt.Fprintf(b, "%#v,", n.value)
		return
	}
	fmt.Fprint(b, n.kind)
	for i, item := range n.items {
		if n.kind == '{' {
			fmt.Fprintf(b, "%q:", n.keys[i])
		}
		item.write(b)
	}
	fmt.Fprint(b, "end")
}

// TestFilterOfManyDocuments does what FuzzFilter does with documents that are
// more often lists of tools than those of a fuzzer.
func TestFilterOfManyDocuments(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	lists := 0
	for range 5000 {
		var b strings.Builder
		documents{rng, &b}.value("message", 0)
		doc, size := b.String(), 1+rng.IntN(40)
		f := NewFilter(showsRead)
		got := filtered(f.Feed, f.Rest, doc, size)
		want, changed := expected(t, doc)
		if again, _ := expected(t, got); again != want || !changed && got != doc {
			t.Fatalf("%s\nin pieces of %d became\n%s", doc, size, got)
		}
		if changed {
			lists++
		}
	}
	if lists < 100 {
		t.Errorf("only %d of the documents have something to leave out", lists)
	}
}

// documents writes JSON that looks like the answers of MCP servers, mostly.
type documents struct {
	rng *rand.Rand
	b   *strings.Builder
}

func (d documents) one(of ...string) string { return of[d.rng.IntN(len(of))] }

func (d documents) space() { d.b.WriteString(d.one("", "", "", " ", "\n\t", "\r\n")) }

// value writes a value that is what it should be in its place, or now and then
// anything else.
func (d documents) value(place string, depth int) {
	d.space()
	defer d.space()
	if d.rng.IntN(8) == 0 || place == "" {
		place = d.one("message", "tools", "name", "scalar", "scalar", "scalar")
	}
	if depth > 6 {
		place = "scalar"
	}
	switch place {
	case "scalar":
		d.b.WriteString(d.one("1", "-2.5e3", "true", "null", `"x"`, `"tools"`))
	case "name":
		d.b.WriteString(d.one(`"get_a"`, `"create"`, `"g\u0065t_b"`, `"a\"]},{"`, `"ä\\"`))
	case "tools":
		d.list('[', ']', func() { d.value("tool", depth+1) })
	default: // an object
		next := map[string]string{"message": "result", "result": "tools", "tool": "name"}[place]
		d.list('{', '}', func() {
			d.space()
			key := d.one(next, next, "name", "x")
			d.b.WriteString(d.one(`"`+key+`"`, `"`+key+`"`, `"`+key+`"`, `"`+strings.Replace(key, "e", `\u0065`, 1)+`"`, `"`+strings.ToUpper(key)+`"`))
			d.space()
			d.b.WriteByte(':')
			d.value(map[bool]string{true: next}[key == next], depth+1)
		})
	}
}

func (d documents) list(begin, end byte, item func()) {
	d.b.WriteByte(begin)
	for i := range d.rng.IntN(4) {
		if i > 0 {
			d.b.WriteByte(',')
		}
		item()
	}
	d.space()
	d.b.WriteByte(end)
}
