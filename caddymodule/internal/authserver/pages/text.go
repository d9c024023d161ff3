package pages

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

//go:embed locales/*.json
var localeFiles embed.FS

// fallback is the language of last resort; the other catalogues have exactly
// its keys and placeholders.
const fallback = "en"

// catalogue holds the messages of one language.
type catalogue struct {
	tag      language.Tag
	messages map[string]message
}

// message is a text taken apart at its placeholders.
type message []part

type part struct {
	text string
	slot bool // text is the name of a placeholder
}

// parseMessage takes "Connect {name} to {server}?" apart.
func parseMessage(s string) (message, error) {
	var m message
	for s != "" {
		text, rest, found := strings.Cut(s, "{")
		if text != "" {
			m = append(m, part{text: text})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			return nil, fmt.Errorf("placeholder in %q is not closed or empty", s)
		}
		m = append(m, part{text: name, slot: true})
		s = after
	}
	return m, nil
}

// loadCatalogues returns the catalogues of dir, English first, because a
// language matcher falls back to the first one.
func loadCatalogues(dir fs.FS) ([]*catalogue, error) {
	names, err := fs.Glob(dir, "locales/*.json")
	if err != nil {
		return nil, err
	}
	var all []*catalogue
	for _, name := range names {
		c, err := loadCatalogue(dir, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if c.tag == language.MustParse(fallback) {
			all = append([]*catalogue{c}, all...)
			continue
		}
		all = append(all, c)
	}
	return all, nil
}

func loadCatalogue(dir fs.FS, name string) (*catalogue, error) {
	tag, err := language.Parse(strings.TrimSuffix(path.Base(name), ".json"))
	if err != nil {
		return nil, err
	}
	b, err := fs.ReadFile(dir, name)
	if err != nil {
		return nil, err
	}
	var raw map[string]string
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, err
	}
	c := &catalogue{tag: tag, messages: make(map[string]message, len(raw))}
	for key, text := range raw {
		if c.messages[key], err = parseMessage(text); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return c, nil
}

// format fills the placeholders of a message from pairs of name and value;
// values that the message does not use are ignored. literal is applied to the
// message's own text and to no value.
func (c *catalogue) format(key string, literal func(string) string, pairs []any) (string, error) {
	m, ok := c.messages[key]
	if !ok {
		return "", fmt.Errorf("no message %q in %s", key, c.tag)
	}
	var b strings.Builder
	for _, p := range m {
		if !p.slot {
			b.WriteString(literal(p.text))
			continue
		}
		value, ok := lookup(pairs, p.text)
		if !ok {
			return "", fmt.Errorf("message %q needs a value for {%s}", key, p.text)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

func lookup(pairs []any, name string) (string, bool) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == name {
			return fmt.Sprint(pairs[i+1]), true
		}
	}
	return "", false
}

// text returns a message as plain text.
func (c *catalogue) text(key string, pairs ...any) (string, error) {
	return c.format(key, func(s string) string { return s }, pairs)
}

// count returns the form of a message that fits the number n, with {n} filled
// in. Catalogues have two forms, "<key>.one" and "<key>.other", which is what
// all embedded languages need for numbers below a million.
func (c *catalogue) count(key string, n int) (string, error) {
	form := ".other"
	if plural.Cardinal.MatchPlural(c.tag, n, 0, 0, 0, 0) == plural.One {
		form = ".one"
	}
	return c.text(key+form, "n", n)
}

// maxPreference bounds what is parsed of a client's language preferences.
const maxPreference = 512

// preferences returns the languages a request asks for: ui_locales (OpenID
// Connect Core 1.0, section 3.1.2.1) before Accept-Language. What cannot be
// parsed is not asked for.
func preferences(req *http.Request, stored string) []language.Tag {
	asked := stored
	if asked == "" && req.URL != nil {
		asked = req.URL.Query().Get("ui_locales")
	}
	var tags []language.Tag
	if len(asked) <= maxPreference {
		for name := range strings.FieldsSeq(asked) {
			if tag, err := language.Parse(name); err == nil {
				tags = append(tags, tag)
			}
		}
	}
	if h := req.Header.Get("Accept-Language"); len(h) <= maxPreference {
		if accepted, _, err := language.ParseAcceptLanguage(h); err == nil {
			tags = append(tags, accepted...)
		}
	}
	return tags
}
