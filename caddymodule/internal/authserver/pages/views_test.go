package pages

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAllowIsNeverTheEasyAnswer(t *testing.T) {
	eachPage(t, func(t *testing.T, _ string, _ *http.Response, doc *node) {
		form := doc.all("form", "id=decide")
		if len(form) == 0 {
			return
		}
		if action := form[0].attr("action"); action != PathAuthorize && action != PathDevice {
			t.Errorf("the answer goes to %q", action)
		}
		buttons := form[0].all("button")
		if len(buttons) != 2 || buttons[0].attr("value") != DecisionDeny || buttons[1].attr("value") != DecisionAllow {
			t.Fatalf("the buttons are not Cancel, then Allow")
		}
		for _, n := range doc.all() {
			if n.has("autofocus") || n.has("accesskey") || n.has("tabindex") {
				t.Errorf("%s is put in front", n.Data)
			}
			if n.has("checked") {
				t.Error("a box is ticked from the start")
			}
		}
		if !strings.Contains(doc.one(t, "style").text(), ".consent .go{animation:arm .7s steps(1,end) both}") || !slices.Contains(strings.Fields(doc.one(t, "body").attr("class")), "consent") {
			t.Error("Allow takes the pointer at once")
		}
	})
}

func TestConsentLists(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Consent(w, req, 200, Consent{
			Client: claude, User: "alice@example.com", Token: token, StayConnected: true,
			Resource: Resource{Name: "GitHub", URL: "https://mcp.example.com/github"},
			Scopes:   []Scope{writeScope, readScope, {Name: "plain"}},
		})
	})
	var got []string
	for _, li := range doc.one(t, "ul", ".can").all("li") {
		got = append(got, li.text())
	}
	want := []string{
		"Search and read Cisco bugs8 tools", "Use GitHub on your behalf",
		"Stay connectedKeeps working in the background until you remove it",
		"Change support casesLeave this off if you do not need it.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("list %q, want %q", got, want)
	}
	box := doc.one(t, "input", "type=checkbox")
	if box.attr("name") != FieldScope || box.attr("value") != "cases:write" || box.attr("form") != "decide" {
		t.Errorf("box %v", box.Attr)
	}
	if got := doc.one(t, "details").text(); !strings.Contains(got, "https://mcp.example.com/github") ||
		!strings.Contains(got, "cases:write bugs:read plain offline_access") || strings.Contains(got, "Registered") {
		t.Errorf("details %q", got)
	}
	if got := doc.one(t, "h1").text(); got != "Connect Claude to GitHub?" {
		t.Errorf("heading %q does not name the resource", got)
	}
	if got := doc.one(t, "form", "action="+PathSwitch).text(); got != "Signed in as alice@example.comUse another account" {
		t.Errorf("account %q", got)
	}
}

func TestConsentWithoutScopesStillSaysWhatIsGiven(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Consent(w, req, 200, Consent{Client: claude, Token: token})
	})
	if got := doc.one(t, "ul", ".can").text(); got != "Use Cisco Support on your behalf" {
		t.Errorf("list %q", got)
	}
}

func TestConsentWithoutRefreshTokenDoesNotStay(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Consent(w, req, 200, Consent{Client: claude, Scopes: []Scope{readScope}, Token: token})
	})
	if got := doc.one(t, "main").text(); strings.Contains(got, "Stay connected") || strings.Contains(got, "offline_access") {
		t.Errorf("page %q", got)
	}
}

func TestLoginFailures(t *testing.T) {
	r := newRenderer(t)
	for name, c := range map[string]struct {
		view    Login
		want    string
		invalid bool
	}{
		"wrong, 3 tries left": {Login{Failed: Failed{Failure: WrongCredentials, TriesLeft: 3}}, "That didn’t matchCheck your user name and password, then try again. 3 tries left before a short pause.", true},
		"wrong, 1 try left":   {Login{Failed: Failed{Failure: WrongCredentials, TriesLeft: 1}}, "That didn’t matchCheck your user name and password, then try again. 1 try left before a short pause.", true},
		"wrong, not counted":  {Login{Failed: Failed{Failure: WrongCredentials}}, "That didn’t matchCheck your user name and password, then try again.", true},
		"too many, seconds":   {Login{Failed: Failed{Failure: TooManyTries, Wait: 1500 * time.Millisecond}}, "Too many triesWait 2 seconds, then try again.", false},
		"too many, minutes":   {Login{Failed: Failed{Failure: TooManyTries, Wait: 61 * time.Second}}, "Too many triesWait 2 minutes, then try again.", false},
		"busy":                {Login{Failed: Failed{Failure: LoginBusy}}, "Too many people are signing inYour password was not checked. Wait a few seconds, then try again.", false},
		"expired":             {Login{Failed: Failed{Failure: LoginExpired}}, "This page was open for too longNothing was sent to the app. Please sign in again.", false},
	} {
		t.Run(name, func(t *testing.T) {
			c.view.Password, c.view.Token, c.view.Username = true, token, `al"ice`
			_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error { return r.Login(w, req, 401, c.view) })
			note := doc.one(t, "div", "role=alert")
			if note.text() != c.want {
				t.Errorf("note %q, want %q", note.text(), c.want)
			}
			if got := doc.one(t, "title").text(); got != "Error: Sign in – Cisco Support" {
				t.Errorf("title %q", got)
			}
			for _, in := range append(doc.all("input", "type=text"), doc.all("input", "type=password")...) {
				if got := in.attr("aria-invalid") == "true" && in.attr("aria-describedby") == note.attr("id"); got != c.invalid {
					t.Errorf("%s is marked invalid: %v", in.attr("name"), got)
				}
			}
			if got := doc.one(t, "input", "type=text").attr("value"); got != `al"ice` {
				t.Errorf("user name %q", got)
			}
			if doc.one(t, "input", "type=password").has("value") {
				t.Error("the password comes back")
			}
		})
	}
}

func TestLoginOffersTheWaysThereAre(t *testing.T) {
	r := newRenderer(t)
	google := []Provider{{"Google", "/login/google?t=1"}}
	for name, c := range map[string]struct {
		view      Login
		links     int
		form, or  bool
		autofills []string
	}{
		"password": {Login{Client: &claude, Password: true}, 0, true, false, []string{"username", "current-password"}},
		"provider": {Login{Client: &claude, Providers: google}, 1, false, false, nil},
		"both":     {Login{Client: &claude, Password: true, Providers: google}, 1, true, true, []string{"username", "current-password"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error { return r.Login(w, req, 200, c.view) })
			if links := doc.all("a", ".btn"); len(links) != c.links || c.links > 0 && (links[0].text() != "Continue with Google" || links[0].attr("href") != "/login/google?t=1") {
				t.Errorf("%d provider links", len(links))
			}
			if got := len(doc.all("form", "action="+PathLogin)) == 1; got != c.form {
				t.Errorf("password form: %v", got)
			}
			if got := len(doc.all(".or")) == 1; got != c.or {
				t.Errorf("divider: %v", got)
			}
			var autofills []string
			for _, in := range doc.all("input") {
				if a := in.attr("autocomplete"); a != "" {
					autofills = append(autofills, a)
				}
			}
			if !slices.Equal(autofills, c.autofills) {
				t.Errorf("autocomplete %q, want %q", autofills, c.autofills)
			}
		})
	}
}

func TestAProviderCannotBeAScript(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Login(w, req, 200, Login{Providers: []Provider{{"x", "javascript:alert(1)"}}})
	})
	if got := doc.one(t, "a", ".btn").attr("href"); strings.Contains(got, "script") {
		t.Errorf("link to %q", got)
	}
}

func TestErrorPage(t *testing.T) {
	r := newRenderer(t)
	at := time.Date(2026, 11, 23, 10, 14, 2, 0, time.FixedZone("", 3600))
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Error(w, req, 400, Error{Problem: RequestExpired, Detail: "the request <x> is gone", Reference: "01JD9W7K3M", Time: at})
	})
	want := "This sign-in link has expired Links like this work once, for 10 minutes. Nothing was connected. " +
		"What to doGo back to the app you came from and choose Connect again. Technical details " +
		"Errorrequest_expired Reasonthe request <x> is gone Reference01JD9W7K3M (quote this to whoever runs this server) Time2026-11-23 09:14:02 UTC"
	if got := doc.one(t, "main").text(); got != want {
		t.Errorf("page %q, want %q", got, want)
	}
	if len(doc.all("form")) > 0 {
		t.Error("an error page without a token has a form")
	}
}

func TestAnUnknownProblemStillHasAPage(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Error(w, req, 500, Error{Problem: "something_new"})
	})
	if h, code := doc.one(t, "h1").text(), doc.all("code")[0].text(); h != "Something went wrong here" || code != "something_new" {
		t.Errorf("heading %q, code %q", h, code)
	}
}

func TestAccountListsApps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRenderer(t)
		now := time.Now() // synctest begins at 2000-01-01
		local := Client{Name: "my-agent", Level: UnconfirmedApp, Redirect: "http://localhost:1/cb"}
		_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
			return r.Account(w, req, 200, Account{User: "alice", Token: token, Removed: &cursor, Apps: []App{
				{ID: "g1", Client: claude, Scopes: []string{"Read bugs"}, StayConnected: true, Connected: now.AddDate(0, 0, -20), LastUsed: now.Add(-4 * time.Minute)},
				{ID: "g2", Client: local, Scopes: []string{"Read bugs", "Change cases"}, Connected: now.AddDate(0, 0, -82), LastUsed: now.AddDate(0, 0, -81)},
				{ID: "g3", Client: Client{Name: "Old", Level: Confirmed, Redirect: "javascript:x"}, Resource: Resource{Name: "GitHub"}, Connected: now},
			}})
		})
		var got []string
		for _, li := range doc.one(t, "ul", ".apps").all("li") {
			got = append(got, li.text())
		}
		want := []string{
			"C Claude claude.ai Read bugs · stay connected Connected 12 Dec 1999 · last used 4 minutes ago Remove",
			"? “my-agent” unconfirmed Read bugs · Change cases · this computer Connected 11 Oct 1999 · not used for 81 days Remove",
			"? “Old” unconfirmed GitHub · Use GitHub on your behalf Connected 1 Jan 2000 · not used yet Remove",
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %q,\nwant %q", got, want)
		}
		form := doc.all("form", "action=/account"+RevokeSuffix)[1]
		if got := form.one(t, "input", "name="+FieldGrant).attr("value"); got != "g2" {
			t.Errorf("the second form removes %q", got)
		}
		if got := form.one(t, "button").attr("aria-label"); got != "Remove “my-agent”" {
			t.Errorf("label %q", got)
		}
		if got := doc.one(t, "div", "role=status").text(); !strings.HasPrefix(got, "Removed “Cursor”It can no longer use Cisco Support.") {
			t.Errorf("notice %q", got)
		}
		doc.one(t, "form", "action="+PathLogout).one(t, "button", "name="+FieldEverywhere)
	})
}

func TestLandingLinesCanBeCopied(t *testing.T) {
	r := newRenderer(t)
	lines := func(v Landing) (all []string) {
		_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error { return r.Landing(w, req, 200, v) })
		for _, pre := range doc.all("pre") {
			if pre.attr("tabindex") != "0" {
				t.Error("a line that scrolls cannot be reached with the keyboard")
			}
			all = append(all, pre.text())
		}
		return all
	}
	got := lines(Landing{Resources: []Resource{cisco}, SignIn: true})
	want := []string{
		`claude mcp add --transport http cisco-support https://mcp.example.com/mcp`,
		`code --add-mcp '{"name":"cisco-support","type":"http","url":"https://mcp.example.com/mcp"}'`,
		`{"mcpServers":{"cisco-support":{"url":"https://mcp.example.com/mcp"}}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("sign-in lines %q,\nwant %q", got, want)
	}
	got = lines(Landing{Resources: []Resource{cisco}, Bearer: true})
	want = []string{
		`claude mcp add --transport http cisco-support https://mcp.example.com/mcp --header "Authorization: Bearer <token>"`,
		`code --add-mcp '{"name":"cisco-support","type":"http","url":"https://mcp.example.com/mcp","headers":{"Authorization":"Bearer <token>"}}'`,
		`{"mcpServers":{"cisco-support":{"url":"https://mcp.example.com/mcp","headers":{"Authorization":"Bearer <token>"}}}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("bearer lines %q,\nwant %q", got, want)
	}
	if got := lines(Landing{Resources: []Resource{cisco}, Bearer: true, SignIn: true}); len(got) != 6 || !json.Valid([]byte(got[5])) {
		t.Errorf("lines for both %q", got)
	}
	if got := lines(Landing{Resources: []Resource{{Name: "日本", URL: "https://[::1]:8443/mcp"}}, SignIn: true}); got[0] != "claude mcp add --transport http mcp 'https://[::1]:8443/mcp'" {
		t.Errorf("line %q", got[0])
	}
}

func TestLandingRefusesAddressesThatAShellWouldRead(t *testing.T) {
	r := newRenderer(t)
	for _, address := range []string{
		"", "/mcp", "https://x/$(id)", "https://x/';id;'", "https://x/`id`", "https://x/a b", "https://x/?a&b", "ftp://x/", "https://x/\n",
	} {
		err := r.Landing(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), 200, Landing{Resources: []Resource{{URL: address}}})
		if !errors.Is(err, ErrView) {
			t.Errorf("%q: error %v, want ErrView", address, err)
		}
	}
	if err := r.Landing(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), 200, Landing{}); !errors.Is(err, ErrView) {
		t.Errorf("no address: error %v, want ErrView", err)
	}
}
