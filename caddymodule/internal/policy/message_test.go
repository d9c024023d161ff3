package policy

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	type m = Message
	for _, tt := range []struct {
		name, body string
		want       []Message
	}{
		{"a call", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"create_case","arguments":{"name":"x"}}}`,
			[]m{{Method: "tools/call", Name: "create_case", ID: []byte("7")}}},
		{"the params first", `{"params":{"arguments":{},"name":"a"},"method":"tools/call"}`, []m{{Method: "tools/call", Name: "a"}}},
		{"escapes", `{"m\u0065thod":"tools\/c\u0061ll","par\u0061ms":{"n\u0061me":"\ud83d\ude00\n"}}`, []m{{Method: "tools/call", Name: "😀\n"}}},
		{"white space", " \r\n{ \"id\" : \"a\\u0062\" , \"method\"\t:\"ping\" , \"params\" : { } } \n", []m{{Method: "ping", ID: []byte(`"a\u0062"`)}}},
		{"a resource", `{"id":1,"method":"resources/read","params":{"uri":"file:///a"}}`, []m{{Method: "resources/read", URI: "file:///a", ID: []byte("1")}}},
		{"a prompt", `{"method":"prompts/get","params":{"name":"p"}}`, []m{{Method: "prompts/get", Name: "p"}}},
		{"a notification", `{"method":"notifications/initialized"}`, []m{{Method: "notifications/initialized"}}},
		{"an answer", `{"jsonrpc":"2.0","id":-3e2,"result":{"method":"tools/call"}}`, []m{{ID: []byte("-3e2")}}},
		{"params in a list", `{"method":"x","params":["name",{"name":"y"}]}`, []m{{Method: "x"}}},
		{"a batch", `[{"id":1,"method":"tools/call","params":{"name":"a"}},{"id":2,"method":"ping"}]`,
			[]m{{Method: "tools/call", Name: "a", ID: []byte("1")}, {Method: "ping", ID: []byte("2")}}},
		{"members of others are free", `{"method":"x","params":{"arguments":{"a":1,"a":2},"_meta":{"Name":1,"__proto__":2}},"x":{"method":1,"Method":2}}`, []m{{Method: "x"}}},
		{"a name that is no text where it does not matter", `{"method":"x","params":{"name":1}}`, []m{{Method: "x"}}},
		{"an id that is not repeated", `{"id":{"a":1},"method":"x"}`, []m{{Method: "x"}}},
		{"a long id", `{"id":"` + strings.Repeat("x", maxID) + `","method":"x"}`, []m{{Method: "x"}}},
		{"nested as deep as may be", `{"method":"x","params":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`, []m{{Method: "x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if g, w := jsonOf(got), jsonOf(tt.want); g != w {
				t.Errorf("got %s, want %s", g, w)
			}
		})
	}
}

func jsonOf(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}

// call is a call of a tool with these params.
func callWith(params string) string {
	return `{"id":1,"method":"tools/call","params":{` + params + `}}`
}

// TestParseRefuses has what servers could take for a call that it does not look
// like.
func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		code       int
	}{
		{"text", "tools/call", CodeInvalidRequest},
		{"a string", `"tools/call"`, CodeInvalidRequest},
		{"null", "null", CodeInvalidRequest},
		{"an empty batch", "[]", CodeInvalidRequest},
		{"a batch in a batch", `[[{"method":"ping"}]]`, CodeInvalidRequest},
		{"a batch of other things", `[{"method":"ping"},1]`, CodeInvalidRequest},
		{"too many messages", "[" + strings.Repeat(`{"method":"ping"},`, maxBatch) + `{"method":"ping"}]`, CodeInvalidRequest},
		{"two methods", `{"method":"ping","method":"tools/call"}`, CodeInvalidRequest},
		{"two methods, one with escapes", `{"method":"ping","m\u0065thod":"tools/call"}`, CodeInvalidRequest},
		{"two params", `{"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}`, CodeInvalidRequest},
		{"two names", callWith(`"name":"a","name":"b"`), CodeInvalidRequest},
		{"two names, one with escapes", callWith(`"name":"a","nam\u0065":"b"`), CodeInvalidRequest},
		{"two URIs", `{"method":"resources/read","params":{"uri":"a","uri":"b"}}`, CodeInvalidRequest},
		{"two ids", `{"id":1,"id":2,"method":"ping"}`, CodeInvalidRequest},
		{"Method", `{"method":"ping","Method":"tools/call"}`, CodeInvalidRequest},
		{"METHOD alone", `{"METHOD":"tools/call"}`, CodeInvalidRequest},
		{"Params", `{"method":"tools/call","Params":{"name":"a"}}`, CodeInvalidRequest},
		{"paramſ", `{"method":"tools/call","params":{"name":"a"},"paramſ":{"name":"b"}}`, CodeInvalidRequest},
		{"paramſ with escapes", `{"method":"tools/call","params":{"name":"a"},"param\u017f":{"name":"b"}}`, CodeInvalidRequest},
		{"NAME", callWith(`"name":"a","NAME":"b"`), CodeInvalidRequest},
		{"__proto__ of a message", `{"id":1,"__proto__":{"method":"tools/call","params":{"name":"a"}}}`, CodeInvalidRequest},
		{"__proto__ of the params", callWith(`"name":"a","__pr\u006fto__":{"name":"b"}`), CodeInvalidRequest},
		{"a method that is no text", `{"method":1}`, CodeInvalidRequest},
		{"a method that is null", `{"method":null,"result":{}}`, CodeInvalidRequest},
		{"a method in a list", `{"method":["tools/call"]}`, CodeInvalidRequest},
		{"a method that is empty", `{"method":""}`, CodeInvalidRequest},
		{"a method with a space", `{"method":"tools/call "}`, CodeInvalidRequest},
		{"a method with a line feed", `{"method":"tools/call\n"}`, CodeInvalidRequest},
		{"a method beyond ASCII", `{"method":"tools/ca\u217cl"}`, CodeInvalidRequest},
		{"a method in another case", `{"method":"Tools/Call","params":{"name":"a"}}`, CodeInvalidRequest},
		{"a long method", `{"method":"` + strings.Repeat("x", maxMethod+1) + `"}`, CodeInvalidRequest},
		{"a call without params", `{"id":1,"method":"tools/call"}`, CodeInvalidParams},
		{"a call with a list", `{"method":"tools/call","params":["a"]}`, CodeInvalidParams},
		{"a call without a name", callWith(`"arguments":{}`), CodeInvalidParams},
		{"a call with an empty name", callWith(`"name":""`), CodeInvalidParams},
		{"a name that is no text", callWith(`"name":{"a":1}`), CodeInvalidParams},
		{"a name that is null", callWith(`"name":null`), CodeInvalidParams},
		{"a byte order mark", "\xef\xbb\xbf" + callWith(`"name":"a"`), CodeInvalidRequest},
		{"nested much too deep", strings.Repeat("[", 4<<20), CodeInvalidRequest},
	} {
		t.Run(tt.name, func(t *testing.T) { wantFault(t, tt.body, tt.code) })
	}
}

// TestParseRefusesWhatIsNoJSON has what servers could not take for JSON at all.
func TestParseRefusesWhatIsNoJSON(t *testing.T) {
	for _, tt := range []struct{ name, body string }{
		{"nothing", ""},
		{"white space", "  "},
		{"NUL in a name", callWith(`"name":"a\u0000b"`)},
		{"NUL in a key", callWith(`"name\u0000":"a"`)},
		{"half of a pair", callWith(`"name":"a\ud800"`)},
		{"the other half", callWith(`"name":"\udc00a"`)},
		{"two first halves", callWith(`"name":"\ud800\ud800"`)},
		{"half of a pair in a key", callWith(`"na\ud800me":"a"`)},
		{"UTF-16", "{\x00}\x00"},
		{"Latin-1", callWith("\"name\":\"\xe9\"")},
		{"an overlong slash", "{\"method\":\"tools\xc0\xafcall\"}"},
		{"a NUL byte behind", callWith(`"name":"a"`) + "\x00"},
		{"a second message", `{"method":"ping"}{"method":"tools/call"}`},
		{"a second line", "{\"method\":\"ping\"}\n{\"method\":\"tools/call\"}"},
		{"a comment", `{"method":"ping"/*,"method":"x"*/}`},
		{"single quotes", `{'method':'tools/call'}`},
		{"a key without quotes", `{method:"tools/call"}`},
		{"a comma too many", `{"method":"ping",}`},
		{"a comma too many in a list", `{"method":"ping","params":[1,]}`},
		{"a colon too few", `{"method" "ping"}`},
		{"a control character", "{\"method\":\"ping\",\"x\":\"\x01\"}"},
		{"an escape that is none", `{"method":"ping","x":"\x41"}`},
		{"an escape that is cut off", `{"method":"ping","x":"\u00`},
		{"an escape with a sign", `{"method":"ping","x":"\u+041"}`},
		{"a number that is none", `{"method":"ping","x":01}`},
		{"another one", `{"method":"ping","x":1.}`},
		{"and a third", `{"method":"ping","x":.5}`},
		{"NaN", `{"method":"ping","x":NaN}`},
		{"True", `{"method":"ping","x":True}`},
		{"the end of an object", `{"method":"ping"`},
		{"the end of a list", `{"method":"ping","params":[1`},
		{"the end of a string", `{"method":"pin`},
		{"the end of a batch", `[{"method":"ping"}`},
		{"brackets that do not match", `{"method":"ping","x":[}`},
		{"nested too deep", `{"method":"x","params":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`},
	} {
		t.Run(tt.name, func(t *testing.T) { wantFault(t, tt.body, CodeParse) })
	}
}

// wantFault demands that a body is refused with a code and a reason.
func wantFault(t *testing.T, body string, code int) {
	t.Helper()
	got, err := Parse([]byte(body))
	fault, ok := errors.AsType[*Fault](err)
	if !ok || got != nil {
		t.Fatalf("accepted as %s", jsonOf(got))
	}
	if fault.Code != code || fault.Text == "" {
		t.Errorf("code %d (%s), want %d", fault.Code, fault.Text, code)
	}
}

func TestAFaultNamesTheRequest(t *testing.T) {
	_, err := Parse([]byte(`{"id":"a","method":"tools/call","params":{}}`))
	if fault, ok := errors.AsType[*Fault](err); !ok || string(fault.ID) != `"a"` {
		t.Errorf("got %#v", err)
	}
}

// FuzzParse compares Parse with parsers that are less strict: what it accepts,
// none of them takes for something else. And it accepts what they write.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"method":"tools/call","params":{"name":"a"}}`, `{"Method":"tools/call","method":"ping"}`, `[{"method":"ping"},{"id":1,"result":{}}]`,
		`{"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`, `{"method":"tools/call","param\u017f":{"name":"a"}}`, call2K,
	} {
		f.Add(seed, "create_case", "tools/call")
	}
	f.Fuzz(func(t *testing.T, body, name, method string) {
		checkAgreement(t, body)
		written, err := json.Marshal(map[string]any{"id": 1, "method": method, "params": map[string]any{"name": name, "arguments": body}})
		if err != nil {
			t.Fatal(err)
		}
		checkAgreement(t, string(written))
		if method == "" || len(method) > maxMethod || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) ||
			strings.EqualFold(method, MethodCall) && (method != MethodCall || name == "") || strings.Contains(name, "\x00") {
			return
		}
		if _, err := Parse(written); err != nil {
			t.Errorf("%q: %v", written, err)
		}
	})
}

// TestParseAgreesWithOthers does what FuzzParse does with calls that have been
// changed in the ways that parsers quarrel about.
func TestParseAgreesWithOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	pieces := []string{
		`"method":"ping",`, `"method":"tools/call",`, `"Method":"ping",`, `"params":{"name":"b"},`, `"PARAMS":{"name":"b"},`, `"name":"b",`, `"Name":"b",`,
		`"nam\u0065":"b",`, `"\u006eame":"b",`, `"param\u017f":{},`, `"id":2,`, `[`, `]`, `{`, `}`, `,`, `:`, `"`, `\`, `\u0000`, `\ud800`, "\x00", "\xff", " ", "1", "null,", "\n",
	}
	accepted := 0
	for range 20_000 {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"name":"c"}}}`
		if rng.IntN(3) == 0 {
			body = "[" + body + `,{"method":"ping"}]`
		}
		for range 1 + rng.IntN(3) {
			at := rng.IntN(len(body) + 1)
			if i := strings.IndexAny(body[at:], "{,"); i >= 0 && rng.IntN(2) == 0 {
				at += i + 1 // where a member begins
			}
			end := min(len(body), at+rng.IntN(4))
			switch rng.IntN(5) {
			case 0:
				body = body[:at] + body[end:]
			case 1:
				body = body[:at] + strings.ToUpper(body[at:end]) + body[end:]
			default:
				body = body[:at] + pieces[rng.IntN(len(pieces))] + body[at:]
			}
		}
		checkAgreement(t, body)
		if _, err := Parse([]byte(body)); err == nil {
			accepted++
		}
	}
	if accepted < 1000 || accepted > 19_000 {
		t.Errorf("%d of the bodies are accepted, which does not tell much", accepted)
	}
}

// loose is a message as encoding/json reads it: the last member of several counts,
// and in any case.
type loose struct {
	Method *string
	Params json.RawMessage
}

func checkAgreement(t *testing.T, body string) {
	t.Helper()
	messages, err := Parse([]byte(body))
	if err != nil {
		return
	}
	var others []loose
	if json.Unmarshal([]byte(body), &others) != nil {
		others = make([]loose, 1)
		if err := json.Unmarshal([]byte(body), &others[0]); err != nil {
			t.Fatalf("%q is accepted and not readable: %v", body, err)
		}
	}
	var first []*node
	root := parseNode(t, json.NewDecoder(strings.NewReader(body)))
	if first = []*node{root}; root.kind == '[' {
		first = root.items
	}
	if len(others) != len(messages) || len(first) != len(messages) {
		t.Fatalf("%q has %d messages, and others see %d and %d", body, len(messages), len(others), len(first))
	}
	for i, m := range messages {
		method := ""
		if others[i].Method != nil {
			method = *others[i].Method
		}
		if method != m.Method || m.Method != "" && first[i].first("method").value != m.Method {
			t.Fatalf("%q has the method %q, and others see %q and %v", body, m.Method, method, first[i].first("method"))
		}
		if m.Method != MethodCall {
			continue
		}
		var params struct{ Name string }
		if err := json.Unmarshal(others[i].Params, &params); err != nil || params.Name != m.Name || first[i].first("params").first("name").value != m.Name {
			t.Fatalf("%q calls %q, and others see %q: %v", body, m.Name, params.Name, err)
		}
	}
}

// first is the first member of the name.
func (n *node) first(name string) *node {
	for i, key := range n.keys {
		if key == name {
			return n.items[i]
		}
	}
	return &node{}
}
