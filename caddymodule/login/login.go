// Package login is the contract between the authorization server and the ways
// in which people sign in.
package login

import (
	"context"
	"errors"
)

// ErrDenied says that the credentials are wrong or that the user is unknown.
// The two are one error on purpose: callers cannot tell them apart.
var ErrDenied = errors.New("user name or password is wrong")

// ErrBusy says that too many sign-ins are being checked at the moment. The
// caller answers 503 with Retry-After.
var ErrBusy = errors.New("too many sign-ins at once")

// Identity is a person who signed in.
type Identity struct {
	// Subject identifies the user for good. It becomes the "sub" of tokens and
	// the placeholder {http.auth.user.id}.
	Subject string `json:"sub"`

	// Name and Email are for display and for the upstream; both may be empty.
	// Email is set only when the provider vouches for it.
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`

	// Groups the user belongs to, for policy.
	Groups []string `json:"groups,omitempty"`

	// Provider is the name of the login that vouched for the user, "local"
	// for users of the configuration.
	Provider string `json:"idp"`

	// Stamp changes when the user's credential changes, so that sessions from
	// before the change end. It is empty where the provider has no such thing.
	Stamp string `json:"stamp,omitempty"`

	// Tokens are what the provider has given for the person, at a sign-in with a
	// [Delegate]. They are not remembered with the identity.
	Tokens *Tokens `json:"-"`
}

// Display returns what a page shows for the user: the e-mail address, the name
// or the subject, whichever is known first.
func (id Identity) Display() string {
	switch {
	case id.Email != "":
		return id.Email
	case id.Name != "":
		return id.Name
	}
	return id.Subject
}

// Password checks a user name and a password.
type Password interface {
	// Authenticate returns the user, ErrDenied, ErrBusy, or another error when
	// the check itself could not be done. Its duration does not tell whether
	// the user exists.
	Authenticate(ctx context.Context, username, password string) (Identity, error)
}

// Directory is implemented by logins that know their users without them being
// present, such as the local one. Sessions and refresh tokens of users whom the
// directory no longer has are refused.
type Directory interface {
	// Lookup returns the current identity of a subject and whether it exists.
	Lookup(ctx context.Context, subject string) (Identity, bool)
}
