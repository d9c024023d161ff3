package transfer

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Summary counts records by what they are.
type Summary struct {
	Records  int `json:"records"`
	Keys     int `json:"keys"` // sets of signing keys; each issuer has one
	Unsealed int `json:"unsealed_keys"`
	Clients  int `json:"clients"`
	Added    int `json:"added_clients"` // by operators

	// Documents are copies of client metadata documents, Assertions marks of
	// client assertions that were used.
	Documents  int `json:"documents"`
	Assertions int `json:"assertions"`

	// APITokens are bearer tokens that were made by command.
	APITokens int `json:"api_tokens"`

	// MCPSessions say whose the sessions of MCP servers are.
	MCPSessions int `json:"mcp_sessions"`

	Grants  int `json:"grants"`
	Devices int `json:"devices"` // requests of devices
	Limits  int `json:"limits"`  // counts of rate limits
	Factors int `json:"factors"` // what users have beside their passwords

	// Delegations are tokens that login providers have given for people.
	Delegations int `json:"delegations"`

	Sessions int `json:"sessions"`
	SignIns  int `json:"sign_ins"` // marks of finished sign-ins at providers
	Revoked  int `json:"revoked"`
	Unknown  int `json:"unknown"`

	// Expired records are left out by Import and counted nowhere else.
	Expired int `json:"expired"`
}

// kind is what a record is.
type kind string

const (
	kindKeys    kind = "keys"
	kindClient  kind = "client"
	kindAdded   kind = "added"
	kindDoc     kind = "document"
	kindUsed    kind = "assertion"
	kindToken   kind = "apitoken"
	kindMCP     kind = "mcpsession"
	kindGrant   kind = "grant"
	kindDevice  kind = "device"
	kindLimit   kind = "limit"
	kindLent    kind = "delegation"
	kindFactor  kind = "factor"
	kindSession kind = "session"
	kindSignIn  kind = "signin"
	kindRevoked kind = "revoked"
	kindUnknown kind = ""
)

func (s *Summary) count(k kind, value []byte) {
	s.Records++
	switch k {
	case kindKeys:
		s.Keys++
		if !seal.Sealed(value) {
			s.Unsealed++
		}
	case kindClient:
		s.Clients++
	case kindAdded:
		s.Added++
	case kindDoc:
		s.Documents++
	case kindUsed:
		s.Assertions++
	case kindToken:
		s.APITokens++
	case kindMCP:
		s.MCPSessions++
	case kindGrant:
		s.Grants++
	case kindDevice:
		s.Devices++
	case kindLimit:
		s.Limits++
	case kindLent:
		s.Delegations++
	case kindFactor:
		s.Factors++
	case kindSession:
		s.Sessions++
	case kindSignIn:
		s.SignIns++
	case kindRevoked:
		s.Revoked++
	default:
		s.Unknown++
	}
}

// issuerLength is the length of the part of a key that stands for the issuer.
const issuerLength = 16

// split takes a key apart. What has the shape of no key is of unknown kind.
func split(key string) (issuer string, k kind, name string) {
	issuer, rest, _ := strings.Cut(key, "/")
	if len(issuer) != issuerLength || strings.Trim(issuer, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return "", kindUnknown, ""
	}
	word, name, named := strings.Cut(rest, "/")
	switch k = kind(word); k {
	case kindKeys:
		if named {
			return issuer, kindUnknown, ""
		}
		return issuer, k, ""
	case kindClient, kindAdded, kindDoc, kindUsed, kindToken, kindMCP, kindGrant, kindDevice, kindLimit, kindLent, kindFactor, kindSession, kindSignIn, kindRevoked:
		return issuer, k, name
	default:
		return issuer, kindUnknown, ""
	}
}

// Checker knows what records look like.
type Checker struct {
	// Box opens sealed signing keys; nil when nothing seals them.
	Box *seal.Box

	// Session returns an error for a session that cannot be used. name is what
	// follows "session/" in its key.
	Session func(name string, value []byte) error

	// SessionVersion is the schema version that Session knows.
	SessionVersion int
}

// record returns an error for a record that the program could not have written.
// It ends in what there is to do.
func (c Checker) record(key string, value []byte) error {
	_, k, name := split(key)
	var err error
	var known int
	switch k {
	case kindKeys:
		known, err = token.RecordVersion, token.CheckKeys(key, value, c.Box)
	case kindClient:
		known, err = client.RecordVersion, client.CheckRecord(name, value)
	case kindAdded:
		known, err = client.AddedVersion, client.CheckAdded(name, value)
	case kindDoc:
		known, err = client.DocumentVersion, client.CheckDocument(name, value)
	case kindUsed:
		known, err = client.AssertionVersion, client.CheckAssertion(name, value)
	case kindToken:
		known, err = apitoken.RecordVersion, apitoken.CheckRecord(name, value)
	case kindMCP:
		known, err = mcpsession.RecordVersion, mcpsession.CheckRecord(name, value)
	case kindGrant:
		known, err = grant.RecordVersion, grant.CheckRecord(name, value)
	case kindLimit:
		known, err = limit.RecordVersion, limit.CheckRecord(name, value)
	case kindDevice:
		known, err = grant.DeviceVersion, grant.CheckDevice(name, value)
	case kindLent:
		known, err = delegation.RecordVersion, delegation.CheckRecord(name, value)
	case kindFactor:
		known, err = factor.RecordVersion, factor.CheckRecord(name, value)
	case kindSession:
		known, err = c.SessionVersion, c.Session(name, value)
	case kindSignIn:
		known, err = signInVersion, checkSignIn(name, value)
	case kindRevoked:
		known, err = token.RemovalVersion, checkRevoked(name, value)
	default:
		return errors.New("the key is of no known kind; a newer version of this program may have written it, or another program")
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrOtherKey) {
		return err // it tells what to do
	}
	return fmt.Errorf("%w; %s", err, advice(k, versionOf(value) > known))
}

// advice is what to do about a record.
func advice(k kind, newer bool) string {
	switch {
	case newer:
		return "a newer version of this program has written it: go on with that version"
	case k == kindKeys:
		return "restore a backup: without these keys, all tokens and sign-ins of the issuer are lost"
	case k == kindDoc:
		return "it does no harm while the document can be fetched; otherwise the app has to be connected again"
	case k == kindUsed:
		return "it does no harm after an hour; until then, an assertion could be used twice"
	case k == kindToken:
		return "restore a backup, or make a new token of that name: this one is refused"
	case k == kindDevice:
		return "it does no harm: the device asks for a new code"
	case k == kindMCP:
		return "it does no harm: the client begins another session of MCP"
	case k == kindLimit:
		return "it does no harm: a rate limit begins anew"
	case k == kindSignIn:
		return "it does no harm after ten minutes; until then, a sign-in could be finished twice by the browser that began it"
	case k == kindAdded:
		return "restore a backup, or add the client again"
	case k == kindFactor:
		return "restore a backup, or do without it: 'caddy mcp-auth user reset-factors' removes it, and the user signs in with the password alone"
	case k == kindLent:
		return "it does no harm: the person signs in at the provider once more"
	case k == kindSession:
		return "it does no harm: the person signs in once more"
	case k == kindRevoked:
		return "restore a backup: what was revoked may be good until its access token expires"
	default:
		return "restore a backup, or do without it: the app has to be connected again"
	}
}

// versionOf returns the schema version that a record names, or zero.
func versionOf(value []byte) int {
	var v struct {
		Version int `json:"v"`
	}
	if json.Unmarshal(value, &v) != nil {
		return 0
	}
	return v.Version
}

// checkRevoked also takes the ids that tokens of service accounts have in the
// place of a grant's, and clients.
func checkRevoked(name string, value []byte) error {
	if token.IsRemoval(name) {
		return token.CheckRemoval(value)
	}
	accounts := len(name) == len(rand.Text()) && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
	if !accounts && grant.CheckID(name) != nil {
		return errors.New("the key is not that of a revocation")
	}
	return token.CheckRevoked(value)
}

// signInVersion is the schema version of the marks of finished sign-ins.
const signInVersion = 1

// checkSignIn returns an error for a mark of a finished sign-in that could not
// have been written.
func checkSignIn(name string, value []byte) error {
	if len(name) != len(rand.Text()) || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return errors.New("the key is not that of a sign-in")
	}
	if versionOf(value) != signInVersion {
		return fmt.Errorf("the mark of a sign-in has version %d; this program reads version %d", versionOf(value), signInVersion)
	}
	return nil
}
