package gate_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// sessionDoor is a door that knows whose the sessions are, with two callers.
type sessionDoor struct {
	*door
	sessions   *storetest.Faulty
	alice, bob string // tokens
}

func newSessionDoor(t testing.TB) *sessionDoor {
	t.Helper()
	d := &sessionDoor{sessions: storetest.NewFaulty(memstore.New(0))}
	t.Cleanup(func() { _ = d.sessions.Close() })
	d.door = newDoor(t, func(c *gate.Config) {
		c.Sessions = mcpsession.New(d.sessions, "test/", []byte("a key"), zap.NewNop())
	})
	d.alice = d.mint("/mcp", "mcp")
	d.bob = d.mint("/mcp", "mcp", func(c *oauth.AccessTokenClaims) { c.Subject = "bob" })
	return d
}

// ask sends a request through the gate to the upstream; nil for one that must not get
// so far.
func (d *sessionDoor) ask(token string, r *http.Request, upstream http.HandlerFunc) *http.Response {
	d.t.Helper()
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	claims, refused := d.Check(w, r, r.URL.Path)
	switch {
	case refused != nil:
		return w.Result()
	case upstream == nil:
		d.t.Errorf("%s %s is let through", r.Method, r.URL)
		return w.Result()
	}
	a, r := d.Answer(w, r, r.URL.Path, claims)
	defer a.Close()
	d.Strip(r)
	upstream(a, r)
	a.Finish()
	return w.Result()
}

// gives is an upstream that gives a session out.
func gives(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Mcp-Session-Id", id) }
}

func accepts(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }

// wantNoSession checks that the client is told to begin a new session.
func wantNoSession(t testing.TB, rule string, resp *http.Response) {
	t.Helper()
	data, _ := io.ReadAll(resp.Body)
	if want := `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`; resp.StatusCode != http.StatusNotFound || string(data) != want {
		t.Errorf("%s: %d %s", rule, resp.StatusCode, data)
	}
	if h := resp.Header; h.Get("Content-Type") != "application/json" || h.Get("WWW-Authenticate") != "" || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%s: headers are %v", rule, h)
	}
}

func TestASessionOfSomebodyElseIsNotFound(t *testing.T) {
	d := newSessionDoor(t)
	d.ask(d.alice, request("POST", "/mcp"), gives("one"))
	for _, method := range []string{"POST", "GET", "DELETE", "HEAD", "PUT"} {
		for _, path := range []string{"/mcp", "/mcp/x", "/messages"} {
			wantNoSession(t, method+" "+path, d.ask(d.bob, request(method, path, "Mcp-Session-Id", "one"), nil))
		}
	}
	for rule, r := range map[string]*http.Request{
		"a session of nobody":    request("POST", "/mcp", "Mcp-Session-Id", "two"),
		"another spelling":       request("POST", "/mcp", "Mcp-Session-Id", "ONE"),
		"two sessions":           request("POST", "/mcp", "Mcp-Session-Id", "one", "Mcp-Session-Id", "one"),
		"a list":                 request("POST", "/mcp", "Mcp-Session-Id", "one, one"),
		"one more in the query":  request("POST", "/mcp?sessionId=two", "Mcp-Session-Id", "one"),
		"many":                   request("POST", "/mcp?"+strings.Repeat("sessionId=one&", 5)),
		"another resource":       request("POST", "/mcp/admin", "Mcp-Session-Id", "one"),
		"an old version":         request("POST", "/mcp", "Mcp-Session-Id", "two", "MCP-Protocol-Version", "2025-11-25"),
		"a version that is none": request("POST", "/mcp", "Mcp-Session-Id", "two", "MCP-Protocol-Version", "DRAFT-2027"),
	} {
		token := d.alice
		if rule == "another resource" {
			token = staticToken
		}
		wantNoSession(t, rule, d.ask(token, r, nil))
	}
	if resp := d.ask(d.alice, request("POST", "/mcp", "Mcp-Session-Id", "one"), accepts); resp.StatusCode != http.StatusAccepted {
		t.Errorf("its owner: %d", resp.StatusCode)
	}
}

func TestAnUpstreamSeesTheSessionOnlyAsItWasChecked(t *testing.T) {
	d := newSessionDoor(t)
	d.ask(d.alice, request("POST", "/mcp"), gives("one"))
	for _, c := range []struct {
		rule string
		r    *http.Request
		want string
	}{
		{"its owner", request("POST", "/mcp", "Mcp-Session-Id", "one"), "one"},
		{"its owner by an old version", request("POST", "/mcp", "Mcp-Session-Id", "one", "MCP-Protocol-Version", "2025-06-18"), "one"},
		{"a version without sessions", request("POST", "/mcp", "Mcp-Session-Id", "whose", "MCP-Protocol-Version", "2026-07-28"), ""},
		{"a later one", request("POST", "/mcp", "Mcp-Session-Id", "whose", "MCP-Protocol-Version", "2027-01-01"), ""},
		{"a name with other marks", request("POST", "/mcp", "Mcp_Session_Id", "whose", "Mcp.Session-Id", "whose"), ""},
		{"an empty one", request("POST", "/mcp", "Mcp-Session-Id", ""), ""},
	} {
		resp := d.ask(d.alice, c.r, func(w http.ResponseWriter, r *http.Request) {
			for name, values := range r.Header {
				if strings.Contains(strings.ToLower(name), "session") && (name != "Mcp-Session-Id" || strings.Join(values, ",") != c.want) {
					t.Errorf("%s: the upstream sees %s: %q", c.rule, name, values)
				}
			}
			if got := r.Header.Get("Mcp-Session-Id"); got != c.want {
				t.Errorf("%s: the upstream sees %q, want %q", c.rule, got, c.want)
			}
		})
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", c.rule, resp.StatusCode)
		}
	}
}

func TestTheEndpointEventGivesASession(t *testing.T) {
	for _, c := range []struct{ rule, path, event, own, foreign string }{
		{"as the Go SDK", "/sse", "?sessionid=one", "/messages?sessionid=one", "/messages?sessionId=one"},
		{"as the TypeScript SDK", "/sse", "/messages?sessionId=one", "/messages?sessionId=one", "/messages?sessionid=one"},
		{"as the Python SDK", "/sse", "/messages/?session_id=one", "/messages/?session_id=one", "/messages/?sessionId=one"},
		{"an absolute address", "/sse", "http://localhost:3000/messages?sessionId=one#x", "/messages?sessionId=one", "/messages?sessionId[]=one"},
		{"at another path", "/mcp/events", "/messages?a=b&sessionId=o%6Ee", "/messages?sessionId=one", "/messages?a=b;session%49d=one"},
		{"as Express 4 reads it", "/sse", "/messages?sessionId=one", "/messages?sessionId=one", "/messages?%5BsessionId]=one"},
		{"as the newer transport has it", "/sse", "/messages?sessionId=one", "/mcp?session.id=one", "/mcp?SESSION-ID[0]=one"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := newSessionDoor(t)
			stream := "event: endpoint\ndata: " + c.event + "\n\ndata: 1\n\n"
			resp := d.ask(d.alice, request("GET", c.path, "Accept", "text/event-stream", "Accept-Encoding", "gzip"), func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") != "" {
					t.Error("the stream may come compressed, and nobody could look at it")
				}
				w.Header().Set("Content-Type", "text/event-stream")
				for part := range strings.SplitAfterSeq(stream, "e") {
					fmt.Fprint(w, part)
				}
			})
			if got := string(body(t, resp)); c.path != "/sse" && got != stream {
				t.Errorf("the stream is %q, want %q", got, stream)
			}
			if resp := d.ask(d.alice, request("POST", c.own), accepts); resp.StatusCode != http.StatusAccepted {
				t.Errorf("its owner: %d", resp.StatusCode)
			}
			wantNoSession(t, "somebody else", d.ask(d.bob, request("POST", c.own), nil))
			wantNoSession(t, "somebody else with another spelling", d.ask(d.bob, request("POST", c.foreign), nil))
			wantNoSession(t, "somebody else with a header", d.ask(d.bob, request("POST", "/mcp", "Mcp-Session-Id", "one"), nil))
			wantNoSession(t, "a session of nobody", d.ask(d.alice, request("POST", strings.ReplaceAll(c.own, "=one", "=two")), nil))
		})
	}
}

func TestWhatGivesNoSession(t *testing.T) {
	for rule, upstream := range map[string]http.HandlerFunc{
		"a refusal": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Mcp-Session-Id", "one")
			w.WriteHeader(http.StatusBadRequest)
		},
		"two at once": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Mcp-Session-Id"] = []string{"one", "two"}
		},
		"a later event": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: 1\n\nevent: endpoint\ndata: ?sessionId=one\n\n")
		},
		"another event": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: message\ndata: ?sessionId=one\n\n")
		},
		"what is no stream": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "event: endpoint\ndata: ?sessionId=one\n\n")
		},
		"an address with two": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: endpoint\ndata: ?sessionId=two&x=y&session_id=one\n\n")
		},
		"an address without one": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: endpoint\ndata: /messages/one\n\n")
		},
	} {
		d := newSessionDoor(t)
		d.ask(d.alice, request("GET", "/sse"), upstream)
		wantNoSession(t, rule, d.ask(d.alice, request("POST", "/mcp", "Mcp-Session-Id", "one"), nil))
		if calls := len(d.sessions.Calls()); calls != 1 { // the look for it
			t.Errorf("%s: %d calls of the store", rule, calls)
		}
	}
}

func TestASessionThatItsOwnerEndsIsForgotten(t *testing.T) {
	d := newSessionDoor(t)
	d.ask(d.alice, request("POST", "/mcp"), gives("one"))
	d.ask(d.alice, request("DELETE", "/mcp", "Mcp-Session-Id", "one"), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMethodNotAllowed)
	})
	if resp := d.ask(d.alice, request("POST", "/mcp", "Mcp-Session-Id", "one"), accepts); resp.StatusCode != http.StatusAccepted {
		t.Errorf("after it could not be ended: %d", resp.StatusCode)
	}
	d.ask(d.alice, request("DELETE", "/mcp", "Mcp-Session-Id", "one"), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	d.sessions.FailMethods(storetest.Before, storetest.Get) // it is not remembered any more
	if resp := d.ask(d.alice, request("POST", "/mcp", "Mcp-Session-Id", "one"), nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after its end: %d", resp.StatusCode)
	}
}

func TestNobodyCanTellWhoseASessionIsWithoutTheStore(t *testing.T) {
	d := newSessionDoor(t)
	d.sessions.FailMethods(storetest.Before, storetest.Get, storetest.Put)
	d.ask(d.alice, request("POST", "/mcp"), gives("one"))
	if resp := d.ask(d.alice, request("POST", "/mcp", "Mcp-Session-Id", "one"), accepts); resp.StatusCode != http.StatusAccepted {
		t.Errorf("a session that was begun meanwhile: %d", resp.StatusCode)
	}
	resp := d.ask(d.alice, request("POST", "/mcp", "Mcp-Session-Id", "two"), nil)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("a session that is not known: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestRequestsWithoutASessionCostTheStoreNothing(t *testing.T) {
	d := newSessionDoor(t)
	d.ask(d.alice, request("POST", "/mcp"), gives("one"))
	calls := len(d.sessions.Calls())
	for _, r := range []*http.Request{
		request("POST", "/mcp"), request("POST", "/mcp?a=b&id=1&session=x"), request("GET", "/sse", "Accept", "text/event-stream"),
		request("POST", "/mcp", "Mcp-Session-Id", "one"), request("POST", "/mcp", "Mcp-Session-Id", "x", "MCP-Protocol-Version", "2026-07-28"),
	} {
		if resp := d.ask(d.alice, r, gives("one")); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", r.URL, resp.StatusCode)
		}
	}
	if made := len(d.sessions.Calls()) - calls; made != 0 {
		t.Errorf("%d calls of the store", made)
	}
}

func TestWithoutAuthenticationSessionsAreEverybodys(t *testing.T) {
	d := newSessionDoor(t)
	open := newDoor(t, func(c *gate.Config) {
		c.Omit, c.Sessions = true, mcpsession.New(d.sessions, "test/", []byte("a key"), zap.NewNop())
	})
	if claims, refused, _ := open.check(request("POST", "/mcp", "Mcp-Session-Id", "one")); claims != nil || refused != nil {
		t.Errorf("%v, %v", claims, refused)
	}
	if len(d.sessions.Calls()) != 0 {
		t.Error("the store is asked")
	}
}
