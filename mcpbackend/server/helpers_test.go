package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

// start serves o on a loopback port until the test ends, and returns the address.
func start(t *testing.T, o server.Options) string {
	t.Helper()
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close() // first, because the test server waits for open streams
		ts.Close()
	})
	return ts.URL
}

// A reply is a response read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// send makes a request. Header values follow as name, value, …; an empty value removes what Go's client would add.
func send(t *testing.T, method, address, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(b)}
}

// decode reads JSON of a reply into a T.
func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// A rpcReply is the part of a JSON-RPC response that the tests look at.
type rpcReply struct {
	ID     any `json:"id"`
	Result struct {
		Tools             []struct{ Name string }
		IsError           bool
		Content           []struct{ Text string }
		StructuredContent map[string]any
	}
	Error *struct {
		Code    int
		Message string
	}
}
