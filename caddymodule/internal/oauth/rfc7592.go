// This file implements RFC 7592 (Dynamic Client Registration Management): the
// requests by which a client reads, changes and ends its registration.

package oauth

import (
	"encoding/json"
	"net/http"
)

// InvalidRegistrationToken says: the registration access token is missing or
// wrong, or there is no such client. Nobody learns which of these it is (RFC 7592
// section 2.1).
func InvalidRegistrationToken() *Error {
	return &Error{
		Code: "invalid_token", Status: http.StatusUnauthorized,
		Description: "the client is not known here, or the registration access token is not the one of the client",
	}
}

// ClientManagement is what a client needs to manage its registration (section 3).
type ClientManagement struct {
	// RegistrationAccessToken is presented as a bearer token at the
	// RegistrationClientURI.
	RegistrationAccessToken string `json:"registration_access_token,omitempty"`
	RegistrationClientURI   string `json:"registration_client_uri,omitempty"`
}

// ClientUpdate is a request to replace the metadata of a client (section 2.2).
type ClientUpdate struct {
	ClientID string

	// ClientSecret is "" when the request has none. One that is there must be
	// the client's: nobody chooses a secret.
	ClientSecret string

	ClientMetadata
}

// DecodeClientUpdate reads a request to replace the metadata of a client. The
// rules of DecodeClientMetadata hold; errors are *Error.
func DecodeClientUpdate(body []byte) (ClientUpdate, error) {
	var u ClientUpdate
	var err error
	if u.ClientMetadata, err = DecodeClientMetadata(body); err != nil {
		return u, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return u, InvalidClientMetadata("the request body is not a JSON object")
	}
	// Section 2.2: these are for answers only, and a client that sends them may
	// believe that it can choose them.
	for _, name := range []string{
		"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at",
	} {
		if raw, ok := fields[name]; ok && string(raw) != "null" {
			return u, InvalidClientMetadata(name + " must not be sent")
		}
	}
	for _, f := range []struct {
		name   string
		target *string
	}{{"client_id", &u.ClientID}, {"client_secret", &u.ClientSecret}} {
		if raw, ok := fields[f.name]; ok && json.Unmarshal(raw, f.target) != nil {
			return u, InvalidClientMetadata(f.name + " has the wrong JSON type")
		}
	}
	return u, nil
}
