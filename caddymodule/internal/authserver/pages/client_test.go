package pages

import (
	"errors"
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// identity is what the consent page shows for a client: a line with an icon, or
// a note, and where the answer goes.
type identity struct{ heading, mark, icon, note, words, next string }

var identities = map[string]identity{
	"configured": {
		heading: "Connect Nightly report to Cisco Support?", mark: "NR", icon: "server",
		words: "Added by whoever runs this server.", next: "After you allow it, you go back to app.example.",
	},
	"confirmed": {
		heading: "Connect Claude to Cisco Support?", mark: "C", icon: "shield",
		words: "Confirmed: this request is from claude.ai.", next: "After you allow it, you go back to claude.ai.",
	},
	"confirmed local": {
		heading: "Connect Claude Code to Cisco Support?", mark: "CC", note: "calm",
		words: "An app on this computer, named by claude.ai", next: "After you allow it, you go back to an app on this computer (localhost, port 33418).",
	},
	"known": {
		heading: "Connect “Claude” to Cisco Support?", mark: "C", icon: "globe",
		words: "Known address: claude.ai gets the access. The app chose its name itself.", next: "After you allow it, you go back to claude.ai.",
	},
	"website": {
		heading: "Connect “ChatGPT” to Cisco Support?", mark: "?", note: "warn",
		words: "Unconfirmed website: chatgpt-login.example", next: "After you allow it, you go to chatgpt-login.example.",
	},
	"app": {
		heading: "Connect “Claude Code” to Cisco Support?", mark: "?", note: "warn",
		words: "Unconfirmed app on this computer", next: "After you allow it, you go back to an app on this computer (localhost, port 33418).",
	},
	"app no port": {
		heading: "Connect “Claude Code” to Cisco Support?", mark: "?", note: "warn",
		words: "Unconfirmed app on this computer", next: "After you allow it, you go back to an app on this computer ([::1]).",
	},
	"scheme": {
		heading: "Connect “Cursor” to Cisco Support?", mark: "?", note: "warn",
		words: "Unconfirmed app on this computer", next: "After you allow it, you go to the app on this computer that opens cursor: links.",
	},
	"nameless": {
		heading: "Connect Unnamed app to Cisco Support?", mark: "?", note: "warn",
		words: "It gives no name.", next: "After you allow it, you go back to an app on this computer (localhost, port 33418).",
	},
}

func TestConsentShowsTheLevelOfIdentity(t *testing.T) {
	r := newRenderer(t)
	for kind := range clientsOfEveryKind() {
		want, ok := identities[kind]
		if !ok && !strings.HasSuffix(kind, " name") {
			t.Errorf("nothing is expected of the client %q", kind)
		}
		if !ok {
			continue // hostile names have a test of their own
		}
		t.Run(kind, func(t *testing.T) {
			_, doc := render(t, "en", everyPage(r)["consent "+kind])
			checkIdentity(t, doc, want)
		})
	}
}

func checkIdentity(t *testing.T, doc *node, want identity) {
	t.Helper()
	if got := doc.one(t, "h1").text(); got != want.heading {
		t.Errorf("heading %q, want %q", got, want.heading)
	}
	if got := doc.one(t, "title").text(); got != want.heading {
		t.Errorf("title %q, want the heading", got)
	}
	if len(doc.one(t, "h1").all("bdi")) != 1 {
		t.Error("the name is not isolated from the heading")
	}
	if got := doc.all(".mono")[0].text(); got != want.mark {
		t.Errorf("mark %q, want %q", got, want.mark)
	}
	if got := doc.one(t, ".next").text(); got != want.next {
		t.Errorf("place %q, want %q", got, want.next)
	}
	if want.note != "" {
		if got := doc.one(t, ".note", "."+want.note).text(); !strings.Contains(got, want.words) {
			t.Errorf("note %q, want %q in it", got, want.words)
		}
		if len(doc.all("p", ".id")) > 0 || len(doc.all(".shield")) > 0 {
			t.Error("an unconfirmed client has a line or a shield too")
		}
		return
	}
	line := doc.one(t, "p", ".id")
	line.one(t, "svg", "."+want.icon)
	if line.text() != want.words {
		t.Errorf("line %q, want %q", line.text(), want.words)
	}
	if shield := len(doc.all(".shield")) > 0; shield != (want.icon == "shield") {
		t.Errorf("shield shown: %v", shield)
	}
	if len(doc.all(".note")) > 0 {
		t.Error("there is a note as well")
	}
}

func TestSignInPageSaysWhoAsks(t *testing.T) {
	for kind, want := range map[string]struct{ asker, cancel string }{
		"configured":      {"This app was added by whoever runs this server.", "Cancel and go back to app.example"},
		"confirmed":       {"Asked for by claude.ai.", "Cancel and go back to claude.ai"},
		"confirmed local": {"An app on this computer, named by claude.ai", "Cancel and go back to the app"},
		"known":           {"Asked for by the known address claude.ai.", "Cancel and go back to claude.ai"},
		"website":         {"Unconfirmed website: chatgpt-login.example", "Cancel and go back to chatgpt-login.example"},
		"scheme":          {"It calls itself “Cursor”", "Cancel and go back to the app"},
	} {
		t.Run(kind, func(t *testing.T) {
			_, doc := render(t, "en", everyPage(newRenderer(t))["login "+kind])
			text := doc.one(t, "main").text()
			asker, field := strings.Index(text, want.asker), strings.Index(text, "Password")
			if asker < 0 || asker > field {
				t.Errorf("%q is not before the password in %q", want.asker, text)
			}
			if !strings.Contains(text, "You choose what it may do on the next page.") {
				t.Error("the next step is not announced")
			}
			if got := doc.one(t, "button", "value="+DecisionDeny).text(); got != want.cancel {
				t.Errorf("cancel %q, want %q", got, want.cancel)
			}
		})
	}
}

func TestHostileNamesStayText(t *testing.T) {
	r := newRenderer(t)
	pages := everyPage(r)
	_, doc := render(t, "en", pages["consent script name"])
	if got, want := doc.one(t, "h1").text(), "Connect “<script>alert(1)</script>” to Cisco Support?"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	if got := doc.all("dd")[0].text(); got != `"><img src=x onerror=alert(1)>` {
		t.Errorf("client ID is shown as %q", got)
	}
	_, doc = render(t, "en", pages["consent bidi name"])
	if got, want := doc.one(t, "h1").text(), "Connect “evilgnp.exe” to Cisco Support?"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	w := httptest.NewRecorder()
	if err := pages["consent bidi name"](w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(w.Body.String(), "\u202e\u2066\u200f\u200b") {
		t.Error("a bidirectional control is on the page")
	}
}

func TestRedirectsThatNoPageLinksTo(t *testing.T) {
	for name, uri := range map[string]string{
		"script":                    "javascript:alert(1)",
		"script in capitals":        "JavaScript:alert(1)",
		"data":                      "data:text/html,x",
		"vbscript":                  "vbscript:x",
		"file":                      "file:///etc/passwd",
		"blob":                      "blob:https://claude.ai/x",
		"about":                     "about:blank",
		"filesystem":                "filesystem:https://claude.ai/x",
		"view-source":               "view-source:https://claude.ai/",
		"relative":                  "/callback",
		"empty":                     "",
		"line break":                "https://claude.ai/\nx",
		"tab in the scheme":         "java\tscript:alert(1)",
		"leading space":             " https://claude.ai/",
		"NUL":                       "https://claude.ai/\x00",
		"backslash":                 `https://claude.ai\@evil.example/`,
		"quotation mark":            `https://claude.ai/"x`,
		"angle bracket":             "https://claude.ai/<x",
		"user name":                 "https://claude.ai@evil.example/",
		"no host":                   "https:///cb",
		"opaque https":              "https:claude.ai/cb",
		"http elsewhere":            "http://claude.ai/cb",
		"look-alike host":           "https://clаude.ai/cb",
		"encoded look-alike host":   "https://cl%D0%B0ude.ai/cb",
		"host that starts as local": "http://localhost.evil.example/cb",
		"broken port":               "https://claude.ai:x/cb",
		"broken IPv6":               "http://[::1/cb",
	} {
		t.Run(name, func(t *testing.T) {
			if _, to, err := parseRedirect(uri); !errors.Is(err, ErrView) {
				t.Errorf("%q leads to %+v, error %v; want ErrView", uri, to, err)
			}
		})
	}
}

func TestPlaceOfARedirect(t *testing.T) {
	for uri, want := range map[string]place{
		"https://claude.ai/cb":         {website, "claude.ai", ""},
		"https://CLAUDE.ai:443/cb":     {website, "claude.ai", ""},
		"https://claude.ai:8443/cb":    {website, "claude.ai:8443", ""},
		"https://xn--clude-7ve.ai/cb":  {website, "xn--clude-7ve.ai", ""},
		"https://[2001:db8::1]:8443/":  {website, "[2001:db8::1]:8443", ""},
		"http://localhost:33418/cb":    {computer, "localhost", "33418"},
		"https://LocalHost/cb":         {computer, "localhost", ""},
		"http://127.0.0.1:1/cb":        {computer, "127.0.0.1", "1"},
		"http://[::ffff:127.0.0.1]/cb": {computer, "[::ffff:127.0.0.1]", ""},
		"cursor://anysphere/callback":  {scheme, "cursor:", ""},
		"com.example.app:/callback":    {scheme, "com.example.app:", ""},
		"vscode://publisher/did?a=b":   {scheme, "vscode:", ""},
	} {
		if _, got, err := parseRedirect(uri); err != nil || got != want {
			t.Errorf("%s leads to %+v, %v; want %+v", uri, got, err, want)
		}
	}
}

func TestALevelThatDoesNotFitIsRefused(t *testing.T) {
	loop, web := "http://localhost:1/cb", "https://claude.ai/cb"
	for name, c := range map[string]Client{
		"shield for a program on this computer": {Level: Confirmed, ID: "https://claude.ai/x", Redirect: loop},
		"shield for a scheme":                   {Level: Confirmed, ID: "https://claude.ai/x", Redirect: "cursor://x"},
		"shield without a document":             {Level: Confirmed, ID: "mcp_1", Redirect: web},
		"shield for a scheme as document":       {Level: Confirmed, ID: "claude:doc", Redirect: web},
		"shield for an http document":           {Level: Confirmed, ID: "http://claude.ai/x", Redirect: web},
		"known address on this computer":        {Level: KnownWebsite, Redirect: loop},
		"website on this computer":              {Level: UnconfirmedWebsite, Redirect: loop},
		"local app that is a website":           {Level: ConfirmedLocal, ID: "https://claude.ai/x", Redirect: web},
		"app that is a website":                 {Level: UnconfirmedApp, Redirect: web},
		"level that does not exist":             {Level: Configured + 1, Redirect: web},
		"negative level":                        {Level: -1, Redirect: web},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newClientView(c); !errors.Is(err, ErrView) {
				t.Errorf("error %v, want ErrView", err)
			}
		})
	}
}

func TestHandoffGoesToTheRedirectOnly(t *testing.T) {
	r := newRenderer(t)
	show := func(redirect, to string) error {
		c := Client{Name: "x", Level: Configured, Redirect: redirect}
		return r.Handoff(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), 200, Handoff{Client: c, URL: template.URL(to)})
	}
	for name, c := range map[string]struct{ redirect, to string }{
		"other host":         {"https://claude.ai/cb", "https://evil.example/cb?code=x"},
		"other port":         {"https://claude.ai/cb", "https://claude.ai:8443/cb?code=x"},
		"other path":         {"https://claude.ai/cb", "https://claude.ai/open?u=x"},
		"path spelled apart": {"https://claude.ai/a/b", "https://claude.ai/a%2Fb?code=x"},
		"other scheme":       {"https://claude.ai/cb", "claude://claude.ai/cb?code=x"},
		"script":             {"https://claude.ai/cb", "javascript:alert(1)"},
		"opaque part":        {"com.example:cb", "com.example:other?code=x"},
		"line break":         {"https://claude.ai/cb", "https://claude.ai/cb?code=x\r\ny"},
		"nothing":            {"https://claude.ai/cb", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := show(c.redirect, c.to); !errors.Is(err, ErrView) {
				t.Errorf("error %v, want ErrView", err)
			}
		})
	}
	for _, uri := range []string{"https://claude.ai/cb", "http://localhost:33418/cb", "cursor://x/cb", "com.example:cb"} {
		if err := show(uri, uri+"?code=x&state=y"); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestHandoffRefreshesAndLinks(t *testing.T) {
	r := newRenderer(t)
	const to = "cursor://anysphere.cursor-retrieval/oauth/callback?code=a%26b&state=it's;url=x&iss=https%3A%2F%2Fmcp.example.com"
	for name, denied := range map[string]bool{"allowed": false, "denied": true} {
		t.Run(name, func(t *testing.T) {
			_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
				return r.Handoff(w, req, 200, Handoff{Client: cursor, User: "alice", Denied: denied, URL: to})
			})
			if got := doc.one(t, "meta", "http-equiv=refresh").attr("content"); got != "0;url="+to {
				t.Errorf("refresh %q", got)
			}
			// The template escapes an apostrophe in the link, which is the same URI.
			if got := strings.ReplaceAll(doc.one(t, "a", ".go").attr("href"), "%27", "'"); got != to {
				t.Errorf("link %q", got)
			}
			if got := len(doc.all("svg", ".check")) == 0; got != denied {
				t.Errorf("a hand-off that is %s has no mark: %v", name, got)
			}
			if len(doc.all("svg", ".shield")) > 0 {
				t.Error("a shield stands for an app that nobody confirmed")
			}
		})
	}
}
