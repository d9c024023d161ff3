// This file implements RFC 7591 (Dynamic Client Registration): reading a request
// as real clients send it and writing the answer.

package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a registration.
const (
	MaxRegistrationLength = 16 << 10 // bytes of the request body
	MaxRedirectURIs       = 32
	maxMetadataText       = 512 // bytes of a name, an address or an identifier
)

// InvalidRedirectURI says: a redirect URI may not be registered (RFC 7591 section
// 3.2.2).
func InvalidRedirectURI(description string) *Error {
	return &Error{Code: "invalid_redirect_uri", Description: description, Status: http.StatusBadRequest}
}

// InvalidClientMetadata says: another field may not be registered (section 3.2.2).
func InvalidClientMetadata(description string) *Error {
	return &Error{Code: "invalid_client_metadata", Description: description, Status: http.StatusBadRequest}
}

// ClientMetadata are the fields of a registration that the server keeps
// (section 2). Others are ignored, as section 2 asks.
type ClientMetadata struct {
	RedirectURIs            []string `json:"redirect_uris"` // clients demand the list in answers, even an empty one
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method,omitempty"`
	GrantTypes              []string `json:"grant_types,omitempty"`
	ResponseTypes           []string `json:"response_types,omitempty"`
	ClientName              string   `json:"client_name,omitempty"`
	ClientURI               string   `json:"client_uri,omitempty"`
	Scope                   string   `json:"scope,omitempty"`
	SoftwareID              string   `json:"software_id,omitempty"`
	SoftwareVersion         string   `json:"software_version,omitempty"`
	ApplicationType         string   `json:"application_type,omitempty"`
}

// ClientInformation is the answer to a registration (section 3.2.1).
type ClientInformation struct {
	ClientID         string `json:"client_id"`
	ClientIDIssuedAt int64  `json:"client_id_issued_at"` // seconds since 1970

	// ClientSecret is set for confidential clients; then
	// ClientSecretExpiresAt is REQUIRED, and 0 says never.
	ClientSecret          string `json:"client_secret,omitempty"`
	ClientSecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`

	ClientManagement
	ClientMetadata
}

// DecodeClientMetadata reads a registration request. Field names count exactly
// as they are written, the last of several equal ones; unknown fields are
// ignored; null counts as absent; a field of the wrong type is
// invalid_client_metadata.
func DecodeClientMetadata(body []byte) (ClientMetadata, error) {
	var m ClientMetadata
	if !utf8.Valid(body) {
		return m, InvalidClientMetadata("the request body is not UTF-8")
	}
	// encoding/json would match struct fields in any case, so the object is
	// read as a map first.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return m, InvalidClientMetadata("the request body is not a JSON object")
	}
	for _, f := range []struct {
		name   string
		target any
	}{
		{"redirect_uris", &m.RedirectURIs},
		{"token_endpoint_auth_method", &m.TokenEndpointAuthMethod},
		{"grant_types", &m.GrantTypes},
		{"response_types", &m.ResponseTypes},
		{"client_name", &m.ClientName},
		{"client_uri", &m.ClientURI},
		{"scope", &m.Scope},
		{"software_id", &m.SoftwareID},
		{"software_version", &m.SoftwareVersion},
		{"application_type", &m.ApplicationType},
	} {
		raw, ok := fields[f.name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, f.target); err != nil {
			return ClientMetadata{}, InvalidClientMetadata(f.name + " has the wrong JSON type")
		}
	}
	return m, nil
}

// Normalize checks the metadata and fills in what RFC 7591 section 2 leaves to
// the server. It follows what clients in the field send: grant and response
// types that are not offered are dropped as long as one remains. more are the
// grant types that are offered beside those of every server.
func (m *ClientMetadata) Normalize(more ...string) error {
	for _, f := range []struct {
		name string
		text *string
	}{
		{"client_name", &m.ClientName},
		{"client_uri", &m.ClientURI},
		{"software_id", &m.SoftwareID},
		{"software_version", &m.SoftwareVersion},
		{"application_type", &m.ApplicationType},
	} {
		if len(*f.text) > maxMetadataText {
			return InvalidClientMetadata(f.name + " is longer than 512 bytes")
		}
		*f.text = strings.Map(printable, *f.text)
	}
	m.Scope = ParseScope(m.Scope).String()
	if err := m.normalizeGrants(more); err != nil {
		return err
	}
	if err := m.checkRedirectURIs(); err != nil {
		return err
	}
	return m.normalizeAuthMethod()
}

// printable drops from text that pages show what is not seen but acts: control
// characters, formatting such as a change of direction, and line separators.
func printable(r rune) rune {
	if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
		return -1
	}
	return r
}

func (m *ClientMetadata) normalizeGrants(more []string) error {
	if len(m.GrantTypes) == 0 {
		// The RFC's default is authorization_code alone; refresh tokens are
		// issued regardless, so the answer says so.
		m.GrantTypes = []string{GrantAuthorizationCode, GrantRefreshToken}
	}
	offered := []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials}
	m.GrantTypes = keep(m.GrantTypes, append(offered, more...))
	if len(m.GrantTypes) == 0 || slices.Equal(m.GrantTypes, []string{GrantRefreshToken}) {
		return InvalidClientMetadata("grant_types has none that is offered; use authorization_code")
	}
	if !slices.Contains(m.GrantTypes, GrantAuthorizationCode) {
		m.ResponseTypes = nil
		return nil
	}
	if len(m.ResponseTypes) == 0 {
		m.ResponseTypes = []string{ResponseTypeCode}
	}
	if m.ResponseTypes = keep(m.ResponseTypes, []string{ResponseTypeCode}); len(m.ResponseTypes) == 0 {
		return InvalidClientMetadata("response_types has none that is offered; use code")
	}
	return nil
}

// keep returns the values that are offered, each once.
func keep(values, offered []string) []string {
	var out []string
	for _, v := range values {
		if slices.Contains(offered, v) && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func (m *ClientMetadata) checkRedirectURIs() error {
	if !slices.Contains(m.GrantTypes, GrantAuthorizationCode) {
		m.RedirectURIs = []string{}
		return nil
	}
	switch {
	case len(m.RedirectURIs) == 0:
		return InvalidRedirectURI("redirect_uris is missing; name at least one address that answers may go to")
	case len(m.RedirectURIs) > MaxRedirectURIs:
		return InvalidRedirectURI(fmt.Sprintf("redirect_uris has more than %d entries", MaxRedirectURIs))
	}
	for i, uri := range m.RedirectURIs {
		if err := CheckRedirectURI(uri); err != nil {
			return InvalidRedirectURI(fmt.Sprintf("redirect_uris[%d] %v", i, err))
		}
	}
	return nil
}

// normalizeAuthMethod makes a client that names no method public unless it asks
// for the client_credentials grant: section 3.2.1 lets the server replace
// metadata, and such clients often send no secret later on.
func (m *ClientMetadata) normalizeAuthMethod() error {
	machine := slices.Contains(m.GrantTypes, GrantClientCredentials)
	switch m.TokenEndpointAuthMethod {
	case "":
		m.TokenEndpointAuthMethod = AuthNone
		if machine {
			m.TokenEndpointAuthMethod = AuthClientSecretBasic
		}
	case AuthNone:
		if machine {
			return InvalidClientMetadata("the client_credentials grant needs a client secret; use client_secret_basic")
		}
	case AuthClientSecretBasic, AuthClientSecretPost:
	default:
		return InvalidClientMetadata("token_endpoint_auth_method must be none, client_secret_basic or client_secret_post")
	}
	return nil
}
