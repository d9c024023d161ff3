package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/cisco"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

// lockedBuffer collects log lines from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// From a tool call to Cisco's API and back, refusals included.
func TestToolsAskCisco(t *testing.T) {
	var asked string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `{"access_token":"secret-token","expires_in":3599}`)
		case strings.Contains(r.URL.Path, "refused"):
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"ErrorResponse":{"APIError":[{"ErrorCode":"X","ErrorDescription":"No good with secret-token","SuggestedAction":"Ask otherwise"}]}}`)
		default:
			asked = r.RequestURI
			fmt.Fprint(w, `{"pagination_response_record":{"page_index":1,"last_index":3,"total_records":25},"bugs":[{"bug_id":"CSCdr72939","headline":"a [link](https://evil.example)\n# b","severity":"3","status":"X","last_modified_date":"2015-08-10"}]}`)
		}
	}))
	defer api.Close()
	var logs lockedBuffer
	url := start(t, server.Options{
		Cisco:  cisco.Config{ClientID: "id", ClientSecret: "secret-secret", APIBase: api.URL, TokenURL: api.URL},
		Logger: slog.New(slog.NewTextHandler(&logs, nil)),
	})
	session := connect(t, &mcp.StreamableClientTransport{Endpoint: url + "/mcp"}, "")
	if strings.Contains(session.InitializeResult().Instructions, "Sample data") {
		t.Error("the instructions speak of sample data")
	}

	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "search_bugs_by_product_name_fixed", Arguments: map[string]any{
		"product_name": "Cisco ASR 1001-X", "fixed_releases": "17.9.1,17.9.2", "severity": 3}})
	if err != nil || res.IsError {
		t.Fatalf("%v %+v", err, res)
	}
	if want := "/bugs/product_name/Cisco%20ASR%201001-X/fixed_in_releases/17.9.1,17.9.2?modified_date=5&page_index=1&severity=3"; asked != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if got := res.StructuredContent.(map[string]any); got["sample_data"] != false || got["has_more"] != true || got["total_results"] != 25.0 {
		t.Errorf("result %v", got)
	}
	text := res.Content[0].(*mcp.TextContent).Text
	if !strings.Contains(text, `a \[link\](https://evil.example) # b`) || strings.Contains(text, "Sample data") || !strings.Contains(text, "**Status:** X") {
		t.Errorf("text\n%s", text)
	}

	res, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "search_bugs_by_keyword", Arguments: map[string]any{"keyword": "refused"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "Cisco's API refused the search (status 400): No good with [removed]. Ask otherwise."
	if got := res.Content[0].(*mcp.TextContent).Text; !res.IsError || got != want {
		t.Errorf("refusal %q, want %q", got, want)
	}
	if log := logs.String(); !strings.Contains(log, "search failed") || strings.Contains(log, "secret") || strings.Contains(log, api.URL) {
		t.Errorf("log %s", log)
	}

	// The writing tools exist on sample data only.
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_case"}); err == nil || !strings.Contains(err.Error(), "unknown tool") {
		t.Errorf("create_case: %v", err)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	if _, err := server.New(server.Options{Groups: "everything"}); err == nil || !strings.Contains(err.Error(), `no group of tools "everything"`) {
		t.Errorf("error %v", err)
	}
	if _, err := server.New(server.Options{Cisco: cisco.Config{ClientID: "a"}}); err == nil || !strings.Contains(err.Error(), "set both") {
		t.Errorf("error %v", err)
	}
}
