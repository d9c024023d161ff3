package token

import (
	"errors"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
)

// RecordVersion is the schema version of stored signing keys.
const RecordVersion = recordVersion

// CheckKeys returns an error for stored signing keys that cannot be used. key is
// the whole key of the record, which a sealed one is bound to.
func CheckKeys(key string, value []byte, box *seal.Box) error {
	_, _, err := (&Keys{key: key}).decode(value, box)
	return err
}

// CheckRevoked returns an error for the record of a revoked grant that this
// package could not have written.
func CheckRevoked(value []byte) error {
	if len(value) != 0 {
		return errors.New("stored revocation has a value")
	}
	return nil
}
