package integration

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// visitor is a person at a browser without JavaScript: it keeps cookies, follows redirects within the site, fills in
// the forms of the pages and goes where a page's refresh leads.
type visitor struct {
	t      testing.TB
	g      *gateway
	client *http.Client

	name, password string // to sign in with
}

func (g *gateway) newVisitor(t testing.TB) *visitor { return g.newVisitorNamed(t, userName) }

// newVisitorNamed is for users of other names. All have the same password.
func (g *gateway) newVisitorNamed(t testing.TB, name string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := g.newClient(g.client.Transport)
	client.Jar = jar
	return &visitor{t, g, client, name, userPassword}
}

// during is the visitor in a part of a test.
func (v *visitor) during(t testing.TB) *visitor {
	copied := *v
	copied.t = t
	return &copied
}

// at is the visitor at another node of the same site, with the cookies of both.
func (v *visitor) at(g *gateway) *visitor {
	client := g.newClient(g.client.Transport)
	client.Jar = v.client.Jar
	return &visitor{v.t, g, client, v.name, v.password}
}

// page is what a visitor sees.
type page struct {
	v      *visitor
	url    *url.URL
	status int
	header http.Header
	body   string
	title  string
	forms  []form
	next   string // where a refresh or a redirect leads outside of the site; "" for nowhere
}

type form struct {
	id, action string
	fields     url.Values        // inputs with their initial values, without check boxes
	boxes      []string          // values of the check boxes
	buttons    map[string]string // names by values
}

func (v *visitor) get(address string) *page {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(req)
}

// do sends a request and follows redirects as long as they stay within the site.
func (v *visitor) do(req *http.Request) *page {
	v.t.Helper()
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	req.Header.Set("Accept-Language", "en")
	for range 10 {
		resp, err := v.client.Do(req)
		if err != nil {
			v.t.Fatal(err)
		}
		p := v.read(resp)
		location, err := resp.Location()
		if err != nil {
			return p
		}
		if resp.StatusCode == http.StatusTemporaryRedirect || resp.StatusCode == http.StatusPermanentRedirect {
			v.t.Errorf("%s answers %d, which would repeat a POST with its password", req.URL, resp.StatusCode)
		}
		v.g.keepSecret(location.Query().Get("continue"))
		if location.Scheme+"://"+location.Host != v.g.origin {
			p.next = location.String()
			return p
		}
		if req, err = http.NewRequestWithContext(v.t.Context(), http.MethodGet, location.String(), nil); err != nil {
			v.t.Fatal(err)
		}
	}
	v.t.Fatal("the site redirects for ever")
	return nil
}

func (v *visitor) read(resp *http.Response) *page {
	v.t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	p := &page{v: v, url: resp.Request.URL, status: resp.StatusCode, header: resp.Header, body: string(body)}
	doc, err := html.Parse(strings.NewReader(p.body))
	if err != nil {
		v.t.Fatal(err)
	}
	late := map[string][]string{}
	p.walk(doc, -1, late)
	for id, boxes := range late {
		for i := range p.forms {
			if p.forms[i].id == id {
				p.forms[i].boxes = append(p.forms[i].boxes, boxes...)
			}
		}
	}
	return p
}

// walk reads the parts of a document that matter. current is the form that a node stands in, or -1. Check boxes that
// stand elsewhere and name their form are put into late.
func (p *page) walk(n *html.Node, current int, late map[string][]string) {
	if n.Type == html.ElementNode {
		attr := map[string]string{}
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
		}
		switch n.Data {
		case "title":
			if n.FirstChild != nil {
				p.title = n.FirstChild.Data
			}
		case "meta":
			if _, target, ok := strings.Cut(attr["content"], "url="); ok && strings.EqualFold(attr["http-equiv"], "refresh") {
				p.next = target
			}
		case "form":
			p.forms = append(p.forms, form{id: attr["id"], action: attr["action"], fields: url.Values{}, buttons: map[string]string{}})
			current = len(p.forms) - 1
		case "input":
			switch {
			case attr["type"] == "checkbox":
				late[attr["form"]] = append(late[attr["form"]], attr["value"])
			case current >= 0:
				p.forms[current].fields.Add(attr["name"], attr["value"])
			}
		case "button":
			if current >= 0 {
				p.forms[current].buttons[attr["value"]] = attr["name"]
			}
		}
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		p.walk(c, current, late)
	}
}

// form returns the form that has a field or the value of a button, or that goes to an address.
func (p *page) form(name string) *form {
	for i := range p.forms {
		_, field := p.forms[i].fields[name]
		_, button := p.forms[i].buttons[name]
		if field || button || p.forms[i].action == name {
			return &p.forms[i]
		}
	}
	return nil
}

// submit sends the form that has the named field, button value or address, with other values for some of its fields.
func (p *page) submit(name string, values url.Values) *page {
	p.v.t.Helper()
	f := p.form(name)
	if f == nil && p.status == http.StatusServiceUnavailable {
		p.v.t.Fatal(errUnavailable)
	}
	if f == nil {
		p.v.t.Fatalf("no form with %q on the page %q (%d):\n%s", name, p.title, p.status, tail(p.body, 2000))
	}
	fields := url.Values{}
	maps.Copy(fields, f.fields)
	if button, ok := f.buttons[name]; ok && button != "" {
		fields.Set(button, name)
	}
	maps.Copy(fields, values)
	target, err := p.url.Parse(f.action)
	if err != nil {
		p.v.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.v.t.Context(), http.MethodPost, target.String(), strings.NewReader(fields.Encode()))
	if err != nil {
		p.v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Origin", "null")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return p.v.do(req)
}

// signIn fills in the sign-in page, if that is what is shown.
func (p *page) signIn() *page {
	p.v.t.Helper()
	if p.form("password") == nil {
		return p
	}
	return p.submit("password", url.Values{"username": {p.v.name}, "password": {p.v.password}})
}

// authorize goes through sign-in and consent as a person who agrees, and returns the parameters with which the browser
// comes back to the client.
func (v *visitor) authorize(address string) url.Values {
	v.t.Helper()
	return v.get(address).signIn().submit("allow", nil).callback()
}

// callback is the answer for the client that the page hands over.
func (p *page) callback() url.Values {
	p.v.t.Helper()
	if p.next == "" && p.status == http.StatusServiceUnavailable {
		p.v.t.Fatal(errUnavailable)
	}
	if p.next == "" {
		p.v.t.Fatalf("the page %q (%d) leads nowhere:\n%s", p.title, p.status, tail(p.body, 2000))
	}
	u, err := url.Parse(p.next)
	if err != nil {
		p.v.t.Fatal(err)
	}
	p.v.g.keepSecret(u.Query().Get("code"))
	return u.Query()
}

func (p *page) String() string { return fmt.Sprintf("%d %q", p.status, p.title) }
