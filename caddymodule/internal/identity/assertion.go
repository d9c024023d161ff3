package identity

import (
	"sync"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Type is the "typ" of the header of an assertion. It keeps assertions from being
// taken for access tokens, and the other way round (RFC 8725 section 3.11).
const Type = "mcp-identity+jwt"

// lifetime is how long an assertion is good for. It is used for half of that, so
// one that arrives has the other half left.
const lifetime = 5 * time.Minute

// claims are those of an assertion. The names are those of access tokens (RFC
// 9068).
type claims struct {
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"`
	Subject  string   `json:"sub"`
	ClientID string   `json:"client_id,omitempty"`
	Scope    string   `json:"scope,omitempty"`
	Email    string   `json:"email,omitempty"`
	Name     string   `json:"name,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	IssuedAt int64    `json:"iat"` // seconds since 1970
	Expires  int64    `json:"exp"` // seconds since 1970

	// TokenIssuer is the authorization server that knows the subject, when it
	// is somebody else's: two of them may have the same subject.
	TokenIssuer string `json:"token_issuer,omitempty"`
}

// Signer makes the assertions for one upstream. It is safe for concurrent use.
type Signer struct {
	keys             *token.Keys
	issuer, audience string
}

// NewSigner returns a signer whose assertions are by the issuer and for the
// audience. The keys are those of the issuer.
func NewSigner(keys *token.Keys, issuer, audience string) *Signer {
	return &Signer{keys, issuer, audience}
}

// Kept holds the assertions that were made about the bearer of a token, by their
// audience. It belongs to the token and is forgotten together with it. The zero
// Kept is empty.
type Kept struct {
	mu sync.Mutex
	by map[string]kept
}

type kept struct {
	raw    string
	issuer string
	until  time.Time
	keys   uint64 // the generation of the keys
}

// Assert returns an assertion about the bearer of a token. A signature costs far
// more than all else that is done for a request, so there is one for each token
// and half of a lifetime.
func (s *Signer) Assert(c *token.Claims, k *Kept) (string, error) {
	now, generation := time.Now(), s.keys.Generation()
	k.mu.Lock()
	defer k.mu.Unlock()
	if last, ok := k.by[s.audience]; ok && now.Before(last.until) && last.keys == generation && last.issuer == s.issuer {
		return last.raw, nil
	}
	raw, err := s.sign(c, now)
	if err != nil {
		return "", err
	}
	if k.by == nil {
		k.by = make(map[string]kept, 1)
	}
	for audience, old := range k.by {
		if !now.Before(old.until) {
			delete(k.by, audience) // of a configuration that is no more
		}
	}
	k.by[s.audience] = kept{raw, s.issuer, now.Add(lifetime / 2), generation}
	return raw, nil
}

func (s *Signer) sign(c *token.Claims, now time.Time) (string, error) {
	out := claims{
		Issuer: s.issuer, Audience: s.audience, Subject: c.Subject, ClientID: c.ClientID, Scope: c.Scope,
		Email: c.Email, Name: c.Name, Groups: c.Groups, IssuedAt: now.Unix(), Expires: now.Add(lifetime).Unix(),
	}
	if c.Issuer != s.issuer {
		out.TokenIssuer = c.Issuer
	}
	return s.keys.Sign(Type, out)
}
