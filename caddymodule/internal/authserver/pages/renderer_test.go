package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"
)

var languages = []string{"en", "de", "fr", "es", "pt-BR", "ja", "zh-CN"}

// eachPage runs check on every page in every language.
func eachPage(t *testing.T, check func(t *testing.T, lang string, res *http.Response, doc *node)) {
	r := newRenderer(t)
	pages := everyPage(r)
	for _, lang := range languages {
		for _, name := range slices.Sorted(maps.Keys(pages)) {
			t.Run(lang+"/"+name, func(t *testing.T) {
				res, doc := render(t, lang, pages[name])
				check(t, lang, res, doc)
			})
		}
	}
}

func TestEveryPageIsAccessible(t *testing.T) {
	eachPage(t, func(t *testing.T, lang string, _ *http.Response, doc *node) {
		root := doc.one(t, "html")
		if root.attr("lang") != lang || root.attr("dir") != "ltr" {
			t.Errorf("html is lang=%q dir=%q, want %q and ltr", root.attr("lang"), root.attr("dir"), lang)
		}
		if doc.one(t, "h1").text() == "" || doc.one(t, "title").text() == "" {
			t.Error("heading or title is empty")
		}
		doc.one(t, "main")
		ids := map[string]bool{}
		for _, n := range doc.all() {
			if id := n.attr("id"); id != "" {
				if ids[id] {
					t.Errorf("two elements have the id %q", id)
				}
				ids[id] = true
			}
		}
		for _, n := range doc.all() {
			for _, ref := range []string{"for", "form", "aria-describedby", "aria-labelledby"} {
				for id := range strings.FieldsSeq(n.attr(ref)) {
					if !ids[id] {
						t.Errorf("%s=%q points nowhere", ref, id)
					}
				}
			}
		}
		for _, in := range doc.all("input") {
			if in.attr("type") != "hidden" && len(doc.all("label", "for="+in.attr("id"))) != 1 {
				t.Errorf("input %q has no label", in.attr("name"))
			}
		}
		for _, n := range append(doc.all("button"), doc.all("a")...) {
			if n.text() == "" {
				t.Errorf("%s without a text", n.Data)
			}
		}
		for _, svg := range doc.all("svg") {
			if svg.attr("aria-hidden") != "true" {
				t.Error("an icon is read aloud")
			}
		}
	})
}

func TestEveryPageIsInert(t *testing.T) {
	loads := []string{"src", "srcset", "background", "data", "poster", "manifest", "ping", "style", "formaction"}
	eachPage(t, func(t *testing.T, _ string, res *http.Response, doc *node) {
		for _, tag := range []string{"link", "img", "iframe", "object", "embed", "base", "image", "use", "video", "audio"} {
			if len(doc.all(tag)) > 0 {
				t.Errorf("page has a %s element", tag)
			}
		}
		for _, n := range doc.all() {
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || slices.Contains(loads, a.Key) {
					t.Errorf("%s has the attribute %s", n.Data, a.Key)
				}
			}
		}
		style := doc.one(t, "style").FirstChild.Data
		if strings.Contains(style, "url(") || strings.Contains(style, "@import") || strings.Contains(style, "http") {
			t.Error("the style sheet loads something")
		}
		want := "default-src 'none'; style-src " + hashOf(style) + "; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
		// The one page that has a script: no browser gives a passkey to a form.
		if len(doc.all("form", "#passkey")) == 1 {
			want += "; script-src " + hashOf(doc.one(t, "script").FirstChild.Data)
		} else if len(doc.all("script")) > 0 {
			t.Error("page has a script")
		}
		if got := res.Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("policy %q, want the hashes of the elements: %q", got, want)
		}
	})
}

func hashOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func TestEveryPageIsWellFormed(t *testing.T) {
	void := []string{"meta", "input", "br"}
	r := newRenderer(t)
	for name, show := range everyPage(r) {
		w := httptest.NewRecorder()
		if err := show(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)); err != nil {
			t.Fatal(name, err)
		}
		body := w.Body.String()
		if strings.Contains(body, "ZgotmplZ") || strings.Contains(body, "<no value>") {
			t.Errorf("%s: a value was refused by the template", name)
		}
		var open []string
		z := html.NewTokenizer(strings.NewReader(body))
		for kind := z.Next(); kind != html.ErrorToken; kind = z.Next() {
			tag, _ := z.TagName()
			switch kind {
			case html.StartTagToken:
				if !slices.Contains(void, string(tag)) {
					open = append(open, string(tag))
				}
			case html.EndTagToken:
				if len(open) == 0 || open[len(open)-1] != string(tag) {
					t.Fatalf("%s: </%s> closes %v", name, tag, open)
				}
				open = open[:len(open)-1]
			}
		}
		if len(open) > 0 {
			t.Errorf("%s: %v are not closed", name, open)
		}
	}
}

func TestEveryFormCarriesTheTokenAndGoesToAKnownPath(t *testing.T) {
	paths := []string{
		PathAuthorize, PathLogin, PathCode, PathEnrol, PathPasskey, PathSwitch, PathLogout, PathDevice, "/account" + RevokeSuffix,
		"/account" + FactorSuffix, "/account" + PasskeySuffix, "/account" + PasskeySuffix + RemoveSuffix,
	}
	fields := []string{
		FieldToken, FieldDecision, FieldScope, FieldUsername, FieldPassword, FieldGrant, FieldEverywhere,
		FieldCode, FieldRecovery, FieldPasskey, FieldName, FieldAnswer, FieldUserCode,
	}
	eachPage(t, func(t *testing.T, _ string, _ *http.Response, doc *node) {
		for _, f := range doc.all("form") {
			if f.attr("method") != "post" || !slices.Contains(paths, f.attr("action")) {
				t.Errorf("form is %s to %q", f.attr("method"), f.attr("action"))
			}
			if got := f.one(t, "input", "name="+FieldToken).attr("value"); got != token {
				t.Errorf("token is %q", got)
			}
			for _, in := range append(f.all("input"), f.all("button")...) {
				if name := in.attr("name"); name != "" && !slices.Contains(fields, name) {
					t.Errorf("form has an unknown field %q", name)
				}
			}
		}
	})
}

func TestHeaders(t *testing.T) {
	r := newRenderer(t)
	res, _ := render(t, "de-AT, en;q=0.5", func(w http.ResponseWriter, req *http.Request) error {
		w.Header().Add("Vary", "Cookie")
		return r.Error(w, req, http.StatusGone, Error{Problem: RequestExpired})
	})
	if res.StatusCode != http.StatusGone {
		t.Errorf("status %d", res.StatusCode)
	}
	for name, want := range map[string]string{
		"Content-Type":           "text/html; charset=utf-8",
		"Content-Language":       "de",
		"Cache-Control":          "no-store",
		"Referrer-Policy":        "no-referrer",
		"X-Content-Type-Options": "nosniff",
		"X-Frame-Options":        "DENY",
		"Permissions-Policy":     "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	} {
		if got := res.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := res.Header.Values("Vary"); !slices.Equal(got, []string{"Cookie", "Accept-Language"}) {
		t.Errorf("Vary is %q; other handlers' values stay", got)
	}
}

// Clients on the web open the authorization in a popup and wait for a message
// from it, which an opener policy on any page of the way would cut off.
func TestOnlyPagesOutsideOfTheFlowAreIsolated(t *testing.T) {
	r := newRenderer(t)
	for name, c := range map[string]struct {
		want string
		page func(http.ResponseWriter, *http.Request) error
	}{
		"error":    {"", func(w http.ResponseWriter, req *http.Request) error { return r.Error(w, req, 400, Error{}) }},
		"login":    {"", func(w http.ResponseWriter, req *http.Request) error { return r.Login(w, req, 200, Login{}) }},
		"account":  {"same-origin", func(w http.ResponseWriter, req *http.Request) error { return r.Account(w, req, 200, Account{}) }},
		"sign-out": {"same-origin", func(w http.ResponseWriter, req *http.Request) error { return r.SignedOut(w, req, 200, SignedOut{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			res, _ := render(t, "en", c.page)
			if got := res.Header.Get("Cross-Origin-Opener-Policy"); got != c.want {
				t.Errorf("policy is %q, want %q", got, c.want)
			}
		})
	}
}

func TestARefusedPageWritesNothing(t *testing.T) {
	r := newRenderer(t)
	w := httptest.NewRecorder()
	err := r.Consent(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), 200, Consent{Client: Client{Redirect: "javascript:alert(1)"}})
	if err == nil || w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("err %v, %d bytes, headers %v", err, w.Body.Len(), w.Header())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"help must be https":             {func(o *Options) { o.HelpURL = "http://example.com" }, `help URL "http://example.com" is not an https address`},
		"help must not be script":        {func(o *Options) { o.HelpURL = "javascript:alert(1)" }, `help URL "javascript:alert(1)" is not an https address`},
		"accent must be a colour":        {func(o *Options) { o.Accent = "red" }, `accent "red" is not a colour of the form #rgb or #rrggbb`},
		"accent cannot end the rule":     {func(o *Options) { o.Accent = "#12345;" }, `accent "#12345;" is not a colour of the form #rgb or #rrggbb`},
		"account path must be absolute":  {func(o *Options) { o.AccountPath = "account" }, `account path "account" is not a plain absolute path`},
		"account path must be of origin": {func(o *Options) { o.AccountPath = "//evil.example" }, `account path "//evil.example" is not a plain absolute path`},
	} {
		t.Run(name, func(t *testing.T) {
			var o Options
			c.change(&o)
			if _, err := New(o); err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestWithoutAccountsNothingLinksToThem(t *testing.T) {
	r := newRenderer(t, func(o *Options) { o.AccountPath, o.HelpURL = "", "" })
	pages := everyPage(r)
	for _, name := range []string{"consent app", "landing", "error not_found", "signed out"} {
		_, doc := render(t, "en", pages[name])
		if links := doc.all("a"); len(links) > 0 {
			t.Errorf("%s links to %q", name, links[0].attr("href"))
		}
	}
}

func TestRendererIsSafeForConcurrentUse(t *testing.T) {
	pages := everyPage(newRenderer(t))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for name, show := range pages {
				req := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
				req.Header.Set("Accept-Language", languages[i%len(languages)])
				if err := show(httptest.NewRecorder(), req); err != nil {
					t.Error(name, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkConsent(b *testing.B) {
	show := everyPage(newRenderer(b))["consent website"]
	req := httptest.NewRequestWithContext(b.Context(), "GET", "/", nil)
	for b.Loop() {
		if err := show(httptest.NewRecorder(), req); err != nil {
			b.Fatal(err)
		}
	}
}
