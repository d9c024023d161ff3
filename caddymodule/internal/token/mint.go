package token

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func newSigner(id string, private *ecdsa.PrivateKey, typ jose.ContentType) (jose.Signer, error) {
	return jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: id}},
		(&jose.SignerOptions{}).WithType(typ))
}

// Mint signs an access token (RFC 9068) that is good for lifetime from now on.
// It fills in the times and the token's id.
func (k *Keys) Mint(claims oauth.AccessTokenClaims, lifetime time.Duration) (string, error) {
	now := time.Now()
	claims.IssuedAt = now.Unix()
	claims.Expires = now.Add(lifetime).Unix()
	claims.ID = rand.Text()
	return sign(k.current.Load().signerAt(now), claims)
}

// Sign makes a JWT of another type than that of access tokens, with the key that
// signs at the moment. It must expire before the shortest-lived access token does,
// since keys are kept as long as those need them.
func (k *Keys) Sign(typ string, claims any) (string, error) {
	key := k.current.Load().signerAt(time.Now())
	signer, err := newSigner(key.id, key.private, jose.ContentType(typ))
	if err != nil {
		return "", err
	}
	return sign(signer, claims)
}

func sign(signer jose.Signer, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
