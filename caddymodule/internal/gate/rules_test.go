package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
)

// step is a call of StepUp.
type step struct{ grant, needed string }

// ruledDoor is a gate whose scopes mcp and bugs:write name tools, and whose scope
// admin of another resource does not.
func ruledDoor(t testing.TB, change ...func(*gate.Config)) (*door, *[]step) {
	t.Helper()
	scopes, err := policy.NewScopes([]policy.Scope{
		{Name: "mcp", Tools: []string{"get_*"}}, {Name: "bugs:write", Tools: []string{"create_case"}, Implies: []string{"mcp"}},
		{Name: "admin"}, {Name: "staff", Tools: []string{"fire"}, Allow: &policy.Allow{Groups: []string{"staff"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	rules := func(cfg *gate.Config) {
		cfg.Policy = scopes
		for _, r := range cfg.Resources[:3] {
			r.Scopes = append(r.Scopes, "staff")
		}
		cfg.StepUp = func(_ context.Context, grantID string, needed oauth.Scopes) {
			steps = append(steps, step{grantID, needed.String()})
		}
	}
	return newDoor(t, append([]func(*gate.Config){rules}, change...)...), &steps
}

// rpc is a POST of a body as clients send it.
func rpc(path, token, body string, header ...string) *http.Request {
	r := httptest.NewRequest("POST", issuer+path, strings.NewReader(body))
	r.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "-" {
			r.Header.Del(header[i])
			continue
		}
		r.Header[header[i]] = append(r.Header[header[i]], header[i+1])
	}
	return r
}

func call(tool string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `"}}`
}

// The body arrives as it was sent, with its length, and whatever its framing was.
func TestAnAllowedCallArrivesByteByByte(t *testing.T) {
	d, steps := ruledDoor(t)
	token := d.mint("/mcp", "bugs:write")
	for name, body := range map[string]string{
		"a call": call("create_case"), "white space": " \n" + call("get_bug") + "\r\n", "an implied scope": call("get_x"),
		"a batch": "[" + call("get_bug") + `,{"jsonrpc":"2.0","id":"x","method":"ping"}]`, "a notification": `{"method":"notifications/initialized"}`,
		"an answer": `{"jsonrpc":"2.0","id":3,"result":{"action":"accept"}}`, "a method without a rule": `{"id":1,"method":"resources/read","params":{"uri":"x"}}`,
		"a large one": `{"id":1,"method":"tools/call","params":{"name":"get_bug","arguments":{"x":"` + strings.Repeat("x", 3<<20) + `"}}}`,
	} {
		for _, chunked := range []bool{false, true} {
			r := rpc("/mcp", token, body, "Accept-Encoding", "gzip, br", "Range", "bytes=1-5", "Content-Type", "-", "Content-Type", "application/json; charset=UTF-8")
			if chunked {
				r.ContentLength, r.TransferEncoding, r.Trailer = -1, []string{"chunked"}, http.Header{"X-Late": {"1"}}
			}
			if _, refused, resp := d.check(r); refused != nil {
				t.Errorf("%s: refused with %v: %d", name, refused.Reason, resp.StatusCode)
				continue
			}
			got, err := io.ReadAll(r.Body)
			if err != nil || string(got) != body || r.ContentLength != int64(len(body)) || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 {
				t.Errorf("%s: %d bytes of %d with length %d, %v", name, len(got), len(body), r.ContentLength, err)
			}
			if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Range") != "" {
				t.Errorf("%s: the headers are %v", name, r.Header)
			}
		}
	}
	if len(*steps) > 0 {
		t.Errorf("steps up for nothing: %v", *steps)
	}
}

func TestARequestWithoutABodyPasses(t *testing.T) {
	d, _ := ruledDoor(t)
	token := d.mint("/mcp", "mcp")
	for _, method := range []string{"GET", "DELETE", "HEAD"} {
		r := request(method, "/sse", "Authorization", "Bearer "+token)
		if _, refused, _ := d.check(r); refused != nil {
			t.Errorf("%s: %v", method, refused.Reason)
		}
		r = request(method, "/sse", "Authorization", "Bearer "+token)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1 // HTTP/2 and 3 may tell no length
		if _, refused, _ := d.check(r); refused != nil || r.Body != http.NoBody {
			t.Errorf("%s without a length: %v", method, refused)
		}
	}
}

// A resource without rules is not looked into.
func TestOtherResourcesAreNotLookedInto(t *testing.T) {
	d, _ := ruledDoor(t)
	r := rpc("/mcp/admin", d.mint("/mcp/admin", "admin"), "no JSON", "Accept-Encoding", "gzip")
	body := r.Body
	if _, refused, _ := d.check(r); refused != nil || r.Body != body || r.Header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("refused (%v) or changed: %v", refused, r.Header)
	}
}

func TestOmittedAuthenticationHasNoRules(t *testing.T) {
	d, _ := ruledDoor(t, func(cfg *gate.Config) { cfg.Omit = true })
	if _, refused, _ := d.check(rpc("/mcp", "", "no JSON", "Authorization", "-")); refused != nil {
		t.Errorf("refused: %v", refused.Reason)
	}
}

// None of these is let through, whatever the token has a right to.
func TestARequestThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	d, steps := ruledDoor(t)
	token := d.mint("/mcp", "mcp bugs:write")
	good := call("get_bug")
	for _, c := range []struct {
		name   string
		r      *http.Request
		status int
		code   int
	}{
		{"a method in a header", rpc("/mcp", token, good, "Mcp-Method", "tools/list"), 400, -32020},
		{"a name in a header", rpc("/mcp", token, good, "Mcp-Method", "tools/call", "Mcp-Name", "get_case"), 400, -32020},
		{"and of the revision that has them", rpc("/mcp", token, good, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "create_case"), 400, -32020},
		{"a header with an underscore", rpc("/mcp", token, good, "Mcp_method", "tools/call"), 400, -32600},
		{"a header with a dot", rpc("/mcp", token, good, "Mcp.name", "get_bug"), 400, -32600},
		{"a type with an underscore", rpc("/mcp", token, good, "Content_type", "application/json; charset=utf-7"), 400, -32600},
		{"an encoding with an underscore", rpc("/mcp", token, good, "Content_encoding", "deflate"), 400, -32600},
		{"two methods", rpc("/mcp", token, `{"method":"ping","method":"tools/call","params":{"name":"get_bug"}}`), 400, -32600},
		{"another case", rpc("/mcp", token, `{"method":"ping","Method":"tools/call","params":{"name":"fire"}}`), 400, -32600},
		{"no JSON", rpc("/mcp", token, "method=tools/call"), 400, -32600},
		{"nothing", rpc("/mcp", token, ""), 400, -32700},
		{"a second message", rpc("/mcp", token, good+good), 400, -32700},
		{"text", rpc("/mcp", token, good, "Content-Type", "-", "Content-Type", "text/plain"), 415, -32600},
		{"a form", rpc("/mcp", token, good, "Content-Type", "-", "Content-Type", "application/x-www-form-urlencoded"), 415, -32600},
		{"no type", rpc("/mcp", token, good, "Content-Type", "-"), 415, -32600},
		{"two types", rpc("/mcp", token, good, "Content-Type", "text/plain"), 415, -32600},
		{"another charset", rpc("/mcp", token, good, "Content-Type", "-", "Content-Type", "application/json; charset=utf-16"), 415, -32600},
		{"two charsets", rpc("/mcp", token, good, "Content-Type", "-", "Content-Type", "application/json; charset=utf-8; charset=utf-7"), 415, -32600},
		{"a type that cannot be read", rpc("/mcp", token, good, "Content-Type", "-", "Content-Type", "application/json; ;"), 415, -32600},
		{"compressed", rpc("/mcp", token, good, "Content-Encoding", "gzip"), 415, -32600},
		{"compressed twice", rpc("/mcp", token, good, "Content-Encoding", "identity", "Content-Encoding", "br"), 415, -32600},
		{"too long", rpc("/mcp", token, `{"method":"ping","x":"`+strings.Repeat("x", 4<<20)+`"}`), 413, -32600},
		{"too long in chunks", chunked(rpc("/mcp", token, strings.Repeat(" ", 4<<20+1))), 413, -32600},
		{"a body that breaks off", broken(rpc("/mcp", token, good)), 400, -32600},
		{"PUT", method("PUT", rpc("/mcp", token, good)), 400, -32600},
		{"PATCH", method("PATCH", rpc("/mcp", token, good)), 400, -32600},
		{"a method of nobody", method("TOOLS", rpc("/mcp", token, good)), 400, -32600},
		{"GET with a body", method("GET", rpc("/mcp", token, good)), 400, -32600},
		{"GET with a chunked body", chunked(method("GET", rpc("/mcp", token, good))), 400, -32600},
		{"DELETE with a body", method("DELETE", rpc("/mcp", token, good)), 400, -32600},
		{"the old transport", rpc("/messages?sessionId=1", token, `{"method":"ping","method":"tools/call"}`), 400, -32600},
		{"below the path", rpc("/mcp/x", token, "no JSON"), 400, -32600},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refused, resp := d.check(c.r)
			if refused == nil || !errors.Is(refused.Reason, gate.ErrUnreadable) {
				t.Fatalf("not refused as it should be: %v", refused)
			}
			var answer struct{ Error struct{ Code int } }
			data := body(t, resp)
			if err := json.Unmarshal(data, &answer); err != nil || resp.StatusCode != c.status || answer.Error.Code != c.code {
				t.Errorf("got %d %s, want %d with code %d", resp.StatusCode, data, c.status, c.code)
			}
			if resp.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("a challenge: %v", resp.Header)
			}
		})
	}
	if len(*steps) > 0 {
		t.Errorf("steps up for nothing: %v", *steps)
	}
}

func chunked(r *http.Request) *http.Request {
	r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
	return r
}

func method(name string, r *http.Request) *http.Request {
	r.Method = name
	return r
}

func broken(r *http.Request) *http.Request {
	r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 10), readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF })))
	return r
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestACallThatNeedsAnotherScopeIsChallenged(t *testing.T) {
	for _, c := range []struct {
		name, granted, body, header string
		challenge                   string // the scopes
		answer                      string
	}{
		{"a call", "mcp", call("create_case"), "", "mcp bugs:write", `{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}}`},
		{"with the scopes that it has", "mcp other", call("create_case"), "", "mcp other bugs:write", `{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}}`},
		{"the old transport", "mcp", call("create_case"), "/messages", "mcp bugs:write", `{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}}`},
		{"a batch", "mcp", "[" + call("get_bug") + `,{"id":"x","method":"tools/call","params":{"name":"create_case"}},{"id":null,"method":"ping"}]`, "", "mcp bugs:write",
			`[{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}},{"jsonrpc":"2.0","id":"x","error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}}]`},
		{"a notification", "mcp", `{"method":"tools/call","params":{"name":"create_case"}}`, "", "mcp bugs:write", `{"jsonrpc":"2.0","error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}}`},
		{"escapes", "mcp", `{"id":1,"method":"tools\/call","params":{"n\u0061me":"cr\u0065ate_case"}}`, "", "mcp bugs:write", `{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"the token lacks a scope for this: bugs:write"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, steps := ruledDoor(t)
			path := "/mcp"
			if c.header != "" {
				path = c.header
			}
			_, refused, resp := d.check(rpc(path, d.mint("/mcp", c.granted), c.body))
			if refused == nil || !errors.Is(refused.Reason, gate.ErrLacking) || resp.StatusCode != http.StatusForbidden {
				t.Fatalf("not refused as it should be: %v", refused)
			}
			want := `Bearer error="insufficient_scope", error_description="the call needs a scope that the token does not have", ` + metadata + `, scope="` + c.challenge + `"`
			if path == "/messages" {
				want = strings.Replace(want, "oauth-protected-resource/mcp", "oauth-protected-resource/messages", 1)
			}
			if got := resp.Header["Www-Authenticate"]; len(got) != 1 || got[0] != want {
				t.Errorf("challenged with\n%q, want\n%q", got, want)
			}
			if got := string(body(t, resp)); got != c.answer {
				t.Errorf("answered\n%s, want\n%s", got, c.answer)
			}
			if len(*steps) != 1 || (*steps)[0] != (step{"grant", "bugs:write"}) {
				t.Errorf("steps up: %v", *steps)
			}
			if len(refused.Calls) == 0 {
				t.Error("the refusal tells of no calls")
			}
		})
	}
}

// What nobody can get is answered as a tool that is not there, and nobody is asked
// for more scopes.
func TestACallThatNoScopeCanMakeGoodIsNotChallenged(t *testing.T) {
	answer := `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no scope that you can have here is good for this"}}`
	for _, c := range []struct {
		name   string
		r      func(*door) *http.Request
		status int
		answer string
	}{
		{"a tool in no scope", func(d *door) *http.Request { return rpc("/mcp", d.mint("/mcp", "mcp bugs:write staff"), call("drop")) }, 200, answer},
		{"a scope of others", func(d *door) *http.Request { return rpc("/mcp", d.mint("/mcp", "mcp"), call("fire")) }, 200, answer},
		{"a scope of others that was granted", func(d *door) *http.Request { return rpc("/mcp", d.mint("/mcp", "mcp staff"), call("fire")) }, 200, answer},
		{"a scope that the client cannot have", func(d *door) *http.Request {
			return rpc("/mcp", d.mint("/mcp", "mcp", func(c *oauth.AccessTokenClaims) { c.ClientID = "narrow" }), call("create_case"))
		}, 200, answer},
		{"the old transport", func(d *door) *http.Request {
			return rpc("/messages", d.mint("/mcp", "mcp"), call("drop"), "Accept", "-")
		}, 403, answer},
		{"a script", func(d *door) *http.Request {
			return rpc("/mcp", d.mint("/mcp", "mcp"), call("drop"), "Accept", "-", "Accept", "*/*")
		}, 403, answer},
		{"a notification", func(d *door) *http.Request {
			return rpc("/mcp", d.mint("/mcp", "mcp"), `{"method":"tools/call","params":{"name":"drop"}}`)
		}, 403, `{"jsonrpc":"2.0","error":{"code":-32602,"message":"no scope that you can have here is good for this"}}`},
		{"one of a batch", func(d *door) *http.Request {
			return rpc("/mcp", d.mint("/mcp", "mcp"), "["+call("get_bug")+","+strings.Replace(call("drop"), ":1,", ":2,", 1)+"]")
		}, 200, "[" + answer + "," + strings.Replace(answer, ":1,", ":2,", 1) + "]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, steps := ruledDoor(t, func(cfg *gate.Config) {
				cfg.ClientScopes = func(_ context.Context, id string) oauth.Scopes { return map[string]oauth.Scopes{"narrow": {"mcp"}}[id] }
			})
			_, refused, resp := d.check(c.r(d))
			if refused == nil || !errors.Is(refused.Reason, gate.ErrDenied) || resp.StatusCode != c.status || resp.Header.Get("WWW-Authenticate") != "" {
				t.Fatalf("not refused as it should be: %v, %d %v", refused, resp.StatusCode, resp.Header)
			}
			if got := string(body(t, resp)); got != c.answer {
				t.Errorf("answered\n%s, want\n%s", got, c.answer)
			}
			if len(*steps) > 0 {
				t.Errorf("steps up for nothing: %v", *steps)
			}
		})
	}
}

// Clients that act for themselves have no refresh token, and neither have static
// tokens.
func TestOnlyGrantsOfPeopleStepUp(t *testing.T) {
	d, steps := ruledDoor(t, func(cfg *gate.Config) { cfg.Static = append(cfg.Static, static("static-token-narrow", "mcp")) })
	machine := d.mint("/mcp", "mcp", func(c *oauth.AccessTokenClaims) { c.Subject = c.ClientID })
	for _, token := range []string{machine, "static-token-narrow"} {
		if _, refused, resp := d.check(rpc("/mcp", token, call("create_case"))); refused == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("not refused: %v", refused)
		}
	}
	if len(*steps) > 0 {
		t.Errorf("steps up: %v", *steps)
	}
	// A token that has lost all its scopes does, to what the resource gives.
	if _, refused, _ := d.check(rpc("/mcp", d.mint("/mcp", "gone"), call("get_bug"))); refused == nil || !errors.Is(refused.Reason, gate.ErrScope) {
		t.Errorf("not refused: %v", refused)
	}
	if len(*steps) != 1 || (*steps)[0] != (step{"grant", "mcp"}) {
		t.Errorf("steps up: %v", *steps)
	}
}

func TestAScopeCountsForThoseWhomItsRuleAdmits(t *testing.T) {
	d, _ := ruledDoor(t)
	inStaff := func(c *oauth.AccessTokenClaims) { c.Groups = []string{"staff"} }
	if _, refused, _ := d.check(rpc("/mcp", d.mint("/mcp", "staff", inStaff), call("fire"))); refused != nil {
		t.Errorf("staff is refused: %v", refused.Reason)
	}
	_, refused, resp := d.check(rpc("/mcp", d.mint("/mcp", "mcp", inStaff), call("fire")))
	if refused == nil || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `scope="mcp staff"`) {
		t.Errorf("staff is not challenged: %v", refused)
	}
	if _, refused, _ := d.check(rpc("/mcp", d.mint("/mcp", "staff"), `{"method":"ping"}`)); refused == nil || !errors.Is(refused.Reason, gate.ErrScope) {
		t.Errorf("a scope that does not count lets a request through: %v", refused)
	}
	if _, refused, _ := d.check(request("GET", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "bugs:write"))); refused != nil {
		t.Errorf("a scope that implies one of the resource: %v", refused.Reason)
	}
}

func TestThePassTellsOfTheCalls(t *testing.T) {
	d, _ := ruledDoor(t)
	pass, refused := d.Check(httptest.NewRecorder(), rpc("/mcp", d.mint("/mcp", "mcp"), "["+call("get_bug")+`,{"method":"ping"}]`), "/mcp")
	if refused != nil || len(pass.Calls) != 2 || pass.Calls[0] != (policy.Call{Method: "tools/call", Tool: "get_bug"}) || pass.Calls[1].Method != "ping" {
		t.Errorf("%v, %+v", refused, pass.Calls)
	}
}

func BenchmarkRules(b *testing.B) {
	d, _ := ruledDoor(b)
	token := d.mint("/mcp", "mcp")
	body := `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"get_bug","arguments":{"x":"` + strings.Repeat("x", 1900) + `"}}}`
	w, r := httptest.NewRecorder(), rpc("/mcp", token, "")
	b.ReportAllocs()
	for b.Loop() {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		if _, refused := d.Check(w, r, "/mcp"); refused != nil {
			b.Fatal(refused.Reason)
		}
	}
}
