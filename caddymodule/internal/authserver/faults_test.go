package authserver_test

import (
	"iter"
	"net/http"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// step is one request of a flow. It fails with a response that is to be 503, or
// succeeds, and then the next step finds what it needs in the flow.
type step struct {
	name string
	do   func(*flow) *http.Response
}

// flow is what the steps hand on to each other.
type flow struct {
	*site
	browser  *browser
	clientID string
	page     *page
	code     string
	userCode string
	refresh  string
	access   string
}

// response is the page in the form that programs get.
func (p *page) response() *http.Response {
	return &http.Response{StatusCode: p.status, Header: p.header}
}

// submitted posts a form of the current page and keeps the page for another try
// when it fails.
func (f *flow) submitted(path string, pairs ...string) *http.Response {
	p := f.browser.postOnce(path, with(f.page.form(path).values, pairs...))
	if p.status < http.StatusInternalServerError {
		f.page = p
	}
	return p.response()
}

// opened opens an address, and keeps the page that was there when it fails.
func (f *flow) opened(target string) *http.Response {
	p := f.browser.send(request(http.MethodGet, target, nil))
	if p.status < http.StatusInternalServerError {
		f.page = p
	}
	return p.response()
}

var flowSteps = []step{
	{"register", func(f *flow) *http.Response {
		a := f.program(request(http.MethodPost, "/register", `{"redirect_uris":["`+callback+`"]}`))
		f.clientID = a.text("client_id")
		return a.Response
	}},
	{"ask for authorization", func(f *flow) *http.Response {
		return f.opened("/authorize?" + authorization(f.clientID).Encode())
	}},
	{"sign in", func(f *flow) *http.Response {
		return f.submitted("/login", "username", "alice", "password", password)
	}},
	{"see the consent page", func(f *flow) *http.Response { return f.opened(f.page.header.Get("Location")) }},
	{"allow", func(f *flow) *http.Response {
		resp := f.submitted("/authorize", "decision", "allow")
		if resp.StatusCode == http.StatusOK {
			f.code = f.page.handedOff().Get("code")
		}
		return resp
	}},
	{"redeem the code", func(f *flow) *http.Response {
		return f.keep(f.token(redemption(f.clientID, f.code)))
	}},
	{"refresh", func(f *flow) *http.Response { return f.keep(f.token(renewal(f.clientID, f.refresh))) }},
	{"refresh without a client", func(f *flow) *http.Response { return f.keep(f.token(renewal("-", f.refresh))) }},
	{"see the connected apps", func(f *flow) *http.Response { return f.opened("/account") }},
	{"remove the app", func(f *flow) *http.Response { return f.submitted("/account/revoke") }},
	{"sign out everywhere", func(f *flow) *http.Response { return f.submitted("/logout", "everywhere", "1") }},
}

func (f *flow) keep(a answer) *http.Response {
	if a.StatusCode == http.StatusOK {
		f.access, f.refresh = a.text("access_token"), a.text("refresh_token")
	}
	return a.Response
}

// A call to the store that fails, whichever it is and however, is a 503 with
// Retry-After and never a refusal or a success that is none. The step can then be
// made again, and the flow goes on; the one exception is a code that was used up
// by an answer that got lost.
func TestAStoreFaultIsA503AndTheStepCanBeRepeated(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t)
		f := &flow{site: s, browser: s.browser()}
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		for _, step := range flowSteps {
			if !f.survives(step, n, when) {
				break
			}
		}
		return s.store.Calls()[before:]
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}

// faults yields every way in which one of the calls can fail.
func faults(t *testing.T, calls []storetest.Call) iter.Seq2[int, storetest.Moment] {
	t.Helper()
	if len(calls) < 3 {
		t.Fatalf("only %d calls to the store", len(calls))
	}
	return func(yield func(int, storetest.Moment) bool) {
		for i, c := range calls {
			moments := []storetest.Moment{storetest.Before, storetest.During, storetest.After}
			if c.Method == storetest.Get {
				moments = moments[:1]
			}
			for _, when := range moments {
				if !yield(i+1, when) {
					return
				}
			}
		}
	}
}

// survives makes a step, twice when it met the fault, and reports whether the
// flow can go on.
func (f *flow) survives(step step, n int, when storetest.Moment) bool {
	f.t.Helper()
	faults := f.store.Injected()
	resp := step.do(f)
	if f.store.Injected() == faults {
		if resp.StatusCode >= http.StatusBadRequest {
			f.t.Errorf("call %d fails %s: %s, which met no fault: %d", n, when, step.name, resp.StatusCode)
			return false
		}
		return true
	}
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Cache-Control") != "no-store" {
		f.t.Errorf("call %d fails %s: %s: %d with headers %v", n, when, step.name, resp.StatusCode, resp.Header)
	}
	again := step.do(f)
	if step.name == "redeem the code" && again.StatusCode == http.StatusBadRequest && when == storetest.After {
		return false // the answer with the tokens is lost, and a second one would be a replay
	}
	if again.StatusCode >= http.StatusBadRequest {
		f.t.Errorf("call %d fails %s: %s again: %d", n, when, step.name, again.StatusCode)
		return false
	}
	return true
}

// While the store is down, what needs no store works and everything else says
// that it will be back.
func TestWhileTheStoreIsDownPublicDocumentsStayUp(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	code := b.code(authorization(id))
	access := s.tokens(id).text("access_token")
	s.store.FailMethods(storetest.Before)
	for _, path := range []string{"/", "/health", "/jwks", oauth.WellKnownServer} {
		if resp := s.serve(request(http.MethodGet, path, nil)); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if !s.good(access) {
		t.Error("a good token is refused")
	}
	for _, r := range []*http.Request{
		request(http.MethodPost, "/token", redemption(id, code)),
		request(http.MethodPost, "/token", redemption("mcp_AAAAAAAAAAAAAAAAAAAAAAAAAA", code)),
		request(http.MethodPost, "/revoke", renewal(id, "junk", "token", "junk")),
		request(http.MethodPost, "/register", `{"redirect_uris":["`+callback+`"]}`),
		accept(request(http.MethodGet, "/authorize?"+authorization(id).Encode(), nil), "application/json"),
	} {
		a := s.program(r)
		a.refused(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", r.URL.Path)
		}
	}
	s.token(renewal(robotID, "junk", "grant_type", "refresh_token")).refused(t, 401, "invalid_client")
}

func accept(r *http.Request, kind string) *http.Request {
	r.Header.Set("Accept", kind)
	return r
}
