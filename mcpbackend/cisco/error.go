package cisco

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// An Error is a search that failed. Its text can be shown to the user as it is.
type Error struct {
	Status  int    // HTTP status of the refusal; 0 when there was no answer
	Message string // what happened and what to do, in whole sentences
	cause   error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the technical cause, which is for logs; it holds no URL, token or secret. It can be nil.
func (e *Error) Unwrap() error { return e.cause }

// transportError explains that who gave no answer.
func transportError(who string, err error) *Error {
	// The text of a url.Error holds the whole address.
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	e := &Error{cause: err}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Message = fmt.Sprintf("%s did not answer within %.0f seconds. Try again, or narrow the search.", who, callTimeout.Seconds())
	case errors.Is(err, context.Canceled):
		e.Message = "The search was cancelled."
	case errors.Is(err, errTooLong):
		e.Message = who + " sent an answer that is too long. Narrow the search."
	default:
		e.Message = who + " could not be reached. Check the network of this server, then try again."
	}
	return e
}

// refusal explains an answer of the API other than 200. The API answers with a list of errors in JSON, and the
// gateway in front of it with a heading in HTML, such as <h1>Developer Inactive</h1>.
func refusal(a answer, token string) *Error {
	e := &Error{Status: a.status, cause: fmt.Errorf("status %d", a.status)}
	said, action := describe(a.body, token)
	switch {
	case a.status == http.StatusUnauthorized:
		e.Message = sentence("Cisco's API does not accept a token it has just issued", said)
		action = "Check that the application of CISCO_CLIENT_ID has the Bug API."
	case a.status == http.StatusForbidden:
		e.Message = sentence("Cisco's API refused access", said)
		if action == "" {
			action = "Check that the application of CISCO_CLIENT_ID has the Bug API."
		}
	case a.status == http.StatusTooManyRequests:
		e.Message = "Cisco's API is receiving too many requests."
		action = "Wait a minute, then try again."
	case a.status >= 500:
		e.Message = fmt.Sprintf("Cisco's API has a problem (status %d).", a.status)
		action = "Try again later."
	default:
		e.Message = sentence(fmt.Sprintf("Cisco's API refused the search (status %d)", a.status), said)
	}
	if action != "" {
		e.Message += " " + action
	}
	return e
}

// describe takes the explanation and the suggested action out of a refusal's body.
func describe(body []byte, secret string) (said, action string) {
	var wire struct {
		ErrorResponse struct {
			APIError []struct {
				ErrorCode, ErrorDescription, SuggestedAction string
			}
		}
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return clean(stripTags(string(body)), secret), ""
	}
	if len(wire.ErrorResponse.APIError) == 0 {
		return "", ""
	}
	e := wire.ErrorResponse.APIError[0]
	said = clean(e.ErrorDescription, secret)
	if said == "" {
		said = clean(e.ErrorCode, secret)
	}
	return said, ended(clean(e.SuggestedAction, secret))
}

// tokenRefusal explains an answer of the token endpoint other than 200 (RFC 6749 §5.2).
func tokenRefusal(status int, body []byte, secret string) *Error {
	e := &Error{Status: status, cause: fmt.Errorf("token endpoint: status %d", status)}
	if status >= 500 || status == http.StatusTooManyRequests {
		e.Message = fmt.Sprintf("Cisco's sign-in service has a problem (status %d). Try again later.", status)
		return e
	}
	var wire struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &wire) // a body in another form leaves the code empty, and the advice is the same
	e.Message = sentence("Cisco's sign-in service refused the credentials of this server", clean(wire.Error, secret)) +
		" Check CISCO_CLIENT_ID and CISCO_CLIENT_SECRET."
	return e
}

// sentence joins what happened with what the other side said about it.
func sentence(what, said string) string {
	if said == "" {
		return what + "."
	}
	return ended(what + ": " + said)
}

func ended(s string) string {
	if s == "" || strings.HasSuffix(s, ".") || strings.HasSuffix(s, "!") || strings.HasSuffix(s, "?") {
		return s
	}
	return s + "."
}

// maxSaid bounds what is repeated of a foreign text, in runes.
const maxSaid = 300

// clean makes a foreign text fit to be repeated: on one line, short, without addresses and without secret.
func clean(s, secret string) string {
	if secret != "" {
		s = strings.ReplaceAll(s, secret, "[removed]")
	}
	words := strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
	})
	for i, w := range words {
		if strings.Contains(w, "://") {
			words[i] = "[address]"
		}
	}
	r := []rune(strings.Join(words, " "))
	if len(r) > maxSaid {
		r = append(r[:maxSaid-1], '…')
	}
	return string(r)
}

// stripTags leaves the text of a small HTML page.
func stripTags(s string) string {
	var b strings.Builder
	inTag := false
	for _, r := range s {
		switch {
		case r == '<':
			inTag = true
			b.WriteByte(' ')
		case r == '>':
			inTag = false
		case !inTag:
			b.WriteRune(r)
		}
	}
	return b.String()
}
