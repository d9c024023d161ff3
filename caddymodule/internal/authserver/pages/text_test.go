package pages

import (
	"html/template"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func catalogues(t *testing.T) map[string]*catalogue {
	t.Helper()
	all, err := loadCatalogues(localeFiles)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*catalogue{}
	for _, c := range all {
		out[c.tag.String()] = c
	}
	if got := slices.Sorted(maps.Keys(out)); !slices.Equal(got, slices.Sorted(slices.Values(languages))) {
		t.Fatalf("languages %q, want %q", got, languages)
	}
	return out
}

func (m message) slots() (names []string) {
	for _, p := range m {
		if p.slot {
			names = append(names, p.text)
		}
	}
	return slices.Sorted(slices.Values(names))
}

func TestCataloguesSayTheSameThings(t *testing.T) {
	all := catalogues(t)
	english := all[fallback].messages
	for lang, c := range all {
		for key, m := range english {
			got, ok := c.messages[key]
			switch {
			case !ok:
				t.Errorf("%s: %q is missing", lang, key)
			case len(got) == 0:
				t.Errorf("%s: %q is empty", lang, key)
			case !slices.Equal(got.slots(), m.slots()):
				t.Errorf("%s: %q has the placeholders %q, want %q", lang, key, got.slots(), m.slots())
			}
		}
		for key := range c.messages {
			if _, ok := english[key]; !ok {
				t.Errorf("%s: %q is not in English", lang, key)
			}
		}
	}
}

func TestEveryProblemHasTexts(t *testing.T) {
	english := catalogues(t)[fallback].messages
	for p := range problems {
		for _, part := range []string{".heading", ".text", ".todo"} {
			if _, ok := english["error."+string(p)+part]; !ok {
				t.Errorf("no text %q for %s", part, p)
			}
		}
	}
}

func TestLanguageOfAPage(t *testing.T) {
	r := newRenderer(t)
	for name, c := range map[string]struct{ query, stored, header, want string }{
		"nothing is English":               {"", "", "", "en"},
		"the browser's language":           {"", "", "de-CH,de;q=0.9,en;q=0.8", "de"},
		"weights count":                    {"", "", "en;q=0.1, fr;q=0.9", "fr"},
		"an unknown language is English":   {"", "", "tlh", "en"},
		"the next known one":               {"", "", "tlh, ja;q=0.5", "ja"},
		"Portuguese is Brazilian":          {"", "", "pt", "pt-BR"},
		"Chinese is simplified":            {"", "", "zh", "zh-CN"},
		"British English is English":       {"", "", "en-GB, de;q=0.5", "en"},
		"the app's wish comes first":       {"?ui_locales=es+fr", "", "de", "es"},
		"the app's second wish":            {"?ui_locales=tlh+fr", "", "de", "fr"},
		"an unknown wish is no wish":       {"?ui_locales=tlh", "", "de", "de"},
		"a stored wish beats the query":    {"?ui_locales=es", "ja", "de", "ja"},
		"junk is English":                  {"?ui_locales=%00%ff", "", ";;;,=,", "en"},
		"an overlong header is not parsed": {"", "", "de," + strings.Repeat("fr,", 1000), "en"},
		"an overlong wish is not parsed":   {"?ui_locales=" + strings.Repeat("fr+", 1000), "", "de", "de"},
	} {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequestWithContext(t.Context(), "GET", "/authorize"+c.query, nil)
			if c.header != "" {
				req.Header.Set("Accept-Language", c.header)
			}
			w := httptest.NewRecorder()
			if err := r.Error(w, req, 400, Error{Problem: NotFound, Locales: c.stored}); err != nil {
				t.Fatal(err)
			}
			if got := w.Header().Get("Content-Language"); got != c.want {
				t.Errorf("language %q, want %q", got, c.want)
			}
		})
	}
}

func TestValuesInMessagesAreEscaped(t *testing.T) {
	c := &catalogue{messages: map[string]message{"m": {{text: "<a> & "}, {text: "x", slot: true}}}}
	m := markup{catalogue: c}
	for name, v := range map[string]struct {
		value any
		want  template.HTML
	}{
		"text":   {"<b>", "&lt;a&gt; &amp; &lt;b&gt;"},
		"markup": {template.HTML("<b></b>"), "&lt;a&gt; &amp; <b></b>"},
		"number": {3, "&lt;a&gt; &amp; 3"},
	} {
		if got, err := m.html("m", "x", v.value); err != nil || got != v.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, v.want)
		}
	}
	for _, got := range []template.HTML{m.strong(`<"&>`), m.host(`<"&>`), m.code(`<"&>`), m.link(`<"&>`, `<"&>`)} {
		if strings.Contains(string(got), `<"`) || strings.Contains(string(got), "&>") {
			t.Errorf("%q is not escaped", got)
		}
	}
}

func TestMessageFaults(t *testing.T) {
	c := catalogues(t)[fallback]
	if _, err := c.text("no such key"); err == nil || err.Error() != `no message "no such key" in en` {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := c.text("quote"); err == nil || err.Error() != `message "quote" needs a value for {text}` {
		t.Errorf("missing value: %v", err)
	}
	for name, f := range map[string]struct{ file, content, want string }{
		"open placeholder":  {"locales/en.json", `{"a":"x {y"}`, `locales/en.json: a: placeholder in "x {y" is not closed or empty`},
		"empty placeholder": {"locales/en.json", `{"a":"{}"}`, `locales/en.json: a: placeholder in "{}" is not closed or empty`},
		"bad language":      {"locales/!.json", `{}`, `locales/!.json: language: tag is not well-formed`},
		"bad JSON":          {"locales/en.json", `{`, `locales/en.json: unexpected end of JSON input`},
	} {
		_, err := loadCatalogues(fstest.MapFS{f.file: {Data: []byte(f.content)}})
		if err == nil || err.Error() != f.want {
			t.Errorf("%s: error %v, want %s", name, err, f.want)
		}
	}
}

func TestCountsFollowTheLanguage(t *testing.T) {
	all := catalogues(t)
	for _, c := range []struct {
		lang string
		n    int
		want string
	}{
		{"en", 0, "0 minutes ago"}, {"en", 1, "1 minute ago"}, {"en", 2, "2 minutes ago"},
		{"de", 1, "vor 1 Minute"}, {"de", 21, "vor 21 Minuten"},
		{"fr", 0, "il y a 0 minute"}, {"fr", 1, "il y a 1 minute"}, {"fr", 2, "il y a 2 minutes"},
		{"pt-BR", 0, "há 0 minuto"}, {"pt-BR", 2, "há 2 minutos"},
		{"ja", 1, "1 分前"}, {"zh-CN", 5, "5 分钟前"},
	} {
		if got, err := all[c.lang].count("ago.minutes", c.n); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.lang, got, err, c.want)
		}
	}
}

func TestDatesFollowTheLanguage(t *testing.T) {
	all := catalogues(t)
	at := time.Date(2026, 11, 3, 23, 30, 0, 0, time.FixedZone("", -7200)) // 4 November in UTC
	for lang, want := range map[string]string{
		"en": "4 Nov 2026", "de": "4. Nov. 2026", "fr": "4 nov. 2026", "es": "4 nov 2026",
		"pt-BR": "4 de nov. de 2026", "ja": "2026年11月4日", "zh-CN": "2026年11月4日",
	} {
		if got, err := all[lang].date(at); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", lang, got, err, want)
		}
	}
}

func TestTimesInWords(t *testing.T) {
	c := catalogues(t)[fallback]
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", 9 * time.Second: "just now", 40 * time.Second: "40 seconds ago",
		time.Minute: "1 minute ago", 59*time.Minute + 59*time.Second: "59 minutes ago", time.Hour: "1 hour ago",
		23 * time.Hour: "23 hours ago", 24 * time.Hour: "yesterday", 47 * time.Hour: "yesterday", 48 * time.Hour: "2 days ago",
	} {
		if got, err := c.ago(now.Add(-d), now); err != nil || got != want {
			t.Errorf("ago %s: %q, %v; want %q", d, got, err, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "1 second", 0: "1 second", time.Second: "1 second", 1001 * time.Millisecond: "2 seconds",
		time.Minute: "60 seconds", 61 * time.Second: "2 minutes", time.Hour: "60 minutes", 61 * time.Minute: "2 hours",
	} {
		if got, err := c.span(d); err != nil || got != want {
			t.Errorf("span %s: %q, %v; want %q", d, got, err, want)
		}
	}
	for name, c2 := range map[string]struct {
		at   time.Time
		want string
	}{
		"never":  {time.Time{}, "not used yet"},
		"recent": {now.AddDate(0, 0, -30), "last used 30 days ago"},
		"long":   {now.AddDate(0, 0, -31), "not used for 31 days"},
	} {
		if got, err := c.lastUsed(c2.at, now); err != nil || got != c2.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c2.want)
		}
	}
}

func TestStoredLocalesReachThePage(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "fr", func(w http.ResponseWriter, req *http.Request) error {
		return r.Consent(w, req, 200, Consent{Client: cursor, Scopes: []Scope{readScope}, Token: token, Locales: "de"})
	})
	if got := doc.one(t, "h1").text(); got != "„Cursor“ mit Cisco Support verbinden?" {
		t.Errorf("heading %q", got)
	}
}
