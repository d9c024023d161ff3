package pages

import (
	"net/http"
	"time"
)

// App is one connected app, which is one grant.
type App struct {
	ID            string // posted as FieldGrant when the app is removed
	Client        Client
	Resource      Resource // shown when it is not the site's first one
	Scopes        []string // their sentences
	StayConnected bool
	Connected     time.Time
	LastUsed      time.Time // zero when the access was never used
}

// Account is the page of connected apps.
type Account struct {
	User    string
	Apps    []App
	Removed *Client // the app that was just removed, for a notice
	Notice  Notice  // something else that was just done
	Named   string  // the passkey that the notice is about
	SignIn  *SignIn // nil for users whose sign-in is elsewhere
	Token   string  // see Consent.Token
}

type accountBody struct {
	Account
	Apps    []appView
	Removed *clientView
	Server  serverView
}

type appView struct {
	App
	Client *clientView
	Server string // empty when it is the site's own
}

// Account writes the page of connected apps. Removing one posts FieldToken and
// FieldGrant to AccountPath + RevokeSuffix; signing out posts FieldToken to
// PathLogout, with FieldEverywhere for all sessions. Removing a passkey posts
// FieldToken and FieldPasskey to AccountPath + PasskeySuffix + RemoveSuffix.
func (r *Renderer) Account(w http.ResponseWriter, req *http.Request, status int, v Account) error {
	body := accountBody{Account: v, Server: r.site.Server}
	for _, a := range v.Apps {
		view := appView{App: a, Client: listedClient(a.Client)}
		if s := r.server(a.Resource); s.Name != r.site.Server.Name {
			view.Server = s.Name
		}
		body.Apps = append(body.Apps, view)
	}
	if v.Removed != nil {
		body.Removed = listedClient(*v.Removed)
	}
	return r.write(w, r.choose(req, ""), status, "account", frame{Body: body, Isolated: true, Class: "wide"})
}

// listedClient is newClientView for lists. A client whose record does not add
// up is listed with the least trust instead of refused: people must be able to
// remove it.
func listedClient(c Client) *clientView {
	v, err := newClientView(c)
	if err == nil {
		return v
	}
	name := CleanName(c.Name)
	return &clientView{Client: c, Name: name, Quoted: name != "", Initials: "?", Look: looks[UnconfirmedApp]}
}

// SignedOut is the page after signing out.
type SignedOut struct {
	Everywhere bool // all sessions of the user ended, not only this one
}

// SignedOut writes the page after signing out.
func (r *Renderer) SignedOut(w http.ResponseWriter, req *http.Request, status int, v SignedOut) error {
	return r.write(w, r.choose(req, ""), status, "signedout", frame{Body: v, Isolated: true})
}
