package pages

import (
	"net/http"
	"time"
)

// LoginFailure is why the sign-in page is shown again.
type LoginFailure string

// The reasons. The page never says whether a user exists.
const (
	NoFailure        LoginFailure = ""
	WrongCredentials LoginFailure = "wrong"
	TooManyTries     LoginFailure = "pause"   // Wait says for how long
	LoginBusy        LoginFailure = "busy"    // too many sign-ins at once
	LoginExpired     LoginFailure = "expired" // the form's token is too old
	LoginOutage      LoginFailure = "outage"  // Provider does not answer

	WrongCode     LoginFailure = "code"     // of the authenticator app
	WrongRecovery LoginFailure = "recovery" // a recovery code
	CodesLocked   LoginFailure = "locked"   // only a recovery code helps
	WrongPasskey  LoginFailure = "passkey"
)

// Failed is what went wrong in the step before, on pages that ask once more.
type Failed struct {
	Failure   LoginFailure
	TriesLeft int           // after something wrong; zero hides the number
	Wait      time.Duration // after TooManyTries
	Provider  string        // label of the login, with LoginOutage
}

// Recovering reports whether a recovery code was typed, or is all that helps.
func (f Failed) Recovering() bool { return f.Failure == WrongRecovery || f.Failure == CodesLocked }

// title is the title of a page on which something may have failed.
type title struct {
	Failure LoginFailure
	Title   string
}

// Provider is a button that signs in somewhere else. It is a link, because a
// form could not lead to another origin.
type Provider struct {
	Label string // "Google" becomes "Continue with Google"
	Href  string
}

// Login is the sign-in page.
type Login struct {
	// Client is who asks. It is nil when somebody signs in to see the
	// connected apps, and the page has no Cancel then.
	Client   *Client
	Resource Resource

	Failed
	Username string // what was typed before

	// Again says that somebody who is signed in has to do it once more, to
	// change how they sign in.
	Again bool

	// Providers, Password and Passkey are the ways to sign in. The last one is
	// the address of the page for passkeys, or empty.
	Providers []Provider
	Password  bool
	Passkey   string

	Token   string // see Consent.Token
	Locales string // see Consent.Locales
}

type loginBody struct {
	Login
	Client *clientView
	Server serverView
}

// Invalid reports whether the fields hold what is wrong, which a busy server
// or an old form do not mean.
func (b loginBody) Invalid() bool { return b.Failure == WrongCredentials }

// Login writes the sign-in page. Its form posts FieldToken, FieldUsername and
// FieldPassword to PathLogin; Cancel posts FieldToken and DecisionDeny to
// PathAuthorize, or to PathDevice for a client on a device.
func (r *Renderer) Login(w http.ResponseWriter, req *http.Request, status int, v Login) error {
	body := loginBody{Login: v, Server: r.server(v.Resource)}
	var err error
	if body.Client, err = optionalClient(v.Client); err != nil {
		return err
	}
	return r.write(w, r.choose(req, v.Locales), status, "login", frame{Body: body})
}

// optionalClient is newClientView where there may be no client.
func optionalClient(c *Client) (*clientView, error) {
	if c == nil {
		return nil, nil
	}
	return newClientView(*c)
}
