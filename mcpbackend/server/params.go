package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// A param is one argument of a tool. Its JSON schema and its parser are derived from the same declaration, so that
// what a tool advertises is what it accepts.
type param struct {
	name     string
	about    string
	required bool
	maxLen   int      // longest text, in characters; for params without choices
	choices  []string // the values allowed; nil allows any text
	digits   bool     // the choices are digits, and models send them as numbers too
	page     bool     // a page number: an integer from 1
	def      string   // value when absent
}

// maxPage is far beyond any real page, and far from the bounds of arithmetic.
const maxPage = 100_000

// schema describes p to the client.
func (p param) schema() *jsonschema.Schema {
	s := &jsonschema.Schema{Description: p.about}
	switch {
	case p.page:
		s.Type, s.Minimum, s.Maximum = "integer", new(1.0), new(float64(maxPage))
		s.Default = json.RawMessage(p.def)
		return s
	case p.digits:
		first, last := p.choices[0], p.choices[len(p.choices)-1]
		s.AnyOf = []*jsonschema.Schema{
			{Type: "string", Enum: anys(p.choices)},
			{Type: "integer", Minimum: new(toFloat(first)), Maximum: new(toFloat(last))},
		}
	case p.choices != nil:
		s.Type, s.Enum = "string", anys(p.choices)
	default:
		s.Type, s.MaxLength = "string", &p.maxLen
		if p.required {
			s.MinLength = new(1)
		}
	}
	if p.def != "" {
		s.Default, _ = json.Marshal(p.def) // a string always marshals
	}
	return s
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// toFloat converts a choice made of digits.
func toFloat(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic("a choice declared as digits is not a number: " + s)
	}
	return f
}

// inputSchema describes all arguments of a tool. Unknown ones are refused, because a filter that is misspelled and
// ignored gives a wrong answer that looks right.
func inputSchema(params []param) *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type:                 "object",
		Properties:           make(map[string]*jsonschema.Schema, len(params)),
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
	}
	for _, p := range params {
		s.Properties[p.name] = p.schema()
		s.PropertyOrder = append(s.PropertyOrder, p.name)
		if p.required {
			s.Required = append(s.Required, p.name)
		}
	}
	return s
}

// parseArgs reads the arguments of a tool call. The result holds a value for each argument that was given or has a
// default; null and blank text count as absent. Errors are one sentence for the user.
func parseArgs(params []param, raw json.RawMessage) (map[string]string, error) {
	given := map[string]any{}
	if len(bytes.TrimSpace(raw)) > 0 {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&given); err != nil {
			return nil, refuse("The arguments must be a JSON object.")
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, refuse("The arguments must be one JSON object.")
		}
	}
	args := make(map[string]string, len(params))
	for _, p := range params {
		v, err := p.parse(given[p.name])
		if err != nil {
			return nil, err
		}
		if v != "" {
			args[p.name] = v
		}
		delete(given, p.name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		return nil, refuse("There is no argument %q here; use %s.", shorten(name), names(params))
	}
	return args, nil
}

// parse turns one JSON value into the argument's text, or its default when absent.
func (p param) parse(v any) (string, error) {
	var s string
	switch v := v.(type) {
	case nil:
	case string:
		s = strings.TrimSpace(v)
	case json.Number:
		if !p.page && !p.digits {
			return "", p.wrong()
		}
		s = integer(v.String())
		if s == "" {
			return "", p.wrong()
		}
	default:
		return "", p.wrong()
	}
	if s == "" {
		if p.required {
			return "", refuse("The argument %s is required.", p.name)
		}
		return p.def, nil
	}
	return p.check(s)
}

func (p param) check(s string) (string, error) {
	switch {
	case p.page:
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return "", p.wrong()
		}
		return strconv.Itoa(n), nil
	case p.choices != nil:
		i := slices.IndexFunc(p.choices, func(c string) bool { return strings.EqualFold(c, s) })
		if i < 0 {
			return "", p.wrong()
		}
		return p.choices[i], nil
	case utf8.RuneCountInString(s) > p.maxLen || strings.ContainsFunc(s, unprintable):
		return "", p.wrong()
	}
	return s, nil
}

// unprintable reports control characters. Line breaks and tabs are common in descriptions, and harmless.
func unprintable(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
}

// integer returns the plain digits of a whole JSON number such as 3, 3.0 or 3e0, or nothing.
func integer(s string) string {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxPage {
		return ""
	}
	return strconv.Itoa(int(f))
}

// A usageError is a refusal of arguments: one sentence for the user.
type usageError string

func (e usageError) Error() string { return string(e) }

func refuse(format string, a ...any) error { return usageError(fmt.Sprintf(format, a...)) }

// wrong says what p accepts.
func (p param) wrong() error {
	switch {
	case p.page:
		return refuse("The argument %s must be a whole number from 1 to %d.", p.name, maxPage)
	case p.choices != nil:
		return refuse("The argument %s must be one of %s.", p.name, strings.Join(p.choices, ", "))
	}
	return refuse("The argument %s must be plain text of at most %d characters.", p.name, p.maxLen)
}

func names(params []param) string {
	list := make([]string, len(params))
	for i, p := range params {
		list[i] = p.name
	}
	return strings.Join(list, ", ")
}

// shorten bounds a foreign name for an error message.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:39]) + "…"
	}
	return s
}
