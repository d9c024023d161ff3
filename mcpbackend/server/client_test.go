package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

// connect connects the SDK's client over a transport, asking for a protocol version.
func connect(t *testing.T, transport mcp.Transport, version string) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := c.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// clients are the ways in which the SDK's client reaches a server.
var clients = []struct {
	name, version string
	transport     func(url string) mcp.Transport
}{
	{"modern", "2026-07-28", func(url string) mcp.Transport { return &mcp.StreamableClientTransport{Endpoint: url + "/mcp"} }},
	{"session 2025-11-25", "2025-11-25", func(url string) mcp.Transport { return &mcp.StreamableClientTransport{Endpoint: url + "/mcp"} }},
	{"session 2025-03-26", "2025-03-26", func(url string) mcp.Transport { return &mcp.StreamableClientTransport{Endpoint: url + "/mcp"} }},
	{"session without GET", "2025-06-18", func(url string) mcp.Transport {
		return &mcp.StreamableClientTransport{Endpoint: url + "/mcp", DisableStandaloneSSE: true}
	}},
	{"sse", "2024-11-05", func(url string) mcp.Transport { return &mcp.SSEClientTransport{Endpoint: url + "/sse"} }},
}

func TestClients(t *testing.T) {
	for _, tc := range clients {
		t.Run(tc.name, func(t *testing.T) {
			session := connect(t, tc.transport(start(t, server.Options{})), tc.version)
			if got := session.InitializeResult(); got.ProtocolVersion != tc.version || !strings.Contains(got.Instructions, "Sample data") {
				t.Errorf("version %s, instructions %q", got.ProtocolVersion, got.Instructions)
			}
			list, err := session.ListTools(t.Context(), nil)
			if err != nil || len(list.Tools) != 10 {
				t.Fatalf("%d tools, %v", len(list.Tools), err)
			}
			// Several calls, so that the session has to hold.
			for page, want := range map[int]int{1: 10, 2: 3, 3: 0} {
				res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "search_bugs_by_keyword", Arguments: map[string]any{"keyword": "memory leak", "page_index": page}})
				if err != nil || res.IsError {
					t.Fatalf("page %d: %v %+v", page, err, res)
				}
				got := res.StructuredContent.(map[string]any)
				if n := len(got["bugs"].([]any)); n != want || got["total_results"] != 13.0 || got["has_more"] != (page == 1) || got["page_index"] != float64(page) {
					t.Errorf("page %d: %d bugs, %v", page, n, got)
				}
			}
			if err := session.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// Sessions of several clients, of several kinds, at the same time, on one server.
func TestClientsTogether(t *testing.T) {
	url := start(t, server.Options{})
	for _, tc := range clients {
		for range 3 {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				session := connect(t, tc.transport(url), tc.version)
				res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_case", Arguments: map[string]any{"title": "t", "description": "d"}})
				if err != nil || res.IsError {
					t.Errorf("%v %+v", err, res)
				}
			})
		}
	}
}

func TestToolListKeepsItsPromises(t *testing.T) {
	session := connect(t, &mcp.StreamableClientTransport{Endpoint: start(t, server.Options{}) + "/mcp"}, "")
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	arguments := map[string][]string{
		"get_bug_details":                        {"bug_ids"},
		"search_bugs_by_keyword":                 {"keyword"},
		"search_bugs_by_product_id":              {"base_pid"},
		"search_bugs_by_product_and_release":     {"base_pid", "software_releases"},
		"search_bugs_by_product_series_affected": {"product_series", "affected_releases"},
		"search_bugs_by_product_series_fixed":    {"product_series", "fixed_releases"},
		"search_bugs_by_product_name_affected":   {"product_name", "affected_releases"},
		"search_bugs_by_product_name_fixed":      {"product_name", "fixed_releases"},
		"create_case":                            {"title", "description"},
		"update_case":                            {"case_id"},
	}
	for _, tool := range list.Tools {
		var in, out jsonschema.Schema
		remarshal(t, tool.InputSchema, &in)
		remarshal(t, tool.OutputSchema, &out)
		if want, ok := arguments[tool.Name]; !ok || !slices.Equal(in.Required, want) {
			t.Errorf("%s requires %v, want %v", tool.Name, in.Required, want)
		}
		delete(arguments, tool.Name)
		if tool.Title == "" || tool.Description == "" || out.Type != "object" {
			t.Errorf("%s: title %q, description %q, output %q", tool.Name, tool.Title, tool.Description, out.Type)
		}
		writes := strings.HasSuffix(tool.Name, "_case")
		if a := tool.Annotations; a.ReadOnlyHint == writes || *a.DestructiveHint != (tool.Name == "update_case") || *a.OpenWorldHint == writes {
			t.Errorf("%s: annotations %+v", tool.Name, a)
		}
		if strings.HasPrefix(tool.Name, "search_") {
			for _, name := range []string{"page_index", "status", "severity", "modified_date", "sort_by"} {
				if in.Properties[name] == nil {
					t.Errorf("%s lacks %s", tool.Name, name)
				}
			}
			if string(in.Properties["modified_date"].Default) != `"5"` || string(in.Properties["page_index"].Default) != "1" {
				t.Errorf("%s: defaults %s, %s", tool.Name, in.Properties["modified_date"].Default, in.Properties["page_index"].Default)
			}
		}
	}
	if len(arguments) > 0 {
		t.Errorf("missing tools: %v", arguments)
	}
}

// Each result must fit the output schema of its tool, carry text, and say that the data is invented.
func TestResultsFitTheirSchema(t *testing.T) {
	session := connect(t, &mcp.StreamableClientTransport{Endpoint: start(t, server.Options{}) + "/mcp"}, "")
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	schemas := map[string]*jsonschema.Resolved{}
	for _, tool := range list.Tools {
		var s jsonschema.Schema
		remarshal(t, tool.OutputSchema, &s)
		if schemas[tool.Name], err = s.Resolve(nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		tool string
		args map[string]any
		text []string
	}{
		{"get_bug_details", map[string]any{"bug_ids": "cscZZ10013, CSCzz20028"}, []string{"[CSCzz10013](https://bst.cisco.com/bugsearch/bug/CSCzz10013)", "**Duplicate of:** CSCzz10003", "The old template cache"}},
		{"get_bug_details", map[string]any{"bug_ids": "CSCzz99999"}, []string{"No bugs found"}},
		{"search_bugs_by_keyword", map[string]any{"keyword": "memory leak"}, []string{"Found 13, page 1 of 2", "For more, use page_index 2", "**Status:** Open", "**Severity:** 3", "**Last modified:** 2026-02-27"}},
		{"search_bugs_by_keyword", map[string]any{"keyword": "memory leak", "page_index": 9}, []string{"Page 9 is empty; the last page is 2"}},
		{"search_bugs_by_keyword", map[string]any{"keyword": "[x](y)"}, []string{`\[x\](y)`, "No bugs found"}},
		{"search_bugs_by_product_id", map[string]any{"base_pid": "C9300-48P"}, []string{"CSCzz10012"}},
		{"search_bugs_by_product_and_release", map[string]any{"base_pid": "C9300-48P", "software_releases": "17.6.3"}, []string{"CSCzz10001"}},
		{"search_bugs_by_product_series_affected", map[string]any{"product_series": "Nexus 9000", "affected_releases": "10.2(5)"}, []string{"CSCzz20003"}},
		{"search_bugs_by_product_series_fixed", map[string]any{"product_series": "Nexus 9000", "fixed_releases": "10.2(5)"}, []string{"CSCzz20027"}},
		{"search_bugs_by_product_name_affected", map[string]any{"product_name": "UCS C220", "affected_releases": "4.2(3d)"}, []string{"CSCzz20024"}},
		{"search_bugs_by_product_name_fixed", map[string]any{"product_name": "UCS C220", "fixed_releases": "4.2(3d)"}, []string{"CSCzz20022"}},
		{"create_case", map[string]any{"title": "It *broke*", "description": "d", "severity": 2, "bug_id": "cscZZ10001"}, []string{"Created case 600000005", `It \*broke\*`, "CSCzz10001"}},
		{"update_case", map[string]any{"case_id": "600000005", "status": "closed", "note": "done"}, []string{"Updated case 600000005", "**Status:** closed", "**Note:** done", "**Severity:** 2"}},
	} {
		res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tc.tool, Arguments: tc.args})
		if err != nil || res.IsError {
			t.Errorf("%s %v: %v %+v", tc.tool, tc.args, err, res)
			continue
		}
		if err := schemas[tc.tool].Validate(res.StructuredContent); err != nil {
			t.Errorf("%s: %v in %v", tc.tool, err, res.StructuredContent)
		}
		if res.StructuredContent.(map[string]any)["sample_data"] != true {
			t.Errorf("%s: not marked as sample data: %v", tc.tool, res.StructuredContent)
		}
		text := res.Content[0].(*mcp.TextContent).Text
		for _, want := range append(tc.text, "Sample data: everything here is invented") {
			if !strings.Contains(text, want) {
				t.Errorf("%s %v: no %q in\n%s", tc.tool, tc.args, want, text)
			}
		}
	}
}

func TestBadArgumentsAreResultsOfOneSentence(t *testing.T) {
	session := connect(t, &mcp.StreamableClientTransport{Endpoint: start(t, server.Options{}) + "/mcp"}, "")
	for _, tc := range []struct {
		tool string
		args any
		want string
	}{
		{"search_bugs_by_keyword", nil, "The argument keyword is required."},
		{"search_bugs_by_keyword", map[string]any{"keyword": "x", "severity": 9}, "The argument severity must be one of 1, 2, 3, 4, 5, 6."},
		{"get_bug_details", map[string]any{"bug_ids": "CSCzz10001,nonsense"}, `"nonsense" is not a bug id; one looks like CSCzz10001.`},
		{"get_bug_details", map[string]any{"bug_ids": "CSCzz10001,CSCzz10002,CSCzz10003,CSCzz10004,CSCzz10005,CSCzz10006"}, "The argument bug_ids must hold one to 5 bug ids."},
		{"get_bug_details", map[string]any{"bug_ids": ", ,"}, "The argument bug_ids must hold one to 5 bug ids."},
		{"create_case", map[string]any{"title": "t", "description": "d", "bug_id": "x"}, `"x" is not a bug id; one looks like CSCzz10001.`},
		{"create_case", map[string]any{"title": "t", "description": "d", "bug_id": ","}, "The argument bug_ids must hold one to 5 bug ids."},
		{"update_case", map[string]any{"case_id": "600000001"}, "Give at least one of status, severity and note."},
		{"update_case", map[string]any{"case_id": "1", "note": "n"}, `Case "1" was not changed: there is no such case.`},
	} {
		res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tc.tool, Arguments: tc.args})
		if err != nil {
			t.Errorf("%s %v: protocol error %v", tc.tool, tc.args, err)
			continue
		}
		if text := res.Content[0].(*mcp.TextContent).Text; !res.IsError || text != tc.want {
			t.Errorf("%s %v: %v %q, want %q", tc.tool, tc.args, res.IsError, text, tc.want)
		}
	}
}

func remarshal(t *testing.T, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatal(err)
	}
}
