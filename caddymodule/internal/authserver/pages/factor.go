package pages

import (
	"html/template"
	"net/http"
	"strings"
	"time"
)

// SignIn is how a user signs in, on the account page.
type SignIn struct {
	App           bool      // there is an authenticator app
	Since         time.Time // with App
	RecoveryCodes int       // that are left, with App
	Required      bool      // nobody gets in by a password alone

	Passkeys []Passkey

	// Offered says that browsers can have passkeys for this address, Full that
	// the user has as many as there can be.
	Offered, Full bool
}

// Passkey is a passkey in the list of the account page.
type Passkey struct {
	ID    string // posted as FieldPasskey when it is removed
	Name  string
	Added time.Time
	Used  time.Time // zero when it was never used
}

// Notice says on the account page what has just been done.
type Notice string

// The notices.
const (
	NoNotice       Notice = ""
	FactorOff      Notice = "factor_off"
	FactorAnew     Notice = "factor_anew" // and another one has to be set up
	PasskeyAdded   Notice = "passkey_added"
	PasskeyRemoved Notice = "passkey_removed"
)

// Code is the page that asks for the second factor after the password.
type Code struct {
	// Client is who asks; nil when somebody signs in to see the account page.
	Client   *Client
	Resource Resource

	Failed
	Back    string // address of the sign-in page
	Token   string // see Consent.Token
	Locales string // see Consent.Locales
}

// codeField is the field for a code, which may have the focus at first: not where
// there is something to do above it.
type codeField struct {
	Failed
	Focus bool
}

type codeBody struct {
	Code
	Client *clientView
	Server serverView
}

// Code writes the page that asks for the second factor. Its forms post FieldToken
// and either FieldCode or FieldRecovery to PathCode.
func (r *Renderer) Code(w http.ResponseWriter, req *http.Request, status int, v Code) error {
	body := codeBody{Code: v, Server: r.server(v.Resource)}
	var err error
	if body.Client, err = optionalClient(v.Client); err != nil {
		return err
	}
	return r.write(w, r.choose(req, v.Locales), status, "code", frame{Body: body})
}

// Enrol is the page that sets an authenticator app up.
type Enrol struct {
	// URI is the otpauth address of the key, which the page also shows as a QR
	// code. Its type says that it is one.
	URI    template.URL
	Secret string // the key in base32

	// Required says that the person is not signed in before it is set up.
	Required bool

	Failed
	Back    string // address of the page to go back to
	Token   string // see Consent.Token
	Locales string // see Consent.Locales
}

type enrolBody struct {
	Enrol
	Server serverView
	QR     qrCode
	Action string
}

// Groups is the secret in groups of four letters, as people copy it.
func (b enrolBody) Groups() string {
	var groups []string
	for rest := b.Secret; rest != ""; {
		n := min(4, len(rest))
		groups, rest = append(groups, rest[:n]), rest[n:]
	}
	return strings.Join(groups, " ")
}

// Enrol writes the page. Its form posts FieldToken, FieldCode and DecisionEnrol to
// AccountPath + FactorSuffix, or to PathEnrol when it is required.
func (r *Renderer) Enrol(w http.ResponseWriter, req *http.Request, status int, v Enrol) error {
	qr, err := newQRCode(string(v.URI))
	if err != nil {
		return err
	}
	body := enrolBody{Enrol: v, Server: r.site.Server, QR: qr, Action: r.site.AccountPath + FactorSuffix}
	if v.Required {
		body.Action = PathEnrol
	}
	return r.write(w, r.choose(req, v.Locales), status, "enrol", frame{Body: body, Isolated: !v.Required})
}

// Factor is the page on which the second factor is taken away, or gets new
// recovery codes.
type Factor struct {
	Failed
	Token string // see Consent.Token
}

type factorBody struct {
	Factor
	Server serverView
}

// Factor writes the page. Its forms post FieldToken, either FieldCode or
// FieldRecovery, and DecisionRemove or DecisionRenew to AccountPath + FactorSuffix.
func (r *Renderer) Factor(w http.ResponseWriter, req *http.Request, status int, v Factor) error {
	return r.write(w, r.choose(req, ""), status, "factor", frame{Body: factorBody{v, r.site.Server}, Isolated: true})
}

// Recovery is the page that shows recovery codes, once.
type Recovery struct {
	Codes    []string
	Next     string // address of the page that follows
	Required bool   // see Enrol.Required
	Locales  string // see Consent.Locales
}

type recoveryBody struct {
	Recovery
	Server serverView
}

// Recovery writes the page.
func (r *Renderer) Recovery(w http.ResponseWriter, req *http.Request, status int, v Recovery) error {
	return r.write(w, r.choose(req, v.Locales), status, "recovery", frame{Body: recoveryBody{v, r.site.Server}, Isolated: !v.Required})
}
