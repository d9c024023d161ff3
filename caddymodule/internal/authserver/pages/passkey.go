package pages

import "net/http"

// PasskeyPage is the page with a script: no browser gives a passkey to a form.
type PasskeyPage struct {
	// Client is who asks; nil when somebody signs in to see the account page,
	// or adds a passkey.
	Client   *Client
	Resource Resource

	// Adding says that a new passkey is made, and none is used.
	Adding bool

	// Due says that the password was right, and a second factor is required.
	Due bool

	// Options is the JSON for navigator.credentials.
	Options string

	Failed
	Back    string // address of the page to go back to
	Token   string // see Consent.Token
	Locales string // see Consent.Locales
}

type passkeyBody struct {
	PasskeyPage
	Client *clientView
	Server serverView
	Action string
}

// Does is the key of the texts that say what is done with the passkey.
func (b passkeyBody) Does() string {
	if b.Adding {
		return "add"
	}
	return "use"
}

// Passkey writes the page. Its script posts FieldToken and FieldAnswer, the JSON
// of the credential, to PathPasskey, and with FieldName to AccountPath +
// PasskeySuffix when a passkey is added.
func (r *Renderer) Passkey(w http.ResponseWriter, req *http.Request, status int, v PasskeyPage) error {
	body := passkeyBody{PasskeyPage: v, Server: r.server(v.Resource), Action: PathPasskey}
	if v.Adding {
		body.Action = r.site.AccountPath + PasskeySuffix
	}
	var err error
	if body.Client, err = optionalClient(v.Client); err != nil {
		return err
	}
	return r.write(w, r.choose(req, v.Locales), status, "passkey", frame{Body: body, Isolated: v.Adding, Script: true})
}
