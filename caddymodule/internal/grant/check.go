package grant

import (
	"crypto/sha256"
	"errors"
	"strings"
)

// RecordVersion is the schema version of stored grants.
const RecordVersion = recordVersion

// CheckRecord returns an error for a stored grant that this package could not
// have written at a key, of which name is what follows "grant/".
func CheckRecord(name string, value []byte) error {
	user, random, _ := strings.Cut(name, "/")
	if !isPart(user, userLength) || !isPart(random, randomLength) {
		return errors.New("the key is not that of a grant")
	}
	g, err := decode(value)
	if err != nil {
		return err
	}
	switch {
	case g.ID != user+random:
		return errors.New("stored grant has an id that does not match its key")
	case g.User.Subject == "" || g.ClientID == "" || g.Created.IsZero() || g.Expires.IsZero():
		return errors.New("stored grant is incomplete")
	case g.Denied:
		return nil
	case len(g.Code.Hash) != sha256.Size || g.Resource == "":
		return errors.New("stored grant is incomplete")
	case g.Code.Used && (g.Refresh.Generation == 0 || len(g.Refresh.Hash) != sha256.Size):
		return errors.New("stored grant has a used code and no refresh token")
	}
	return nil
}

// DeviceVersion is the schema version of stored requests of devices.
const DeviceVersion = deviceVersion

// CheckDevice returns an error for a stored request of a device that this package
// could not have written at a key, of which name is what follows "device/".
func CheckDevice(name string, value []byte) error {
	if !isPart(name, randomLength) {
		return errors.New("the key is not that of a request of a device")
	}
	d, err := decodeDevice(value)
	if err != nil {
		return err
	}
	if len(d.Hash) != sha256.Size || d.ClientID == "" || d.Resource == "" || len(d.Scopes) == 0 || d.Expires.IsZero() || d.Interval <= 0 {
		return errors.New("stored request of a device is incomplete")
	}
	return nil
}

// CheckID returns an error for what is not the id of a grant as tokens carry it.
func CheckID(id string) error {
	if len(id) != idTextLength || !isPart(id[:userTextLength], userLength) || !isPart(id[userTextLength:], randomLength) {
		return errors.New("not the id of a grant")
	}
	return nil
}

// isPart reports whether text is how bytes of a length stand in ids.
func isPart(text string, length int) bool {
	raw, err := idEncoding.DecodeString(strings.ToUpper(text))
	return err == nil && len(raw) == length && userText(raw) == text
}
