package token

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func newSigner(id string, private *ecdsa.PrivateKey) (jose.Signer, error) {
	return jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: id}},
		(&jose.SignerOptions{}).WithType(oauth.AccessTokenType))
}

// Mint signs an access token (RFC 9068) that is good for lifetime from now on.
// It fills in the times and the token's id.
func (k *Keys) Mint(claims oauth.AccessTokenClaims, lifetime time.Duration) (string, error) {
	now := time.Now()
	claims.IssuedAt = now.Unix()
	claims.Expires = now.Add(lifetime).Unix()
	claims.ID = rand.Text()
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := k.current.Load().signerAt(now).Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
