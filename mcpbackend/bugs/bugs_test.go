package bugs_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

func TestText(t *testing.T) {
	for _, tc := range []struct{ name, in, want, err string }{
		{name: "a string stays", in: `"17.9.4"`, want: "17.9.4"},
		{name: "null is empty", in: `null`, want: ""},
		{name: "a number keeps its digits", in: `17.10`, want: "17.10"},
		{name: "a boolean is spelled out", in: `true`, want: "true"},
		{name: "an array is joined by spaces", in: `["17.9.4", 17.10]`, want: "17.9.4 17.10"},
		{name: "an object is refused", in: `{"a":1}`, err: "object in a text field"},
		{name: "a nested array is refused", in: `[["a"]]`, err: "nested array"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got bugs.Text
			err := json.Unmarshal([]byte(tc.in), &got)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || string(got) != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// What a Text reads it must be able to write and read again unchanged, whatever the API sends.
func FuzzText(f *testing.F) {
	for _, s := range []string{`"a"`, `null`, `12`, `["a",1,null]`, `[[[]]]`, `{}`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second bugs.Text
		if json.Unmarshal(b, &first) != nil {
			return
		}
		out, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &second); err != nil || first != second {
			t.Errorf("%q became %q, %v", first, second, err)
		}
	})
}
