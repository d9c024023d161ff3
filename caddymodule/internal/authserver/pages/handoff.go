package pages

import (
	"fmt"
	"html/template"
	"net/http"
)

// Handoff sends the browser back to the app, after a decision.
type Handoff struct {
	Client   Client
	Resource Resource
	User     string
	Denied   bool

	// URL is the authorization response: the redirect URI with its parameters.
	// Its type says that the caller has validated the redirect URI; it may
	// have any scheme that the client registered. The page refuses it all the
	// same when its scheme can run or read something, or when it does not
	// lead to Client.Redirect.
	URL template.URL

	Locales string // see Consent.Locales
}

type handoffBody struct {
	Handoff
	Client *clientView
	Server serverView
}

// Handoff writes the page that goes to the URL at once, by a meta refresh, and
// shows a link for browsers that ask before they open an app.
func (r *Renderer) Handoff(w http.ResponseWriter, req *http.Request, status int, v Handoff) error {
	c, err := newClientView(v.Client)
	if err != nil {
		return err
	}
	if err := sameEndpoint(string(v.URL), v.Client.Redirect); err != nil {
		return err
	}
	body := handoffBody{Handoff: v, Client: c, Server: r.server(v.Resource)}
	return r.write(w, r.choose(req, v.Locales), status, "handoff", frame{Body: body, Refresh: v.URL})
}

// sameEndpoint checks that an authorization response goes where the page says:
// only the query and the fragment may differ from the redirect URI.
func sameEndpoint(answer, redirect string) error {
	got, _, err := parseRedirect(answer)
	if err != nil {
		return fmt.Errorf("hand-off: %w", err)
	}
	want, _, err := parseRedirect(redirect)
	if err != nil {
		return fmt.Errorf("redirect URI: %w", err)
	}
	if got.Scheme != want.Scheme || got.Host != want.Host || got.Opaque != want.Opaque || got.EscapedPath() != want.EscapedPath() {
		return fmt.Errorf("%w: the hand-off leads elsewhere than the redirect URI", ErrView)
	}
	return nil
}
