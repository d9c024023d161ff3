package authserver_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// browser is as much of a browser as the pages need: cookies, forms, and nothing
// that runs.
type browser struct {
	site *site
	jar  *cookiejar.Jar
	peer string // its address
}

func (s *site) browser() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{site: s, jar: jar, peer: "192.0.2.1:50000"}
}

var origin = &url.URL{Scheme: "https", Host: "mcp.example.com", Path: "/"}

// cookie returns the value of a cookie, or "".
func (b *browser) cookie(name string) string {
	for _, c := range b.jar.Cookies(origin) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// page is what the browser shows.
type page struct {
	browser  *browser
	status   int
	header   http.Header
	body     string
	document *html.Node
}

// send sends one request, without following redirects.
func (b *browser) send(r *http.Request) *page {
	b.site.t.Helper()
	for _, c := range b.jar.Cookies(origin) {
		r.AddCookie(c)
	}
	r.RemoteAddr = b.peer
	resp := b.site.serve(r)
	b.jar.SetCookies(origin, resp.Cookies())
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.site.t.Fatal(err)
	}
	document, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		b.site.t.Fatal(err)
	}
	return &page{browser: b, status: resp.StatusCode, header: resp.Header, body: string(body), document: document}
}

// get opens an address and follows redirects within the site.
func (b *browser) get(target string) *page {
	b.site.t.Helper()
	r := request(http.MethodGet, target, nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	return b.follow(b.send(r))
}

// post sends a form as a page of the site does.
func (b *browser) post(target string, values url.Values) *page {
	b.site.t.Helper()
	return b.follow(b.postOnce(target, values))
}

// postOnce is post without following redirects.
func (b *browser) postOnce(target string, values url.Values) *page {
	b.site.t.Helper()
	r := request(http.MethodPost, target, values)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "null")
	return b.send(r)
}

func (b *browser) follow(p *page) *page {
	b.site.t.Helper()
	for range 5 {
		location := p.header.Get("Location")
		if p.status != http.StatusSeeOther || !strings.HasPrefix(location, "/") {
			return p
		}
		p = b.send(request(http.MethodGet, location, nil))
	}
	b.site.t.Fatal("too many redirects")
	return nil
}

// each calls f for every element with the tag.
func (p *page) each(tag string, f func(*html.Node)) {
	for n := range p.document.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag {
			f(n)
		}
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// form is a form of a page with what it would send when nothing is filled in.
type form struct {
	action string
	values url.Values
}

// form returns the form that posts to the path.
func (p *page) form(path string) form {
	p.browser.site.t.Helper()
	var found *html.Node
	p.each("form", func(n *html.Node) {
		if attribute(n, "action") == path {
			found = n
		}
	})
	if found == nil {
		p.browser.site.t.Fatalf("the page (%d) has no form for %s:\n%s", p.status, path, p.body)
	}
	if method := attribute(found, "method"); method != "post" {
		p.browser.site.t.Errorf("the form for %s has the method %q", path, method)
	}
	out := form{path, url.Values{}}
	for n := range found.Descendants() {
		if n.Data == "input" && attribute(n, "type") == "hidden" {
			out.values.Add(attribute(n, "name"), attribute(n, "value"))
		}
	}
	return out
}

// has reports whether the page has a form that posts to the path.
func (p *page) has(path string) bool {
	found := false
	p.each("form", func(n *html.Node) { found = found || attribute(n, "action") == path })
	return found
}

// boxes returns the values of the check boxes.
func (p *page) boxes() []string {
	var out []string
	p.each("input", func(n *html.Node) {
		if attribute(n, "type") == "checkbox" {
			out = append(out, attribute(n, "value"))
		}
	})
	return out
}

// submit sends the form of the page for /authorize with more fields in it.
func (p *page) submit(pairs ...string) *page {
	p.browser.site.t.Helper()
	f := p.form("/authorize")
	for i := 0; i < len(pairs); i += 2 {
		f.values.Add(pairs[i], pairs[i+1])
	}
	return p.browser.post("/authorize", f.values)
}

// signIn fills in the sign-in form.
func (p *page) signIn(name, pass string) *page {
	p.browser.site.t.Helper()
	f := p.form("/login")
	f.values.Set("username", name)
	f.values.Set("password", pass)
	return p.browser.post("/login", f.values)
}

// consent opens an authorization request and goes on to the consent page.
func (b *browser) consent(v url.Values) *page {
	b.site.t.Helper()
	p := b.get("/authorize?" + v.Encode())
	if p.has("/login") {
		p = p.signIn("alice", password)
	}
	if p.status != http.StatusOK || !p.has("/authorize") {
		b.site.t.Fatalf("no consent page but %d:\n%s", p.status, p.body)
	}
	return p
}

// handedOff returns the parameters that the page hands to the client. The link
// and the refresh have to lead to the same address.
func (p *page) handedOff() url.Values {
	p.browser.site.t.Helper()
	var refresh, link string
	p.each("meta", func(n *html.Node) {
		if attribute(n, "http-equiv") == "refresh" {
			refresh = strings.TrimPrefix(attribute(n, "content"), "0;url=")
		}
	})
	p.each("a", func(n *html.Node) {
		if slices.Contains(strings.Fields(attribute(n, "class")), "go") {
			link = attribute(n, "href")
		}
	})
	u, err := url.Parse(refresh)
	if p.status != http.StatusOK || refresh == "" || refresh != link || err != nil {
		p.browser.site.t.Fatalf("no hand-off page but %d with refresh %q and link %q:\n%s", p.status, refresh, link, p.body)
	}
	return u.Query()
}

// problem returns the code that an error page shows.
func (p *page) problem() string {
	code := ""
	p.each("code", func(n *html.Node) {
		if code == "" && n.FirstChild != nil {
			code = n.FirstChild.Data
		}
	})
	return code
}

// heading is what the page is headed with.
func (p *page) heading() string {
	text := ""
	p.each("h1", func(n *html.Node) {
		for d := range n.Descendants() {
			if d.Type == html.TextNode {
				text += d.Data
			}
		}
	})
	return text
}
