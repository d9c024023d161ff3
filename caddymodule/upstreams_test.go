package caddymodule

import (
	"net/http"
	"strings"
	"testing"
)

// An upstream that is down has the request go to what serves the page of the error.
// That is another server, and nothing that proves something is for it.
func TestWhatIsForTheUpstreamIsNotForPagesOfErrors(t *testing.T) {
	m := newMachine(t)
	address, last := upstream(t)
	m.mustLoad("", `http://localhost:%[1]d {
	mcp_auth localhost:%[4]d {
		store memory
		`+robot+`
		forward X-Mcp-User {http.auth.user.id}
		forward_assertion
		upstream_credential secret-of-the-upstream
		resource /a
		resource /b {
			upstream_credential X-Api-Key key-of-the-other
		}
	}
	handle_errors {
		reverse_proxy `+address+`
	}
}`)
	origin := m.url("localhost", 1)
	for _, path := range []string{"/a", "/b"} {
		token := m.robotToken(origin, origin+path)
		if got := m.get(origin+path, token); got.status != http.StatusOK {
			t.Fatalf("%s: the page of the error is answered with %d", path, got.status)
		}
		for name, values := range last() {
			value := strings.Join(values, " ")
			if name == "Authorization" || name == "X-Api-Key" || name == "X-Mcp-Assertion" || strings.Contains(value, token) {
				t.Errorf("%s: the server of the page gets %s: %s", path, name, value)
			}
		}
	}
}
