package client

import (
	"crypto/sha256"
	"errors"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// RecordVersion is the schema version of stored registrations.
const RecordVersion = recordVersion

// CheckRecord returns an error for a stored registration that this package could
// not have written at a key, of which name is what follows "client/".
func CheckRecord(name string, value []byte) error {
	if key, ok := (&Directory{}).key(idPrefix + name); !ok || key != name {
		return errors.New("the key is not that of a client")
	}
	rec, err := decode(value)
	if err != nil {
		return err
	}
	secret := rec.Metadata.TokenEndpointAuthMethod != oauth.AuthNone
	switch {
	case rec.Issued.IsZero() || rec.Metadata.TokenEndpointAuthMethod == "":
		return errors.New("stored client is incomplete")
	case secret && len(rec.SecretHash) != sha256.Size || !secret && rec.SecretHash != nil:
		return errors.New("stored client has a secret that does not fit how it authenticates")
	case rec.ManagementHash != nil && len(rec.ManagementHash) != sha256.Size:
		return errors.New("stored client has a registration access token that is none")
	}
	return nil
}
