package authserver

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// SessionVersion is the schema version of stored sessions.
const SessionVersion = sessionVersion

// CheckSession returns an error for a stored session that this package could not
// have written at a key, of which name is what follows "session/".
func CheckSession(name string, value []byte) error {
	user, hash, _ := strings.Cut(name, "/")
	if !isEncoded32(user, 10) || !isEncoded32(hash, sha256.Size) {
		return errors.New("the key is not that of a session")
	}
	var s session
	if err := json.Unmarshal(value, &s); err != nil {
		return fmt.Errorf("stored session cannot be read: %w", err)
	}
	switch {
	case s.Version != sessionVersion:
		return fmt.Errorf("stored session has version %d; this program reads version %d", s.Version, sessionVersion)
	case s.User.Subject == "" || s.Since.IsZero():
		return errors.New("stored session is incomplete")
	}
	return nil
}

// isEncoded32 reports whether text is how encode32 writes bytes of a length.
func isEncoded32(text string, length int) bool {
	raw, err := lowerBase32.DecodeString(strings.ToUpper(text))
	return err == nil && len(raw) == length && encode32(raw) == text
}
