package pages

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is how many characters of a client's name are shown. It is enough
// for real names and too little to write a sentence into the heading.
const maxName = 60

// CleanName makes a client's name fit to be shown: at most 60 characters on
// one line, without control, formatting, bidirectional, zero-width or
// private-use characters, without piles of combining marks, and without double
// quotation marks, which could end the quotation that the page puts around it.
// It returns "" when nothing is left. Cleaning twice changes nothing.
func CleanName(name string) string {
	return clean(name, maxName, func(c rune) rune {
		if isDoubleQuote(c) {
			return '\''
		}
		return c
	})
}

// cleanText is CleanName for other foreign text, such as a user's name or a
// client ID, which may be longer and may hold quotation marks.
func cleanText(s string, limit int) string {
	return clean(s, limit, func(c rune) rune { return c })
}

// maxMarks is how many combining marks may follow one another. No script needs
// more, and a pile of them draws over the lines above and below.
const maxMarks = 3

func clean(s string, limit int, replace func(rune) rune) string {
	out := make([]rune, 0, min(len(s), limit+1))
	marks, space := 0, false
	for _, c := range s {
		switch {
		case unicode.IsSpace(c):
			space = true
			continue
		case isInvisible(c):
			continue
		case unicode.IsMark(c):
			// A mark needs a letter of the name: without one it would change
			// the character that the page puts before the name.
			if marks++; marks > maxMarks || len(out) == 0 || space {
				continue
			}
		default:
			marks = 0
		}
		if space && len(out) > 0 {
			out = append(out, ' ')
		}
		space = false
		if out = append(out, replace(c)); len(out) > limit {
			return strings.TrimRight(string(out[:limit-1]), " ") + "…"
		}
	}
	return string(out)
}

// isInvisible reports characters that take no room, reorder the text around
// them, or have no agreed meaning.
func isInvisible(c rune) bool {
	switch c {
	case utf8.RuneError, '\u2800': // a blank Braille pattern is a visible space in name only
		return true
	}
	return unicode.In(c,
		unicode.C, // controls, formats (bidi, zero-width, tags), surrogates, private use
		unicode.Zl, unicode.Zp,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
		unicode.Noncharacter_Code_Point,
	)
}

func isDoubleQuote(c rune) bool {
	return strings.ContainsRune("\"“”„‟«»″‶〝〞〟＂「」『』｢｣《》", c)
}

// initials returns one or two capital letters for the monogram.
func initials(name string) string {
	var out []rune
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !unicode.IsMark(c) }) {
		c, _ := utf8.DecodeRuneInString(word)
		out = append(out, unicode.ToUpper(c))
		// Ideographs and syllables are too wide for two of them.
		if len(out) == 2 || c > 0x1100 {
			break
		}
	}
	if len(out) == 0 {
		return "·"
	}
	return string(out)
}
