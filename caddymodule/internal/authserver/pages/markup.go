package pages

import (
	"fmt"
	"html/template"
	"time"
)

// markup is the set of functions that the templates of one language use. The
// ones that return template.HTML are the only places that make markup outside
// of the templates; each escapes every string it is given.
type markup struct {
	*catalogue
	site *site
}

func (m markup) funcs() template.FuncMap {
	return template.FuncMap{
		"t":       m.html,
		"text":    m.text,
		"count":   m.count,
		"strong":  m.strong,
		"host":    m.host,
		"code":    m.code,
		"name":    m.name,
		"plain":   m.plainName,
		"link":    m.link,
		"date":    m.date,
		"ago":     func(t time.Time) (string, error) { return m.ago(t, time.Now()) },
		"used":    func(t time.Time) (string, error) { return m.lastUsed(t, time.Now()) },
		"span":    m.span,
		"site":    func() *site { return m.site },
		"lang":    m.tag.String,
		"pair":    func(c *clientView, s serverView) identityPair { return identityPair{c, s} },
		"field":   func(f Failed, focus bool) codeField { return codeField{f, focus} },
		"failing": func(f LoginFailure, text string) title { return title{f, text} },
		"long":    func(s string) string { return cleanText(s, maxLong) },
	}
}

// maxLong bounds foreign text that may be long, such as client IDs and
// redirect URIs.
const maxLong = 2048

// maxUser bounds the name a user is shown under; 254 is the longest e-mail
// address.
const maxUser = 254

// identityPair is what the two monograms at the top of a page stand for.
type identityPair struct {
	Client *clientView
	Server serverView
}

// html returns a message whose values may be markup. Values of any other type
// are escaped.
func (m markup) html(key string, pairs ...any) (template.HTML, error) {
	safe := make([]any, len(pairs))
	for i, v := range pairs {
		safe[i] = v
		if _, ok := v.(template.HTML); i%2 == 1 && !ok {
			safe[i] = template.HTMLEscapeString(fmt.Sprint(v))
		}
	}
	s, err := m.format(key, template.HTMLEscapeString, safe)
	return template.HTML(s), err // #nosec G203 -- every part was escaped above
}

// strong emphasises a user's name. bdi keeps its direction from leaking out.
func (m markup) strong(s string) template.HTML {
	return element(`<b><bdi>`, cleanText(s, maxUser), `</bdi></b>`)
}

func (m markup) host(s string) template.HTML {
	return element(`<b class="host">`, cleanText(s, maxUser), `</b>`)
}

func (m markup) code(s string) template.HTML {
	return element(`<code>`, cleanText(s, maxLong), `</code>`)
}

func (m markup) link(href, label string) template.HTML {
	return element(`<a href="`, href, `">`) + element(``, label, `</a>`)
}

// element puts escaped text between two pieces of constant markup.
func element(before, text, after string) template.HTML {
	return template.HTML(before + template.HTMLEscapeString(text) + after) // #nosec G203
}

// name returns a client's name as it appears within a sentence.
func (m markup) name(c *clientView) (template.HTML, error) {
	s, err := m.plainName(c)
	return element(`<bdi>`, s, `</bdi>`), err
}

// plainName is name without markup, for titles and labels. A name that nobody
// vouches for is quoted, and a missing name has a word that is not.
func (m markup) plainName(c *clientView) (string, error) {
	switch {
	case c.Name == "":
		return m.text("app.unnamed")
	case c.Quoted:
		return m.text("quote", "text", c.Name)
	}
	return c.Name, nil
}
