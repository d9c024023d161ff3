package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// call2K is a call of a tool with arguments of 2 KB, as clients send it.
var call2K = fmt.Sprintf(`{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"search_bugs_by_keyword",`+
	`"arguments":{"keyword":"memory leak","severity":"3","page_index":1,"comment":%q},"_meta":{"progressToken":17}}}`,
	strings.Repeat("Ein längerer Text, wie ihn ein Modell schreibt. ", 38))

func BenchmarkRequest(b *testing.B) {
	scopes, err := NewScopes([]Scope{
		{Name: "mcp:read", Tools: []string{"search_*", "get_*"}},
		{Name: "mcp:write", Tools: []string{"create_case", "update_case"}, Implies: []string{"mcp:read"}},
		{Name: "mcp:admin", Tools: []string{"*"}, Implies: []string{"mcp:write"}, Allow: &Allow{Groups: []string{"admins"}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	rules := scopes.Rules([]string{"mcp:read", "mcp:write", "mcp:admin"})
	caller := Caller{Subject: "alice", Email: "alice@example.com", Groups: []string{"staff"}, Client: "app"}
	body := []byte(call2K)
	b.Run("parse and decide", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			messages, err := Parse(body)
			if err != nil {
				b.Fatal(err)
			}
			held := scopes.Held([]string{"mcp:read"}, caller)
			if d := rules.Decide(messages, held, held); d.Outcome != Allowed {
				b.Fatal(d)
			}
		}
	})
	b.Run("json.Valid", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if !json.Valid(body) {
				b.Fatal("not valid")
			}
		}
	})
}
