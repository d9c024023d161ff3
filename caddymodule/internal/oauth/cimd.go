// This file implements draft-ietf-oauth-client-id-metadata-document (OAuth Client
// ID Metadata Document): the URLs that are client ids, and the documents there.

package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxClientIDLength bounds a client identifier in bytes.
const MaxClientIDLength = 2048

// LooksLikeDocument reports whether a client id is meant to be the URL of a
// metadata document. The ids that this server makes never are.
func LooksLikeDocument(id string) bool {
	return strings.HasPrefix(id, "https://") || strings.HasPrefix(id, "http://")
}

// CheckClientIDURL returns an error, whose text names the rule, for a URL that is
// no client identifier (section 3). With loopback, those that tests serve from
// this machine pass as well, over http too.
func CheckClientIDURL(id string, loopback bool) error {
	if len(id) > MaxClientIDLength {
		return errors.New("is longer than 2048 bytes")
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || strings.IndexByte("\\\"<>^`{|}", c) >= 0 {
			return errors.New("has a character that URLs must percent-encode")
		}
	}
	if strings.Contains(id, "#") {
		return errors.New("has a fragment")
	}
	u, err := url.Parse(id)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return errors.New("is no URL")
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		return errors.New("has user information")
	}
	// Identifiers are compared as strings, so only the spelling that URL
	// libraries produce is let in.
	if u.String() != id || u.Host != strings.ToLower(u.Host) {
		return errors.New("is not in its normal form")
	}
	if err := checkClientIDHost(u, loopback); err != nil {
		return err
	}
	return checkClientIDPath(u)
}

// checkClientIDHost demands a name of the public Internet: an address vouches for
// nobody. What the name resolves to is looked at when it is dialled.
func checkClientIDHost(u *url.URL, loopback bool) error {
	host, port := splitPort(u.Host)
	if len(host) < len(u.Host) && !validPort(port) {
		return errors.New("has no valid port")
	}
	if loopback && slices.Contains(loopbackHosts, host) && (u.Scheme == "https" || u.Scheme == "http") {
		return nil
	}
	if u.Scheme != "https" {
		return errors.New("is not https")
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return errors.New("names its host by an address")
	}
	label := host[strings.LastIndexByte(host, '.')+1:]
	if !validHost(host) || label == host || label == "" || strings.Trim(label, "0123456789") == "" {
		return errors.New("has no name of the public Internet")
	}
	return nil
}

// checkClientIDPath demands a path without dot segments (section 3), percent-encoded
// ones included.
func checkClientIDPath(u *url.URL) error {
	path := u.EscapedPath()
	if path == "" || path == "/" {
		return errors.New("has no path")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment = strings.ReplaceAll(strings.ToLower(segment), "%2e", "."); segment == "." || segment == ".." {
			return errors.New("has a dot segment")
		}
	}
	return nil
}

// IsLoopbackURL reports whether a URL names this machine as its host.
func IsLoopbackURL(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	host, _ := splitPort(u.Host)
	return slices.Contains(loopbackHosts, host)
}

// ClientDocument is a client metadata document that has been checked.
type ClientDocument struct {
	ClientMetadata

	// The public keys of a client that authenticates with private_key_jwt, or
	// where they are. One of the two is set.
	JWKS    json.RawMessage
	JWKSURI string
}

// DecodeClientDocument reads the metadata document at the URL id (section 4.1).
// What is wrong with it is for the log.
func DecodeClientDocument(body []byte, id string) (ClientDocument, error) {
	var doc ClientDocument
	if !utf8.Valid(body) {
		return doc, errors.New("the document is not UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return doc, errors.New("the document is not a JSON object")
	}
	// Section 4.1: client_id is the URL, compared as a string; and there is no
	// secret that everyone could read.
	var own string
	if json.Unmarshal(fields["client_id"], &own) != nil || own != id {
		return doc, errors.New("client_id is not the URL of the document")
	}
	for name := range fields {
		if strings.HasPrefix(strings.ToLower(name), "client_secret") {
			return doc, errors.New("the document has a client_secret")
		}
	}
	var err error
	if doc.ClientMetadata, err = DecodeClientMetadata(body); err != nil {
		return doc, err
	}
	if err := doc.authentication(fields); err != nil {
		return doc, err
	}
	return doc, doc.normalize()
}

// authentication settles how the client authenticates: not at all, or with a key
// (section 4.1 forbids what needs a shared secret).
func (d *ClientDocument) authentication(fields map[string]json.RawMessage) error {
	switch d.TokenEndpointAuthMethod {
	case "":
		d.TokenEndpointAuthMethod = AuthNone
		return nil
	case AuthNone:
		return nil
	case AuthPrivateKeyJWT:
	default:
		return errors.New("token_endpoint_auth_method must be none or private_key_jwt")
	}
	d.JWKS = fields["jwks"]
	if string(d.JWKS) == "null" {
		d.JWKS = nil
	}
	if raw, ok := fields["jwks_uri"]; ok && json.Unmarshal(raw, &d.JWKSURI) != nil {
		return errors.New("jwks_uri has the wrong JSON type")
	}
	// RFC 7591 section 2: not both.
	if (d.JWKS == nil) == (d.JWKSURI == "") {
		return errors.New("private_key_jwt needs jwks or jwks_uri, and not both")
	}
	return nil
}

// documentGrants are the grant types of documents beside those of registrations.
// They stay where they are not offered: a document is written for many servers.
var documentGrants = []string{GrantDeviceCode, GrantJWTBearer}

// normalize applies the rules of registrations, and those of documents: people
// have to agree, or a provider that the operator trusts, so there is no grant type
// without either.
func (d *ClientDocument) normalize() error {
	method := d.TokenEndpointAuthMethod
	agreed := append([]string{GrantAuthorizationCode}, documentGrants...)
	if len(d.GrantTypes) > 0 && len(keep(d.GrantTypes, agreed)) == 0 {
		return errors.New("grant_types lacks authorization_code")
	}
	d.GrantTypes = slices.DeleteFunc(d.GrantTypes, func(name string) bool { return name == GrantClientCredentials })
	d.TokenEndpointAuthMethod = AuthNone
	if err := d.Normalize(documentGrants...); err != nil {
		return fmt.Errorf("the document is refused: %w", err)
	}
	if d.TokenEndpointAuthMethod = method; strings.TrimSpace(d.ClientName) == "" {
		return errors.New("client_name is missing")
	}
	return nil
}
