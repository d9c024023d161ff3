package external

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Bounds of claims, in bytes and in number. What is beyond them is dropped, but
// for the subject, without which a token is refused.
const (
	maxSubject = 255
	maxText    = 256
	maxGroups  = 200
)

// clockSkew is how far in the future a token may have been issued, for servers
// whose clocks differ.
const clockSkew = time.Minute

// wire are claims as they came, each in JSON. A map tells names by their exact
// spelling, and a value of another type than it should have counts as absent, or
// is refused, and never as something like it.
type wire map[string]json.RawMessage

func (c wire) has(name string) bool { _, ok := c[name]; return ok }

// text returns a JSON string, or "".
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// first returns the first of the claims that is a string.
func (c wire) first(names ...string) string {
	for _, name := range names {
		if s := text(c[name]); s != "" {
			return s
		}
	}
	return ""
}

// list returns a claim that is a string or an array of strings.
func (c wire) list(name string) []string {
	if s := text(c[name]); s != "" {
		return []string{s}
	}
	var all []string
	if json.Unmarshal(c[name], &all) != nil {
		return nil
	}
	return all
}

// moment returns a claim that is a NumericDate (RFC 7519 section 2), which may
// have a fraction. A claim that is there and is none is an error.
func (c wire) moment(name string) (at int64, there bool, err error) {
	raw, ok := c[name]
	if !ok {
		return 0, false, nil
	}
	var f *float64
	if json.Unmarshal(raw, &f) != nil || f == nil || !(*f >= 0 && *f < math.MaxInt32*1000) {
		return 0, false, malformed("%s is no date", name)
	}
	return int64(*f), true, nil
}

// checkTimes checks exp, which has to be there if need says so, nbf and iat, and
// returns exp and iat.
func (c wire) checkTimes(now time.Time, need bool) (expires, issued int64, err error) {
	expires, expiring, err := c.moment("exp")
	if err != nil {
		return 0, 0, err
	}
	if need && !expiring {
		return 0, 0, malformed("it has no exp")
	}
	for _, name := range []string{"nbf", "iat"} {
		at, there, err := c.moment(name)
		if err != nil {
			return 0, 0, err
		}
		if there && at > now.Add(clockSkew).Unix() {
			return 0, 0, malformed("%s is in the future", name)
		}
		issued = at
	}
	if expiring && now.Unix() >= expires {
		return 0, 0, token.ErrExpired
	}
	return expires, issued, nil
}

// audience returns aud, which is a string or an array of strings (RFC 7519
// section 4.1.3). Without one nobody knows whom the token was made for.
func (c wire) audience() ([]string, error) {
	aud := slices.DeleteFunc(c.list("aud"), func(s string) bool { return s == "" })
	if len(aud) == 0 {
		return nil, malformed("it has no aud")
	}
	return aud, nil
}

// checkKind refuses tokens that are no access tokens, and those that are bound to
// a key of the client whose use would have to be proven with each request.
// accessToken says that the type in the header leaves no doubt.
func (c wire) checkKind(accessToken bool) error {
	switch {
	case c.has("cnf"):
		return malformed("it is bound to a key of the client (cnf)")
	case c.has("events"):
		return malformed("it is a security event")
	}
	// Keycloak and Cognito name the kind in claims.
	for name, kinds := range map[string][]string{
		"typ":       {"bearer", "jwt", "at+jwt", "access", "access_token"},
		"token_use": {"access"},
	} {
		if c.has(name) && !slices.Contains(kinds, strings.ToLower(text(c[name]))) {
			return malformed("%s is not that of an access token", name)
		}
	}
	if accessToken || c.has("scope") || c.has("scp") {
		return nil
	}
	if slices.ContainsFunc([]string{"nonce", "at_hash", "c_hash", "s_hash"}, c.has) {
		return malformed("it is an ID token")
	}
	return nil
}

// scopes returns the scopes: a string (RFC 8693 section 4.2), or an array, in one
// of the two claims that are in use.
func (c wire) scopes() oauth.Scopes {
	return oauth.ParseScope(strings.Join(append(c.list("scope"), c.list("scp")...), " "))
}

// groups returns the groups, or else the roles. Upstreams get them separated by
// commas, so one with a comma in its name would be several, and is left out.
func (c wire) groups() []string {
	all := c.list("groups")
	if len(all) == 0 {
		all = c.list("roles")
	}
	var out []string
	for _, group := range all {
		if group != "" && validText(group) && !strings.Contains(group, ",") && len(out) < maxGroups {
			out = append(out, group)
		}
	}
	return out
}

// email returns the address if the issuer vouches for it: email_verified has to be
// true, and not something that could be read as true.
func (c wire) email() string {
	email := text(c["email"])
	if string(c["email_verified"]) != "true" || !validText(email) || !strings.Contains(email, "@") {
		return ""
	}
	return email
}

// claims turns what came into what the gateway goes by.
func (c wire) claims(issuer string) (*token.Claims, error) {
	out := &token.Claims{Scopes: c.scopes()}
	out.Issuer, out.Subject = issuer, text(c["sub"])
	if !validSubject(out.Subject) {
		return nil, malformed("sub is missing, too long or not printable ASCII")
	}
	out.Scope = out.Scopes.String()
	out.ClientID = c.first("client_id", "azp", "appid", "cid")
	if !validText(out.ClientID) {
		out.ClientID = ""
	}
	if name := text(c["name"]); validText(name) {
		out.Name = name
	}
	out.Email, out.Groups = c.email(), c.groups()
	return out, nil
}

// validSubject accepts printable ASCII that a header carries unchanged.
func validSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func validText(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// parse reads claims.
func parse(data []byte) (wire, error) {
	var c wire
	if json.Unmarshal(data, &c) != nil || c == nil {
		return nil, malformed("the claims are no JSON object")
	}
	return c, nil
}
