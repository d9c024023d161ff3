package jwks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// FuzzParse looks for keys that would be used and are none that everyone may know,
// or too weak.
func FuzzParse(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range []jose.JSONWebKey{{Key: private.Public(), KeyID: "1"}, {Key: private, KeyID: "2"}, {Key: []byte("secret"), KeyID: "3"}} {
		raw, err := json.Marshal(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(`{"keys":[` + string(raw) + `]}`))
	}
	f.Add([]byte(`{"keys":[null,1,{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := Parse(data)
		if (err == nil) == (len(keys) == 0) {
			t.Errorf("%d keys and %v", len(keys), err)
		}
		for _, key := range keys {
			if !key.IsPublic() || key.Use != "" && key.Use != "sig" || key.print == "" {
				t.Errorf("a key that is of no use: %+v", key)
			}
			if public, ok := key.Key.(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
				t.Errorf("an RSA key of %d bits", public.N.BitLen())
			}
		}
	})
}
