package pages

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// colour is red, green and blue from 0 to 1.
type colour [3]float64

// parseColour reads "#rgb" or "#rrggbb".
func parseColour(s string) (colour, error) {
	digits, ok := strings.CutPrefix(s, "#")
	if len(digits) == 3 {
		d := digits
		digits = string([]byte{d[0], d[0], d[1], d[1], d[2], d[2]})
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if !ok || err != nil || len(digits) != 6 {
		return colour{}, fmt.Errorf("accent %q is not a colour of the form #rgb or #rrggbb", s)
	}
	return colour{float64(n>>16) / 255, float64(n>>8&0xff) / 255, float64(n&0xff) / 255}, nil
}

func (c colour) String() string {
	b := func(f float64) int { return int(math.Round(f * 255)) }
	return fmt.Sprintf("#%02x%02x%02x", b(c[0]), b(c[1]), b(c[2]))
}

// mix returns c with a share of another colour in it.
func (c colour) mix(other colour, share float64) colour {
	for i := range c {
		c[i] += (other[i] - c[i]) * share
	}
	return c
}

// luminance is the relative luminance of WCAG 2.2.
func (c colour) luminance() float64 {
	linear := func(f float64) float64 {
		if f <= 0.04045 {
			return f / 12.92
		}
		return math.Pow((f+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}

// contrast is the contrast ratio of WCAG 2.2, from 1 to 21.
func (c colour) contrast(other colour) float64 {
	a, b := c.luminance(), other.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// readable is the least contrast of text in WCAG 2.2 AA, with a margin for the
// rounding to whole bytes.
const readable = 4.6

var (
	black = colour{0, 0, 0}
	white = colour{1, 1, 1}
	ink   = colour{0.05, 0.05, 0.08}

	// The surfaces of style.css.
	lightPaper = colour{0xf5 / 255.0, 0xf4 / 255.0, 0xf0 / 255.0}
	lightCard  = white
	darkPaper  = colour{0x13 / 255.0, 0x13 / 255.0, 0x12 / 255.0}
	darkCard   = colour{0x1d / 255.0, 0x1c / 255.0, 0x1b / 255.0}
)

// palette is the part of the style sheet's colours that follows the accent.
type palette struct{ accent, down, on, tint colour }

// newPalette moves the accent towards an end, black or white, until it can be
// read as text on the page, on the card and on its own tint.
func newPalette(accent, paper, card, end colour) palette {
	p := palette{accent: accent, tint: card.mix(accent, 0.1)}
	for range 40 {
		if min(p.accent.contrast(paper), p.accent.contrast(card), p.accent.contrast(p.tint)) >= readable {
			break
		}
		p.accent = p.accent.mix(end, 0.06)
	}
	p.down = p.accent.mix(end, 0.22)
	p.on = white
	if ink.contrast(p.accent) > white.contrast(p.accent) {
		p.on = ink
	}
	return p
}

func (p palette) css() string {
	return fmt.Sprintf(":root{--accent:%s;--accent-down:%s;--on-accent:%s;--tint:%s}", p.accent, p.down, p.on, p.tint)
}

// accentCSS returns the rules that replace the style sheet's accent, in a
// variant for light and one for dark.
func accentCSS(accent string) (string, error) {
	if accent == "" {
		return "", nil
	}
	c, err := parseColour(accent)
	if err != nil {
		return "", err
	}
	light := newPalette(c, lightPaper, lightCard, black)
	dark := newPalette(c, darkPaper, darkCard, white)
	return light.css() + "\n@media (prefers-color-scheme:dark){" + dark.css() + "}\n", nil
}
