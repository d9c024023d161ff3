package pages

import (
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

func newRenderer(t testing.TB, change ...func(*Options)) *Renderer {
	t.Helper()
	o := Options{ServerName: "Cisco Support", Host: "mcp.example.com", HelpURL: "https://example.com/help", AccountPath: "/account"}
	for _, f := range change {
		f(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// render runs one page and returns its response and its document.
func render(t testing.TB, lang string, show func(http.ResponseWriter, *http.Request) error) (*http.Response, *node) {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	req.Header.Set("Accept-Language", lang)
	if err := show(w, req); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), &node{root}
}

// node is an element with the questions that the tests ask.
type node struct{ *html.Node }

// all returns the elements below n that satisfy every condition, such as
// "button", ".note", "#can" or "name=scope".
func (n *node) all(conditions ...string) []*node {
	var out []*node
	for d := range n.Descendants() {
		if e := (&node{d}); d.Type == html.ElementNode && e.is(conditions) {
			out = append(out, e)
		}
	}
	return out
}

func (n *node) is(conditions []string) bool {
	for _, c := range conditions {
		name, value, pair := strings.Cut(c, "=")
		var ok bool
		switch {
		case strings.HasPrefix(c, "."):
			ok = strings.Contains(" "+n.attr("class")+" ", " "+c[1:]+" ")
		case strings.HasPrefix(c, "#"):
			ok = n.attr("id") == c[1:]
		case pair:
			ok = n.attr(name) == value
		default:
			ok = n.Data == c
		}
		if !ok {
			return false
		}
	}
	return true
}

// one returns the only element that satisfies the conditions.
func (n *node) one(t testing.TB, conditions ...string) *node {
	t.Helper()
	found := n.all(conditions...)
	if len(found) != 1 {
		t.Fatalf("%d elements are %v, want 1", len(found), conditions)
	}
	return found[0]
}

func (n *node) attr(name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func (n *node) has(name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

// text returns the text below n with single spaces.
func (n *node) text() string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

var (
	cursor = Client{
		Name: "Cursor", ID: "mcp_7Q2m", Level: UnconfirmedApp,
		Redirect: "cursor://anysphere.cursor-retrieval/oauth/callback",
	}
	claude = Client{
		Name: "Claude", ID: "https://claude.ai/oauth/mcp-oauth-client-metadata", Level: Confirmed,
		Redirect: "https://claude.ai/api/mcp/auth_callback",
	}
	readScope  = Scope{Name: "bugs:read", Sentence: "Search and read Cisco bugs", Why: "8 tools"}
	writeScope = Scope{Name: "cases:write", Sentence: "Change support cases", Optional: true, Change: true}
	cisco      = Resource{URL: "https://mcp.example.com/mcp"}
)

const token = "opaque-form-token"

// everyPage is each page in each of its states.
func everyPage(r *Renderer) map[string]func(http.ResponseWriter, *http.Request) error {
	all := map[string]func(http.ResponseWriter, *http.Request) error{}
	for name, c := range clientsOfEveryKind() {
		all["consent "+name] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Consent(w, req, 200, Consent{
				Client: c, Resource: cisco, User: "alice@example.com", Token: token, StayConnected: true,
				Scopes: []Scope{readScope, writeScope, {Name: "plain"}, {Name: "maybe", Optional: true}, {Name: "x", Change: true}},
			})
		}
		all["login "+name] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Login(w, req, 200, Login{Client: &c, Password: true, Token: token, Providers: []Provider{{"Google", "/login/google"}}})
		}
		for _, denied := range []bool{false, true} {
			key := "handoff allowed "
			if denied {
				key = "handoff denied "
			}
			all[key+name] = func(w http.ResponseWriter, req *http.Request) error {
				return r.Handoff(w, req, 200, Handoff{Client: c, User: "alice", Denied: denied, URL: template.URL(c.Redirect + "?code=x&state=y")})
			}
		}
	}
	for _, f := range []LoginFailure{WrongCredentials, TooManyTries, LoginBusy, LoginExpired, LoginOutage} {
		all["login failure "+string(f)] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Login(w, req, 401, Login{Client: &claude, Password: true, Token: token, Failed: Failed{Failure: f, TriesLeft: 3, Wait: time.Minute}, Username: "alice"})
		}
	}
	all["login account"] = func(w http.ResponseWriter, req *http.Request) error {
		return r.Login(w, req, 200, Login{Password: true, Passkey: "/login/passkey?continue=x", Token: token})
	}
	all["login again"] = func(w http.ResponseWriter, req *http.Request) error {
		return r.Login(w, req, 200, Login{Password: true, Again: true, Token: token})
	}
	for p := range problems {
		all["error "+string(p)] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Error(w, req, 400, Error{Problem: p, Detail: "why", Reference: "01JD", User: "alice", Provider: "Google", SwitchToken: token})
		}
	}
	addDevices(r, all)
	addFactors(r, all)
	addRest(r, all)
	return all
}

const userCode = "WDJB-MJHT"

// addDevices adds the pages for devices.
func addDevices(r *Renderer, all map[string]func(http.ResponseWriter, *http.Request) error) {
	for name, v := range map[string]Device{
		"device code": {}, "device code to compare": {Code: userCode, Compare: true},
		"device code unknown": {Code: userCode, Failure: UnknownUserCode}, "device code pause": {Code: "x", Failure: TooManyUserCodes, Wait: time.Minute},
	} {
		v.Token = token
		all[name] = func(w http.ResponseWriter, req *http.Request) error { return r.Device(w, req, 200, v) }
	}
	for name, c := range clientsOnDevices() {
		all["consent of a device "+name] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Consent(w, req, 200, Consent{
				Client: c, Resource: cisco, User: "alice", Token: token, UserCode: userCode, StayConnected: true, Scopes: []Scope{readScope, writeScope},
			})
		}
		all["login for a device "+name] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Login(w, req, 200, Login{Client: &c, Password: true, Token: token})
		}
		for _, denied := range []bool{false, true} {
			all[fmt.Sprint("device done ", name, denied)] = func(w http.ResponseWriter, req *http.Request) error {
				return r.DeviceDone(w, req, 200, DeviceDone{Client: c, Resource: cisco, User: "alice", Denied: denied})
			}
		}
	}
}

// clientsOnDevices are the levels that clients without an address can have.
func clientsOnDevices() map[string]Client {
	return map[string]Client{
		"configured": {Name: "Nightly report", ID: "nightly", Level: Configured, Device: true},
		"described":  {Name: "Claude Code", ID: "https://claude.ai/cc", Level: ConfirmedLocal, Device: true},
		"registered": {Name: "Claude Code", ID: "mcp_1", Level: UnconfirmedApp, Device: true, RegisteredAt: time.Now()},
		"nameless":   {Name: "\u200b", ID: "mcp_2", Level: UnconfirmedApp, Device: true},
		"hostile":    {Name: `<script>alert(1)</script>`, ID: "mcp_3", Level: UnconfirmedApp, Device: true},
	}
}

func addFactors(r *Renderer, all map[string]func(http.ResponseWriter, *http.Request) error) {
	const uri = "otpauth://totp/Cisco%20Support:alice?issuer=Cisco%20Support&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	for _, f := range []LoginFailure{NoFailure, WrongCode, WrongRecovery, CodesLocked, TooManyTries} {
		failed := Failed{Failure: f, TriesLeft: 2, Wait: time.Minute}
		all["code "+string(f)] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Code(w, req, 403, Code{Client: &claude, Resource: cisco, Failed: failed, Back: "/authorize?continue=x", Token: token})
		}
		all["enrol "+string(f)] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Enrol(w, req, 200, Enrol{URI: uri, Secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", Failed: failed, Back: "/account", Token: token})
		}
		all["enrol required "+string(f)] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Enrol(w, req, 200, Enrol{URI: uri, Secret: "JBSWY3DP", Failed: failed, Required: true, Back: "/account", Token: token})
		}
		all["factor "+string(f)] = func(w http.ResponseWriter, req *http.Request) error {
			return r.Factor(w, req, 200, Factor{Failed: failed, Token: token})
		}
	}
	all["code account"] = func(w http.ResponseWriter, req *http.Request) error {
		return r.Code(w, req, 200, Code{Back: "/account", Token: token})
	}
	all["recovery"] = func(w http.ResponseWriter, req *http.Request) error {
		return r.Recovery(w, req, 200, Recovery{Codes: []string{"aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh"}, Next: "/account"})
	}
	for name, v := range map[string]SignIn{
		"nothing":  {Offered: true},
		"no names": {Required: true},
		"all": {App: true, Since: time.Now(), RecoveryCodes: 1, Offered: true, Full: true, Passkeys: []Passkey{
			{ID: "a", Name: "Laptop", Added: time.Now()}, {ID: "b", Name: "<b>\u202ephone", Added: time.Now(), Used: time.Now()},
		}},
	} {
		for _, n := range []Notice{NoNotice, FactorOff, FactorAnew, PasskeyAdded, PasskeyRemoved} {
			all["account sign-in "+name+" "+string(n)] = func(w http.ResponseWriter, req *http.Request) error {
				return r.Account(w, req, 200, Account{User: "alice", Token: token, SignIn: &v, Notice: n, Named: "Laptop"})
			}
		}
	}
	addPasskeys(r, all)
}

// addPasskeys adds the pages that have a script.
func addPasskeys(r *Renderer, all map[string]func(http.ResponseWriter, *http.Request) error) {
	const options = `{"publicKey":{"challenge":"AAAA"}}`
	for name, v := range map[string]PasskeyPage{
		"use":     {Client: &claude, Options: options, Back: "/authorize?continue=x", Token: token},
		"account": {Options: options, Back: "/account", Token: token, Failed: Failed{Failure: WrongPasskey}},
		"due":     {Options: options, Due: true, Back: "/account", Token: token},
		"add":     {Options: options, Adding: true, Back: "/account", Token: token},
	} {
		all["passkey "+name] = func(w http.ResponseWriter, req *http.Request) error { return r.Passkey(w, req, 200, v) }
	}
}

func addRest(r *Renderer, all map[string]func(http.ResponseWriter, *http.Request) error) {
	var apps []App
	for _, c := range clientsOfEveryKind() {
		apps = append(apps, App{ID: "g", Client: c, Scopes: []string{"Read"}, StayConnected: true, Connected: time.Now(), LastUsed: time.Now()})
	}
	for _, c := range clientsOnDevices() {
		apps = append(apps, App{ID: "g", Client: c, Connected: time.Now()})
	}
	all["account"] = func(w http.ResponseWriter, req *http.Request) error {
		return r.Account(w, req, 200, Account{User: "alice", Apps: apps, Removed: &cursor, Token: token})
	}
	all["account empty"] = func(w http.ResponseWriter, req *http.Request) error {
		return r.Account(w, req, 200, Account{User: "alice", Token: token})
	}
	for name, everywhere := range map[string]bool{"signed out": false, "signed out everywhere": true} {
		all[name] = func(w http.ResponseWriter, req *http.Request) error {
			return r.SignedOut(w, req, 200, SignedOut{Everywhere: everywhere})
		}
	}
	for name, v := range map[string]Landing{
		"landing":        {Resources: []Resource{cisco}, SignIn: true},
		"landing bearer": {Resources: []Resource{cisco}, Bearer: true},
		"landing open":   {Resources: []Resource{cisco}},
		"landing both":   {Resources: []Resource{cisco, {Name: "GitHub", URL: "https://mcp.example.com/github"}}, SignIn: true, Bearer: true},
	} {
		all[name] = func(w http.ResponseWriter, req *http.Request) error { return r.Landing(w, req, 200, v) }
	}
}

// clientsOfEveryKind are the levels, the places, and names that attack.
func clientsOfEveryKind() map[string]Client {
	web, loop := "https://app.example/cb", "http://localhost:33418/callback"
	return map[string]Client{
		"configured":      {Name: "Nightly report", ID: "nightly", Level: Configured, Redirect: web},
		"confirmed":       claude,
		"confirmed local": {Name: "Claude Code", ID: "https://claude.ai/cc", Level: ConfirmedLocal, Redirect: loop},
		"known":           {Name: "Claude", ID: "mcp_1", Level: KnownWebsite, Redirect: claude.Redirect},
		"website":         {Name: "ChatGPT", ID: "mcp_2", Level: UnconfirmedWebsite, Redirect: "https://chatgpt-login.example/cb", RegisteredAt: time.Now()},
		"app":             {Name: "Claude Code", ID: "mcp_3", Level: UnconfirmedApp, Redirect: loop},
		"app no port":     {Name: "Claude Code", ID: "mcp_4", Level: UnconfirmedApp, Redirect: "http://[::1]/cb"},
		"scheme":          cursor,
		"nameless":        {Name: "\u200b", ID: "mcp_5", Level: UnconfirmedApp, Redirect: loop},
		"script name":     {Name: `<script>alert(1)</script>`, ID: `"><img src=x onerror=alert(1)>`, Level: UnconfirmedWebsite, Redirect: web},
		"bidi name":       {Name: "evil\u202egnp.exe\u2066\u200f", ID: "mcp_6", Level: UnconfirmedWebsite, Redirect: web},
	}
}
