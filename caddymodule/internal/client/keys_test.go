package client_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestKeysThatAreRefused(t *testing.T) {
	key := newSigner(t, "1")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Trim(strings.TrimPrefix(jwks(t, key), `{"keys":`), "[]}") + "}"
	secret, err := json.Marshal(jose.JSONWebKey{Key: key.private, KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	small, err := json.Marshal(jose.JSONWebKey{Key: weak.Public(), KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := client.ParseKeys(fmt.Appendf(nil, `{"keys":[{"kty":"XYZ"},%s,%s]}`, good, small)); err != nil || len(keys) != 1 {
		t.Errorf("a key beside others: %v, %v", keys, err)
	}
	for rule, body := range map[string]string{
		"no JSON":               `x`,
		"no keys":               `{}`,
		"an empty list":         `{"keys":[]}`,
		"a key that is a list":  `{"keys":[[]]}`,
		"a private key":         `{"keys":[` + good + `,` + string(secret) + `]}`,
		"a shared secret":       `{"keys":[` + good + `,{"kty":"oct","k":"c2VjcmV0"}]}`,
		"a short RSA key":       `{"keys":[` + string(small) + `]}`,
		"keys to encrypt with":  `{"keys":[` + strings.Replace(good, `"sig"`, `"enc"`, 1) + `]}`,
		"a point off the curve": `{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`,
		"too many":              `{"keys":[` + strings.Repeat(good+",", 16) + good + `]}`,
	} {
		if keys, err := client.ParseKeys([]byte(body)); err == nil {
			t.Errorf("%s: %v", rule, keys)
		}
	}
}

func TestKeysOnTheWeb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, next := newSigner(t, "1"), newSigner(t, "2")
		n := newNode(t, newWeb(), nil)
		n.web.put(documentID, documentBody(t, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": jwksURI}))
		c := n.touched(t)
		err := n.authenticate(t, c, key.sign(t, claims(documentID, nil)))
		if _, refusal := errors.AsType[*oauth.Error](err); err == nil || refusal {
			t.Errorf("the keys cannot be had: %v, want an error that does not say the client is wrong", err)
		}
		n.web.put(jwksURI, jwks(t, key))
		time.Sleep(time.Minute)
		for range 5 {
			if err := n.authenticate(t, c, key.sign(t, claims(documentID, nil))); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.web.count(jwksURI); got != 2 {
			t.Errorf("%d fetches for five assertions", got)
		}
		// A key that is not known may be new, and is looked for once a minute.
		for range 5 {
			wantInvalidClient(t, "a key that is not published", n.authenticate(t, c, next.sign(t, claims(documentID, nil))))
		}
		n.web.put(jwksURI, jwks(t, key, next))
		time.Sleep(time.Minute)
		if err := n.authenticate(t, c, next.sign(t, claims(documentID, nil))); err != nil {
			t.Errorf("the new key: %v", err)
		}
		if got := n.web.count(jwksURI); got != 3 {
			t.Errorf("%d fetches, want one more", got)
		}
		// The last keys are good for a while when they cannot be fetched.
		n.web.remove(jwksURI)
		time.Sleep(15 * time.Minute)
		if err := n.authenticate(t, c, next.sign(t, claims(documentID, nil))); err != nil {
			t.Errorf("while the keys cannot be fetched: %v", err)
		}
	})
}

func TestPlacesOfKeysInDocumentsAreGuarded(t *testing.T) {
	for _, uri := range []string{"http://app.example/jwks", "https://localhost/jwks", "https://10.0.0.1/jwks", "https://u@app.example/jwks", "file:///etc/passwd"} {
		key := newSigner(t, "1")
		n := newNode(t, newWeb(), nil)
		n.web.put(uri, jwks(t, key))
		n.web.put(documentID, documentBody(t, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": uri}))
		if err := n.authenticate(t, n.touched(t), key.sign(t, claims(documentID, nil))); err == nil || n.web.count(uri) != 0 {
			t.Errorf("%s: %v after %d fetches", uri, err, n.web.count(uri))
		}
	}
}

func TestTheOperatorPlacesKeysWhereItLikes(t *testing.T) {
	key := newSigner(t, "1")
	n := newNode(t, newWeb(), nil)
	const uri = "https://10.0.0.1:8443/"
	n.web.put(uri, jwks(t, key))
	if err := n.authenticate(t, configured("robot", uri), key.sign(t, claims("robot", nil))); err != nil {
		t.Error(err)
	}
}
