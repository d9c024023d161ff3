package pages

import (
	"net/http"
	"slices"
)

// Resource is the MCP server that a page is about, when a site has several.
type Resource struct {
	Name string // Default: Options.ServerName
	URL  string // its resource identifier, shown as a technical detail
}

// Scope is one line of what an app asks for.
type Scope struct {
	Name     string // the value of FieldScope when it is optional
	Sentence string // what it lets the app do; empty for a general sentence
	Why      string // a second line: which tools, or when to leave it off
	Optional bool   // a box that the user may tick, and that starts empty
	Change   bool   // it lets the app change things, which gets another icon
}

// Consent is the question whether an app may have access.
type Consent struct {
	Client   Client
	Resource Resource
	User     string // how the user is known, such as an e-mail address
	Scopes   []Scope

	// StayConnected says that the app also gets a refresh token.
	StayConnected bool

	// UserCode is what the device of a Client on a device shows.
	UserCode string

	// Token is the opaque reference to the request on the server, bound to the
	// browser's session. It is all that the forms carry.
	Token string

	// Locales is the ui_locales value of the authorization request, for pages
	// that answer a form. Default: the one in the query of this request.
	Locales string
}

// serverView is a server made ready for the templates.
type serverView struct{ Name, Initials, URL string }

func (r *Renderer) server(res Resource) serverView {
	s := r.site.Server
	if name := cleanText(res.Name, maxName); name != "" {
		s = serverView{Name: name, Initials: initials(name)}
	}
	s.URL = res.URL
	return s
}

type consentBody struct {
	Consent
	Client *clientView
	Server serverView
}

// Required and Choices are the scopes in the order they are shown: what comes
// with the access first, what the user decides on last.
func (b consentBody) Required() []Scope { return b.withOptional(false) }

// Choices are the optional scopes.
func (b consentBody) Choices() []Scope { return b.withOptional(true) }

func (b consentBody) withOptional(want bool) []Scope {
	return slices.DeleteFunc(slices.Clone(b.Scopes), func(s Scope) bool { return s.Optional != want })
}

// ScopeNames are all scopes, as technical details show them.
func (b consentBody) ScopeNames() []string {
	var names []string
	for _, s := range b.Scopes {
		names = append(names, s.Name)
	}
	if b.StayConnected && !slices.Contains(names, "offline_access") {
		names = append(names, "offline_access")
	}
	return names
}

// Consent writes the consent page. Its form posts FieldToken, FieldDecision
// and a FieldScope for each ticked scope to PathAuthorize, or to PathDevice for a
// client on a device; Enter in a box submits the first button, which is Cancel.
func (r *Renderer) Consent(w http.ResponseWriter, req *http.Request, status int, v Consent) error {
	c, err := newClientView(v.Client)
	if err != nil {
		return err
	}
	body := consentBody{Consent: v, Client: c, Server: r.server(v.Resource)}
	return r.write(w, r.choose(req, v.Locales), status, "consent", frame{Body: body, Class: "consent"})
}
