package pages

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cssColours returns the values of a custom property in order: light first.
func cssColours(t *testing.T, css, property string) []colour {
	t.Helper()
	var out []colour
	for _, m := range regexp.MustCompile(`--`+property+`:(#[0-9a-f]+)`).FindAllStringSubmatch(css, -1) {
		c, err := parseColour(m[1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	if len(out) != 2 {
		t.Fatalf("--%s has %d values, want one for light and one for dark", property, len(out))
	}
	return out
}

func TestAnyAccentCanBeRead(t *testing.T) {
	sheet, err := templateFiles.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	paper, card, ink := cssColours(t, string(sheet), "paper"), cssColours(t, string(sheet), "card"), cssColours(t, string(sheet), "ink")
	for _, accent := range []string{"#000", "#fff", "#ff0", "#0f0", "#f00", "#00f", "#1b4fc4", "#888888", "#c99700", "#ffc0cb", "#123456"} {
		css, err := accentCSS(accent)
		if err != nil {
			t.Fatal(err)
		}
		a, down, on, tint := cssColours(t, css, "accent"), cssColours(t, css, "accent-down"), cssColours(t, css, "on-accent"), cssColours(t, css, "tint")
		for i, mode := range []string{"light", "dark"} {
			for pair, ratio := range map[string]float64{
				"accent on paper":      a[i].contrast(paper[i]),
				"accent on card":       a[i].contrast(card[i]),
				"accent on tint":       a[i].contrast(tint[i]),
				"hover on card":        down[i].contrast(card[i]),
				"button text":          on[i].contrast(a[i]),
				"button text on hover": on[i].contrast(down[i]),
				"text on tint":         ink[i].contrast(tint[i]),
			} {
				if ratio < 4.5 {
					t.Errorf("%s in %s: %s has a contrast of %.2f", accent, mode, pair, ratio)
				}
			}
		}
	}
}

func TestTheSurfacesOfAccentsAreThoseOfTheSheet(t *testing.T) {
	sheet, err := templateFiles.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(cssColours(t, string(sheet), "paper"), cssColours(t, string(sheet), "card"))
	for i, c := range []colour{lightPaper, darkPaper, lightCard, darkCard} {
		if c.String() != want[i].String() {
			t.Errorf("surface %d is %s, the sheet says %s", i, c, want[i])
		}
	}
}

func TestAccentReplacesTheSheetsOwn(t *testing.T) {
	plain, coloured := newRenderer(t), newRenderer(t, func(o *Options) { o.Accent = "#80c" })
	if plain.csp == coloured.csp {
		t.Error("the policy has the same hash for another style sheet")
	}
	if got := string(coloured.site.Style); !strings.Contains(got, ":root{--accent:#8800cc;") {
		t.Error("an accent that can be read is changed")
	}
}

func TestContrastIsThatOfWCAG(t *testing.T) {
	grey, err := parseColour("#777777")
	if err != nil {
		t.Fatal(err)
	}
	if got := grey.contrast(white); got < 4.47 || got > 4.49 {
		t.Errorf("#777 on white is %.3f, want 4.48", got)
	}
	if got := black.contrast(white); got < 20.99 || got > 21.01 {
		t.Errorf("black on white is %.3f, want 21", got)
	}
}

func TestParseColour(t *testing.T) {
	for in, want := range map[string]string{"#fff": "#ffffff", "#1B4fc4": "#1b4fc4", "#a0f": "#aa00ff"} {
		if got, err := parseColour(in); err != nil || got.String() != want {
			t.Errorf("%s is %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "#", "fff", "#ff", "#ffff", "#1b4fc4ff", "#ggg", "blue", "#12 456", "#+12345", "#0x1234", "#é1", "##12345"} {
		if got, err := parseColour(in); err == nil {
			t.Errorf("%q is taken for %s", in, got)
		}
	}
}
