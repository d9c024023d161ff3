package grant

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// recordVersion is the schema version of stored grants.
const recordVersion = 1

// Grant is one consent: a user lets a client use a resource.
type Grant struct {
	Version int    `json:"v"`
	ID      string `json:"id"`

	// Who allowed it, to whom, for what.
	User     login.Identity `json:"user"`
	ClientID string         `json:"client_id"`
	Resource string         `json:"resource"` // the audience of access tokens
	Scopes   oauth.Scopes   `json:"scopes"`

	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used,omitzero"` // the last refresh
	Expires  time.Time `json:"expires"`
	Revoked  time.Time `json:"revoked,omitzero"`
	Denied   bool      `json:"denied,omitempty"` // the user said no; the record keeps the request from being asked again

	Code    codeState    `json:"code"`
	Refresh refreshState `json:"refresh"`

	StepUps []stepUp `json:"step_ups,omitempty"`
}

// codeState is the life of the authorization code. A used code is marked, not
// deleted, so that its replay is noticed.
type codeState struct {
	Hash            []byte    `json:"hash,omitempty"`
	Expires         time.Time `json:"expires,omitzero"`
	Used            bool      `json:"used,omitempty"`
	RedirectURI     string    `json:"redirect_uri,omitempty"`
	Challenge       string    `json:"challenge,omitempty"`
	ChallengeMethod string    `json:"challenge_method,omitempty"`
}

// refreshState is the life of the refresh token. Generations count from 1.
type refreshState struct {
	Generation uint32    `json:"generation,omitempty"`
	Hash       []byte    `json:"hash,omitempty"`
	Previous   []byte    `json:"previous,omitempty"` // the hash before the last rotation
	Rotated    time.Time `json:"rotated,omitzero"`
}

// Active reports whether the grant can still yield tokens.
func (g *Grant) Active(now time.Time) bool { return g.alive(now) && g.Code.Used }

// alive reports whether the grant is active, or will be once its code is redeemed.
func (g *Grant) alive(now time.Time) bool {
	return g.Revoked.IsZero() && !g.Denied && now.Before(g.Expires)
}

func decode(data []byte) (*Grant, error) {
	g := &Grant{}
	if err := json.Unmarshal(data, g); err != nil {
		return nil, fmt.Errorf("stored grant cannot be read: %w", err)
	}
	if g.Version != recordVersion {
		return nil, fmt.Errorf("stored grant has version %d; this program reads version %d", g.Version, recordVersion)
	}
	return g, nil
}
