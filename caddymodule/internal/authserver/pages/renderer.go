package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/text/language"
)

//go:embed templates/*.html style.css passkey.js
var templateFiles embed.FS

// Paths that the forms of the pages post to.
const (
	PathAuthorize = "/authorize"    // consent, and Cancel on the sign-in page
	PathLogin     = "/login"        // user name and password
	PathCode      = "/login/code"   // the second factor
	PathEnrol     = "/login/factor" // a second factor that has to be set up
	PathPasskey   = "/login/passkey"
	PathSwitch    = "/login/switch" // sign in as somebody else
	PathLogout    = "/logout"
	PathDevice    = "/device" // the code of a device, and consent to it
)

// What follows [Options.AccountPath] in the paths of its parts.
const (
	RevokeSuffix  = "/revoke"  // removes an app
	FactorSuffix  = "/factor"  // the second factor
	PasskeySuffix = "/passkey" // a new passkey
	RemoveSuffix  = "/remove"  // after PasskeySuffix: removes one
)

// Names of the form fields, and the values of FieldDecision.
const (
	FieldToken      = "token" // the opaque token of the view, in every form
	FieldDecision   = "decision"
	FieldScope      = "scope" // one per optional scope that was ticked
	FieldUsername   = "username"
	FieldPassword   = "password"
	FieldGrant      = "grant"      // the ID of the App to remove
	FieldEverywhere = "everywhere" // "1" ends all sessions of the user
	FieldUserCode   = "user_code"  // what a device shows
	FieldCode       = "code"       // of an authenticator app
	FieldRecovery   = "recovery"   // a recovery code
	FieldPasskey    = "passkey"    // the ID of the Passkey to remove
	FieldName       = "name"       // of a new passkey
	FieldAnswer     = "answer"     // what the script of the passkey page got

	DecisionAllow  = "allow"
	DecisionDeny   = "deny"
	DecisionEnrol  = "enrol"  // set the second factor up
	DecisionRenew  = "renew"  // make new recovery codes
	DecisionRemove = "remove" // take the second factor away
)

// Options are the parts of the pages that belong to the operator.
type Options struct {
	// ServerName is what people know the MCP server by. Default: Host.
	ServerName string

	// Host is the public host of the authorization server, shown in the footer.
	Host string

	// Accent is the colour of links and of the main button, as #rgb or
	// #rrggbb. It is darkened or lightened where it could not be read.
	// Default: a blue.
	Accent string

	// HelpURL is an https address that the footer links to; empty for none.
	HelpURL string

	// AccountPath is the path of the connected apps page; empty when the
	// server has no accounts, which hides all links to it.
	AccountPath string
}

// Renderer writes the pages. It is safe for concurrent use.
//
// Its methods write a whole response or, when they return an error, nothing.
// The error is [ErrView] when the view cannot be shown safely.
//
// The referrer policy of the pages makes browsers send "Origin: null" with
// their forms: handlers check Sec-Fetch-Site and their token, not Origin.
type Renderer struct {
	site    *site
	csp     string
	script  string // the policy of the page that has a script
	matcher language.Matcher
	books   []book // in the order the matcher knows
}

// book is all pages in one language. Each is parsed when it is shown for the first
// time: a site has a hundred of them, most of which nobody asks for, and a reload
// makes all sites anew.
type book struct {
	*catalogue
	pages map[string]func() (*template.Template, error)
}

// site is what every page knows about where it is.
type site struct {
	Server      serverView
	Host        string
	HelpURL     string
	AccountPath string
	Style       template.CSS
	Script      template.JS // of the page for passkeys
}

// New returns a renderer. Its errors name the option that is wrong.
func New(o Options) (*Renderer, error) {
	s, err := newSite(o)
	if err != nil {
		return nil, err
	}
	catalogues, err := allCatalogues()
	if err != nil {
		return nil, fmt.Errorf("loading the languages of the pages: %w", err)
	}
	r := &Renderer{
		site: s,
		csp: "default-src 'none'; style-src " + hashSource(string(s.Style)) +
			"; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	}
	r.script = r.csp + "; script-src " + hashSource(string(s.Script))
	var tags []language.Tag
	for _, c := range catalogues {
		tags = append(tags, c.tag)
		r.books = append(r.books, newBook(c, s))
	}
	r.matcher = language.NewMatcher(tags)
	return r, nil
}

// hashSource lets a policy allow one inline element by its content.
func hashSource(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func newSite(o Options) (*site, error) {
	if o.HelpURL != "" {
		if u, err := url.Parse(o.HelpURL); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("help URL %q is not an https address", o.HelpURL)
		}
	}
	if p := o.AccountPath; p != "" && (!strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.ContainsAny(p, `?#\`)) {
		return nil, fmt.Errorf("account path %q is not a plain absolute path", p)
	}
	accent, err := accentCSS(o.Accent)
	if err != nil {
		return nil, err
	}
	style, err := templateFiles.ReadFile("style.css")
	if err != nil {
		return nil, err
	}
	script, err := templateFiles.ReadFile("passkey.js")
	if err != nil {
		return nil, err
	}
	s := &site{Host: o.Host, HelpURL: o.HelpURL, AccountPath: o.AccountPath}
	s.Script = template.JS(script)                 // #nosec G203 -- our own file
	s.Style = template.CSS(string(style) + accent) // #nosec G203 -- our own file and colours made of numbers
	name := cleanText(o.ServerName, maxName)
	if name == "" {
		name = o.Host
	}
	s.Server = serverView{Name: name, Initials: initials(name)}
	return s, nil
}

// allCatalogues are the languages that the program has.
var allCatalogues = sync.OnceValues(func() ([]*catalogue, error) { return loadCatalogues(localeFiles) })

// newBook makes the pages of a language. The layout and the partials are parsed
// once, and every page on a copy of them, so that each has its own "main".
func newBook(c *catalogue, s *site) book {
	base := sync.OnceValues(func() (*template.Template, error) {
		return template.New("").Funcs(markup{c, s}.funcs()).
			ParseFS(templateFiles, "templates/layout.html", "templates/partials.html")
	})
	b := book{catalogue: c, pages: map[string]func() (*template.Template, error){}}
	for _, name := range pageNames {
		b.pages[name] = sync.OnceValues(func() (*template.Template, error) {
			layout, err := base()
			if err != nil {
				return nil, err
			}
			t, err := layout.Clone()
			if err != nil {
				return nil, err
			}
			return t.ParseFS(templateFiles, "templates/"+name+".html")
		})
	}
	return b
}

// pageNames are the templates that fill the layout.
var pageNames = []string{
	"account", "code", "consent", "device", "devicedone", "enrol", "error", "factor", "handoff", "landing", "login", "passkey",
	"recovery", "signedout",
}

// choose returns the pages in the language that fits the request best.
func (r *Renderer) choose(req *http.Request, locales string) book {
	_, i, _ := r.matcher.Match(preferences(req, locales)...)
	return r.books[i]
}

// frame is the data of the layout.
type frame struct {
	Body    any
	Refresh template.URL // where the browser goes by itself; empty to stay
	Class   string       // of the body element
	Served  bool         // the footer says who serves, not what one signs in to
	Script  bool         // the page has the script for passkeys

	// Isolated cuts the page off from the window that opened it. Pages on the
	// way of an authorization are not: clients on the web open them in a popup
	// and wait for a message from their own callback page in it, which a policy
	// on any page in between would cut off for good.
	Isolated bool
}

// write renders a page to memory, so that a fault cannot leave half of it on
// the wire, and sends it.
func (r *Renderer) write(w http.ResponseWriter, b book, status int, page string, f frame) error {
	t, err := b.pages[page]()
	if err != nil {
		return fmt.Errorf("parsing the %s page: %w", page, err)
	}
	var buf bytes.Buffer
	if err := t.ExecuteTemplate(&buf, "layout", f); err != nil {
		return fmt.Errorf("rendering the %s page: %w", page, err)
	}
	h := w.Header()
	Protect(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", b.tag.String())
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	h.Set("Content-Security-Policy", r.csp)
	if f.Script {
		h.Set("Content-Security-Policy", r.script)
	}
	if f.Isolated {
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	h.Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	// The browser went away when this fails; nobody is left to be told.
	_, _ = buf.WriteTo(w)
	return nil
}
