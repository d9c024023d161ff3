package pages

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanName(t *testing.T) {
	long := strings.Repeat("ä", 61)
	for name, c := range map[string]struct{ in, want string }{
		"a plain name stays":                {"Claude Code", "Claude Code"},
		"other scripts stay":                {"クロード 한국어 नमस्ते", "クロード 한국어 नमस्ते"},
		"an emoji stays":                    {"🤖 Bot", "🤖 Bot"},
		"spaces become one":                 {"  a \t\n\u00a0\u2003 b  ", "a b"},
		"lines become one":                  {"a\u2028b\u2029c\rd", "a b c d"},
		"controls go":                       {"a\x00b\x1b[31mc\x7f\u009b", "ab[31mc"},
		"bidirectional controls go":         {"a\u202eb\u202cc\u2066d\u2069e\u200ef\u061c", "abcdef"},
		"zero-width characters go":          {"a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg", "abcdefg"},
		"tag characters go":                 {"a\U000e0041\U000e007f", "a"},
		"variation selectors go":            {"a\ufe0f\U000e0100", "a"},
		"fillers that look empty go":        {"\u3164\u115f\u1160\uffa0\u2800\u034f", ""},
		"private use and non-characters go": {"a\ue000\U000f0000\ufffe\U0010ffff", "a"},
		"bytes that are no text go":         {"a\xff\xc0\x80b\ufffd", "ab"},
		"only invisible is nothing":         {"\u200b \u202e", ""},
		"empty is nothing":                  {"", ""},
		"double quotation marks go":         {"a” by “b \"c\" «d» „e‟ 「f」 ＂", "a' by 'b 'c' 'd' 'e' 'f' '"},
		"an apostrophe stays":               {"Alice’s agent", "Alice’s agent"},
		"a pile of marks is cut":            {"a\u0301\u0302\u0303\u0304\u0305b", "a\u0301\u0302\u0303b"},
		"a mark without a letter goes":      {"\u0301a \u0302b", "a b"},
		"60 characters fit":                 {long[:120], long[:120]},
		"61 characters are cut":             {long, strings.Repeat("ä", 59) + "…"},
		"a cut leaves no space":             {strings.Repeat("a", 58) + " bcd", strings.Repeat("a", 58) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := CleanName(c.in); got != c.want {
				t.Errorf("CleanName(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"Claude Code", "\u202egnp.exe", "a\u0301\u0301\u0301\u0301", "“x”", "\xff\xfe", strings.Repeat("w ", 80), "\u3164", "🏴\U000e0067\U000e007f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := CleanName(s)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxName {
			t.Fatalf("%q is not valid or too long", got)
		}
		if again := CleanName(got); again != got {
			t.Fatalf("cleaning %q twice gives %q", got, again)
		}
		if strings.TrimSpace(got) != got || strings.Contains(got, "  ") {
			t.Fatalf("%q has loose spaces", got)
		}
		for _, c := range got {
			if unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || unicode.Is(unicode.Bidi_Control, c) || isDoubleQuote(c) || unicode.IsSpace(c) && c != ' ' {
				t.Fatalf("%q holds %U", got, c)
			}
		}
	})
}

func FuzzParseRedirect(f *testing.F) {
	for _, s := range []string{"https://claude.ai/cb", "http://[::1]:1/", "cursor://x/y?z", "javascript:alert(1)", "https://a@b/", "https://%D0%B0/", "//x", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, to, err := parseRedirect(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(s, "\r\n\t \"<>\\") {
			t.Fatalf("%q was accepted", s)
		}
		if to.Host == "" || deniedSchemes[u.Scheme] || u.User != nil {
			t.Fatalf("%q leads to %+v", s, to)
		}
		for _, c := range to.Host {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q shows the host %q", s, to.Host)
			}
		}
	})
}

func TestInitials(t *testing.T) {
	for name, want := range map[string]string{
		"Claude": "C", "Claude Code": "CC", "Visual Studio Code": "VS", "my-agent": "MA", "cisco": "C",
		"7zip": "7", "クロード コード": "ク", "émile": "É", "!!!": "·", "": "·", "“x” y": "XY",
	} {
		if got := initials(name); got != want {
			t.Errorf("initials(%q) = %q, want %q", name, got, want)
		}
	}
}
