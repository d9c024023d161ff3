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
)

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

	Failure   LoginFailure
	TriesLeft int           // after WrongCredentials; zero hides the number
	Wait      time.Duration // after TooManyTries
	Username  string        // what was typed before
	Provider  string        // label of the login, with LoginOutage

	// Providers and Password are the ways to sign in.
	Providers []Provider
	Password  bool

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
	if v.Client != nil {
		c, err := newClientView(*v.Client)
		if err != nil {
			return err
		}
		body.Client = c
	}
	return r.write(w, r.choose(req, v.Locales), status, "login", frame{Body: body})
}
