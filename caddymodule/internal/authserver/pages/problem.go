package pages

import (
	"net/http"
	"time"
)

// Problem says what went wrong. Its value is the error code that the page
// shows, and the key of its texts.
type Problem string

// The problems that have texts of their own. Any other value is shown with the
// texts of ServerError.
const (
	RequestExpired  Problem = "request_expired"         // the stored request is gone or used
	InvalidRequest  Problem = "invalid_request"         // a parameter is missing, repeated or wrong
	UnknownClient   Problem = "invalid_client"          // no client has this ID
	ClientDocument  Problem = "invalid_client_metadata" // its metadata document cannot be read
	InvalidRedirect Problem = "invalid_redirect_uri"    // not registered: the page never links to it
	FormExpired     Problem = "form_expired"            // the token of a form does not fit
	OtherBrowser    Problem = "other_browser"           // the request began elsewhere, or cookies are off
	NotAllowed      Problem = "access_denied"           // signed in, but no "allow" rule fits the user
	LoginFailed     Problem = "login_failed"            // the provider did not sign the user in
	TooManyRequests Problem = "too_many_requests"
	Unavailable     Problem = "temporarily_unavailable"
	NotFound        Problem = "not_found"
	ServerError     Problem = "server_error"
)

// RequestLifetime is how long an authorization request waits for the user. The
// texts of RequestExpired name it.
const RequestLifetime = 10 * time.Minute

var problems = map[Problem]bool{
	RequestExpired: true, InvalidRequest: true, UnknownClient: true, ClientDocument: true,
	InvalidRedirect: true, FormExpired: true, OtherBrowser: true, NotAllowed: true,
	LoginFailed: true, TooManyRequests: true, Unavailable: true, NotFound: true, ServerError: true,
}

// Error is the page for everything that cannot be told to the app, above all
// because it is not certain that the redirect URI is the app's.
type Error struct {
	Problem Problem

	// Detail is an English sentence for the person who writes the app. It is
	// shown as a technical detail and holds nothing secret.
	Detail string

	// Reference finds the event in the server's log.
	Reference string
	Time      time.Time // Default: now

	User     string // who is signed in; with NotAllowed
	Provider string // label of the login; with LoginFailed

	// SwitchToken adds a button to sign in as somebody else; see Consent.Token.
	SwitchToken string

	Resource Resource
	Locales  string // see Consent.Locales
}

type errorBody struct {
	Error
	Key    string
	Server serverView
	Stamp  string
}

// Code is the problem's value, under a name that the template can tell from
// the texts.
func (b errorBody) Code() string { return string(b.Problem) }

// Lifetime is for the texts of RequestExpired.
func (b errorBody) Lifetime() time.Duration { return RequestLifetime }

// Error writes an error page. It links to no address of the request.
func (r *Renderer) Error(w http.ResponseWriter, req *http.Request, status int, v Error) error {
	if v.Time.IsZero() {
		v.Time = time.Now()
	}
	body := errorBody{Error: v, Key: "error." + string(v.Problem), Server: r.server(v.Resource)}
	if !problems[v.Problem] {
		body.Key = "error." + string(ServerError)
	}
	body.Stamp = v.Time.UTC().Format("2006-01-02 15:04:05 UTC")
	return r.write(w, r.choose(req, v.Locales), status, "error", frame{Body: body})
}
