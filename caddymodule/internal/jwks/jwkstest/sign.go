// Package jwkstest signs the statements of tests.
package jwkstest

import (
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Sign returns claims as a JWT in its compact form, signed with a key by the
// algorithm that it names. Claims are whatever JSON can be made of, or bytes that
// are signed as they are. The header has the algorithm and the key's id, and
// whatever else is given.
func Sign(t testing.TB, key jose.JSONWebKey, header map[string]any, claims any) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, value := range header {
		options.ExtraHeaders[jose.HeaderKey(name)] = value
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, raw := claims.([]byte)
	if !raw {
		if payload, err = json.Marshal(claims); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}
