// This file implements the parts of RFC 6749 (OAuth 2.0) that OAuth 2.1 keeps:
// grant types, client authentication methods, scope and error codes.

package oauth

import (
	"net/http"
	"slices"
	"strings"
)

// Grant types (RFC 6749 section 4).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
)

// Client authentication methods (RFC 7591 section 2).
const (
	AuthNone              = "none"
	AuthClientSecretBasic = "client_secret_basic"
	AuthClientSecretPost  = "client_secret_post"
	AuthPrivateKeyJWT     = "private_key_jwt"
)

// ResponseTypeCode is the only response type of OAuth 2.1.
const ResponseTypeCode = "code"

// Error is a refusal in the words of the protocol. Its description is text of
// ours that names the mend; it never repeats what the client sent.
type Error struct {
	// Code is the registered error code, such as "invalid_grant".
	Code string

	// Description goes into error_description.
	Description string

	// Status is the HTTP status at endpoints that answer in JSON.
	Status int

	// RetryAfter in seconds is sent as the Retry-After header when positive.
	RetryAfter int

	cause error
}

// Error implements error.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.Description + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Description
}

// Unwrap returns what made the server refuse. It is for the log and is never
// sent to the client.
func (e *Error) Unwrap() error { return e.cause }

// Because returns a copy of the error with the cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

func badRequest(code, description string) *Error {
	return &Error{Code: code, Description: description, Status: http.StatusBadRequest}
}

// InvalidRequest says: a parameter is missing, repeated or malformed (section 5.2).
func InvalidRequest(description string) *Error { return badRequest("invalid_request", description) }

// InvalidClient says: the client is unknown or failed to authenticate (section 5.2).
func InvalidClient(description string) *Error {
	return &Error{Code: "invalid_client", Description: description, Status: http.StatusUnauthorized}
}

// InvalidGrant says: the code or refresh token is wrong, expired, revoked or was
// issued to another client (section 5.2).
func InvalidGrant(description string) *Error { return badRequest("invalid_grant", description) }

// UnauthorizedClient says: the client may not use this grant type (section 5.2).
func UnauthorizedClient(description string) *Error {
	return badRequest("unauthorized_client", description)
}

// UnsupportedGrantType says: the server does not know the grant type (section 5.2).
func UnsupportedGrantType() *Error {
	return badRequest("unsupported_grant_type", "this grant type is not offered here")
}

// UnsupportedResponseType says: only "code" is offered (section 4.1.2.1).
func UnsupportedResponseType() *Error {
	return badRequest("unsupported_response_type", "response_type must be code")
}

// InvalidScope says: the scope is malformed or exceeds what was granted (section 5.2).
func InvalidScope(description string) *Error { return badRequest("invalid_scope", description) }

// AccessDenied says: the user said no (section 4.1.2.1).
func AccessDenied() *Error { return badRequest("access_denied", "the user did not allow access") }

// ServerError says: something of ours broke (section 4.1.2.1).
func ServerError(cause error) *Error {
	return &Error{
		Code: "server_error", Description: "the server could not handle the request",
		Status: http.StatusInternalServerError, cause: cause,
	}
}

// TemporarilyUnavailable says: the store cannot be reached (section 4.1.2.1). It is
// never reported as invalid_grant or invalid_client, because clients answer
// those by throwing their tokens away.
func TemporarilyUnavailable(cause error) *Error {
	return &Error{
		Code: "temporarily_unavailable", Description: "try again in a moment",
		Status: http.StatusServiceUnavailable, RetryAfter: 2, cause: cause,
	}
}

// TooManyRequests says: a limit was reached; retry after so many seconds (RFC 6585
// section 4). OAuth has no code of its own for it.
func TooManyRequests(description string, retryAfter int) *Error {
	return &Error{
		Code: "temporarily_unavailable", Description: description,
		Status: http.StatusTooManyRequests, RetryAfter: max(retryAfter, 1),
	}
}

// MaxScopes bounds how many scopes of a request are looked at.
const MaxScopes = 64

// Scopes is a set of scopes in a stable order.
type Scopes []string

// ParseScope splits the value of a scope parameter (section 3.3). Tokens that
// are no scope-token and tokens beyond MaxScopes are dropped, and so are
// repetitions: a client that asks for too much gets less, not an error.
func ParseScope(value string) Scopes {
	var out Scopes
	for token := range strings.FieldsSeq(value) {
		if len(out) == MaxScopes {
			break
		}
		if ValidScopeToken(token) && !slices.Contains(out, token) {
			out = append(out, token)
		}
	}
	return out
}

// ValidScopeToken reports whether s is a scope-token (section 3.3) of at most
// 128 bytes.
func ValidScopeToken(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// String joins the scopes as the scope parameter has them.
func (s Scopes) String() string { return strings.Join(s, " ") }

// Has reports whether the set holds the scope.
func (s Scopes) Has(scope string) bool { return slices.Contains(s, scope) }

// Narrow returns the scopes of s that are also in allowed, in the order of s.
func (s Scopes) Narrow(allowed Scopes) Scopes {
	out := make(Scopes, 0, len(s))
	for _, scope := range s {
		if allowed.Has(scope) {
			out = append(out, scope)
		}
	}
	return out
}

// Within reports whether every scope of s is in allowed.
func (s Scopes) Within(allowed Scopes) bool { return len(s.Narrow(allowed)) == len(s) }
