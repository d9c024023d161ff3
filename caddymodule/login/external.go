package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// ErrCancelled says that the person turned back at the provider.
var ErrCancelled = errors.New("the person turned back at the provider")

// ErrUnreachable says that the provider does not answer at the moment, or that
// it says so itself. Other ways to sign in go on working.
var ErrUnreachable = errors.New("the provider does not answer")

// Method is a way to sign in that modules contribute: a [Redirect] or a
// [Request].
type Method interface {
	// Recognizes reports whether an identity that was remembered comes from
	// this login as it is configured now. Sessions and refresh tokens of others
	// are refused.
	Recognizes(Identity) bool
}

// Redirect signs people in at another place, to which the browser is sent and
// from which it comes back to a callback URL.
//
// The caller binds the attempt to the browser and makes sure that each is
// finished at most once.
type Redirect interface {
	Method

	// Begin returns where to send the browser. The error is ErrUnreachable when
	// the provider has to be asked for that and does not answer.
	Begin(ctx context.Context, a Attempt) (string, error)

	// Finish returns who came back with the parameters of the callback, whose
	// state the caller has checked. The error is ErrCancelled, ErrUnreachable,
	// or says why the answer cannot be believed; it holds nothing secret.
	Finish(ctx context.Context, a Attempt, callback url.Values) (Identity, error)
}

// Asserter is a login whose provider also says who somebody is to programs that
// act for that person, in a signed JWT and without a browser
// (draft-ietf-oauth-identity-assertion-authz-grant).
type Asserter interface {
	Method

	// Issuer is the iss of the assertions that Assert believes, byte by byte.
	Issuer() string

	// Assert returns whom an assertion is about, the same Identity as for a
	// sign-in, after it has checked the signature. For whom, when and how often
	// the assertion is good is up to the caller. The error is ErrUnreachable, or
	// says why the assertion cannot be believed; it holds nothing secret.
	Assert(ctx context.Context, assertion string) (Identity, error)
}

// Delegate is a [Redirect] whose provider gives tokens for the people who sign in,
// with which other servers can be called on their behalf.
type Delegate interface {
	Redirect

	// Renew returns new tokens for a refresh token of a subject, which may be used
	// up by it. Without a new refresh token the old one goes on being good. The
	// error is ErrDenied when the provider does not accept it any more, demands
	// the person, or gives tokens for somebody else.
	Renew(ctx context.Context, subject, refresh string) (Tokens, error)
}

// Tokens are what a provider gives for a person.
type Tokens struct {
	Access  string
	Refresh string    // "" for none
	Expires time.Time // of Access; zero when the provider does not tell
}

// Attempt is one sign-in from before the browser leaves until it is back.
type Attempt struct {
	// Callback is the URL that the provider sends the browser back to.
	Callback string

	// State comes back with the browser, Nonce inside of the ID token, and
	// Verifier is the secret of PKCE (RFC 7636). The caller makes them up, new
	// ones for each attempt.
	State, Nonce, Verifier string

	// Prompt asks for something to be shown: "login" for the password even if
	// the provider knows the browser, "select_account" for a choice of accounts.
	Prompt string

	// MaxAge is how long ago the person may have proven themselves to the
	// provider; nil for any time.
	MaxAge *time.Duration

	// Hint is the account that the person is expected to sign in with.
	Hint string
}

// Request signs in whom something in front of the server vouches for in each
// request, such as a proxy that sets headers.
type Request interface {
	Method

	// Identify returns who makes the request, or ErrDenied when nobody that is
	// trusted says so.
	Identify(r *http.Request) (Identity, error)
}
