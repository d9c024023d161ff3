// This file implements the state of RFC 8628 (OAuth 2.0 Device Authorization
// Grant): what a device asks for, until a person has decided and the device has
// its grant.

package grant

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// DeviceLifetime is how long a device waits for a person (section 3.2).
const DeviceLifetime = 10 * time.Minute

// DeviceInterval is how many seconds a device waits between two polls (section
// 3.2). One that asks earlier waits slowerBy longer from then on (section 3.5). The
// wait that is enforced stops to grow at slowest: a device that never listens
// cannot make the store write for each of its polls.
const (
	DeviceInterval = 5
	slowerBy       = 5
	slowest        = 60

	// pollSlack is how much earlier a poll may come: networks shake.
	pollSlack = time.Second
)

// deviceVersion is the schema version of stored requests of devices.
const deviceVersion = 1

// DeviceRequest is what a device asks for, and what became of it. It is one
// record for both of the codes: the user code leads to its key by a MAC, and the
// device code has that MAC in it.
type DeviceRequest struct {
	Version int    `json:"v"`
	Hash    []byte `json:"hash"` // of the secret in the device code

	ClientID string       `json:"client_id"`
	Resource string       `json:"resource"`
	Scopes   oauth.Scopes `json:"scopes"` // those that were asked for; then those that were allowed
	Expires  time.Time    `json:"expires"`

	Polled   time.Time `json:"polled,omitzero"` // when a poll last came in time
	Interval int       `json:"interval"`        // seconds between two polls

	// The decision: the user who agrees, or a refusal.
	User   login.Identity `json:"user,omitzero"`
	Denied bool           `json:"denied,omitempty"`
}

// ID tells a request from all others, also from a later one with the same user
// code.
func (d *DeviceRequest) ID() string { return base64.RawURLEncoding.EncodeToString(d.Hash) }

func (d *DeviceRequest) allowed() bool { return d.User.Subject != "" }

// ErrNoDevice says that no device waits with a user code.
var ErrNoDevice = errors.New("no device waits with this code")

// errTaken says that another device has the user code.
var errTaken = errors.New("the user code is in use")

// StartDevice lets a device wait for a person, and returns the two codes. The
// caller sees to it that strangers do not fill the store.
func (s *Service) StartDevice(ctx context.Context, d DeviceRequest) (deviceCode string, userCode oauth.UserCode, err error) {
	d.Version, d.Interval = deviceVersion, DeviceInterval
	d.Expires = time.Now().Add(DeviceLifetime).Truncate(time.Second)
	// There are so many codes that even a second try is rare.
	for range 3 {
		userCode = s.newUserCode()
		h := s.deviceHandle(userCode)
		rand.Read(h.secret[:])
		h.generation = uint32(d.Expires.Unix()) // #nosec G115 -- good until 2106
		d.Hash = h.hash()
		err = s.store.Update(ctx, s.deviceKey(h), func(r store.Record) (store.Record, error) {
			if r.Exists() {
				return r, errTaken
			}
			return d.encode()
		})
		if !errors.Is(err, errTaken) {
			return s.codec.encode(h), userCode, err
		}
	}
	return "", "", err
}

// deviceHandle is a handle that leads to the request with a user code.
func (s *Service) deviceHandle(code oauth.UserCode) handle {
	h := handle{kind: kindDevice}
	copy(h.id[userLength:], s.codec.derive("user code", []byte(code)))
	return h
}

func (s *Service) deviceKey(h handle) string { return s.devices + randomText(h.id[userLength:]) }

func (d *DeviceRequest) encode() (store.Record, error) {
	data, err := json.Marshal(d)
	return store.Record{Value: data, Expires: d.Expires}, err
}

func decodeDevice(data []byte) (*DeviceRequest, error) {
	d := &DeviceRequest{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("stored request of a device cannot be read: %w", err)
	}
	if d.Version != deviceVersion {
		return nil, fmt.Errorf("stored request of a device has version %d; this program reads version %d", d.Version, deviceVersion)
	}
	return d, nil
}

// FindDevice returns the request that waits with a user code. It is ErrNoDevice
// when there is none and ErrDecided when somebody has answered it.
func (s *Service) FindDevice(ctx context.Context, code oauth.UserCode) (*DeviceRequest, error) {
	r, err := s.store.Get(ctx, s.deviceKey(s.deviceHandle(code)))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoDevice
	}
	if err != nil {
		return nil, err
	}
	d, err := decodeDevice(r.Value)
	if err != nil {
		return nil, err
	}
	if d.Denied || d.allowed() {
		return nil, ErrDecided
	}
	return d, nil
}

// AllowDevice records that the user of a consent agrees to the request with its
// ID. A form that was sent twice is no error.
func (s *Service) AllowDevice(ctx context.Context, code oauth.UserCode, c Consent) error {
	return s.decideDevice(ctx, code, c.Request, func(d *DeviceRequest) error {
		switch {
		case d.Denied, d.allowed() && d.User.Subject != c.User.Subject:
			return ErrDecided
		case !d.allowed():
			d.User, d.Scopes = c.User, c.Scopes
		}
		return nil
	})
}

// DenyDevice records that somebody refuses a request.
func (s *Service) DenyDevice(ctx context.Context, code oauth.UserCode, id string) error {
	return s.decideDevice(ctx, code, id, func(d *DeviceRequest) error {
		if d.allowed() {
			return ErrDecided
		}
		d.Denied = true
		return nil
	})
}

// TakeBackDevices denies what a user has allowed devices that have not come for it
// yet. It reads the requests of all devices, so it is for operators. A record that
// cannot be read is an error, as it may be one of them, but keeps no other from being
// taken back.
func (s *Service) TakeBackDevices(ctx context.Context, subject string) error {
	var unreadable error
	for e, err := range s.store.List(ctx, s.devices) {
		if err != nil {
			return err
		}
		var bad error
		err = s.store.Update(ctx, e.Key, func(r store.Record) (store.Record, error) {
			bad = nil
			if !r.Exists() {
				return r, errNotTheirs
			}
			d, err := decodeDevice(r.Value)
			if bad = err; err != nil || d.User.Subject != subject {
				return r, errNotTheirs
			}
			d.User, d.Denied = login.Identity{}, true
			return d.encode()
		})
		if err != nil && !errors.Is(err, errNotTheirs) {
			return err
		}
		if bad != nil {
			unreadable = bad
		}
	}
	return unreadable
}

func (s *Service) decideDevice(ctx context.Context, code oauth.UserCode, id string, fn func(*DeviceRequest) error) error {
	return s.store.Update(ctx, s.deviceKey(s.deviceHandle(code)), func(r store.Record) (store.Record, error) {
		if !r.Exists() {
			return r, ErrDecided
		}
		d, err := decodeDevice(r.Value)
		if err == nil && d.ID() != id {
			err = ErrDecided
		}
		if err == nil {
			err = fn(d)
		}
		if err != nil {
			return r, err
		}
		return d.encode()
	})
}

// IsDeviceCode reports whether this server has made a device code that is still
// good. It does not look at the store.
func (s *Service) IsDeviceCode(code string) bool {
	h, ok := s.codec.decode(kindDevice, code)
	return ok && !h.over(time.Now())
}

// over reports whether a device code has ended.
func (h handle) over(now time.Time) bool { return !now.Before(time.Unix(int64(h.generation), 0)) }

// DeviceRedemption is a device code on its way to become tokens.
type DeviceRedemption struct {
	DeviceCode string
	ClientID   string
	Resource   string // "" for the one of the request

	// Accept has the last word, as in Redemption.
	Accept func(*Grant) error
}

// RedeemDevice answers a poll (section 3.4): with the grant and its first refresh
// token when the person has agreed, else with a refusal.
//
// An answer that was lost on the way can be had again: for RefreshGrace the same
// device code gets the same refresh token, as long as that has not been used.
// After it, a second redemption revokes the grant. Of polls at the same time one
// counts, and the others are told to slow down.
func (s *Service) RedeemDevice(ctx context.Context, r DeviceRedemption) (*Grant, string, error) {
	h, ok := s.codec.decode(kindDevice, r.DeviceCode)
	if !ok {
		return nil, "", errBadDevice
	}
	if h.over(time.Now()) {
		return nil, "", oauth.ExpiredToken()
	}
	d, err := s.poll(ctx, h, r)
	if err != nil {
		return nil, "", err
	}
	return s.grantDevice(ctx, h, d, r.Accept)
}

// poll returns the request of a device code that somebody has agreed to. It is
// one atomic update of the request, in which only one of several polls is on
// time.
func (s *Service) poll(ctx context.Context, h handle, r DeviceRedemption) (*DeviceRequest, error) {
	var out *DeviceRequest
	var refusal error
	err := s.store.Update(ctx, s.deviceKey(h), func(rec store.Record) (store.Record, error) {
		out, refusal = nil, nil
		if !rec.Exists() {
			return rec, oauth.ExpiredToken()
		}
		d, err := decodeDevice(rec.Value)
		if err == nil {
			err = d.checkPoll(h, r)
		}
		if err != nil {
			return rec, err
		}
		now := time.Now()
		switch early := now.Sub(d.Polled) < time.Duration(d.Interval)*time.Second-pollSlack; {
		case early && d.Interval >= slowest:
			return rec, oauth.SlowDown()
		case early:
			d.Interval += slowerBy
			refusal = oauth.SlowDown()
		default:
			d.Polled = now
			if !d.allowed() {
				refusal = oauth.AuthorizationPending()
			}
		}
		out = d
		return d.encode()
	})
	if err != nil {
		return nil, err
	}
	return out, refusal
}

// checkPoll holds what must be right before a poll counts.
func (d *DeviceRequest) checkPoll(h handle, r DeviceRedemption) error {
	switch {
	case subtle.ConstantTimeCompare(h.hash(), d.Hash) != 1, d.ClientID != r.ClientID:
		return errBadDevice
	case r.Resource != "" && r.Resource != d.Resource:
		return oauth.InvalidTarget("resource is not the one that the device asked for")
	case d.Denied:
		return oauth.AccessDenied()
	}
	return nil
}

// grantDevice makes the grant of a request that was agreed to. The device code
// stands in it for the authorization code, which is used at once; its id and its
// refresh token are derived, so that whoever comes twice meets the same record.
func (s *Service) grantDevice(ctx context.Context, h handle, d *DeviceRequest, accept func(*Grant) error) (*Grant, string, error) {
	own := handle{kind: kindCode, secret: h.secret}
	copy(own.id[:userLength], s.userPart(d.User.Subject))
	copy(own.id[userLength:], s.codec.derive("device grant id", h.body()))
	refresh := s.codec.successor(own)
	begin := func() (*Grant, time.Time, error) {
		return &Grant{
			Version: recordVersion, ID: idText(own.id),
			User: d.User, ClientID: d.ClientID, Resource: d.Resource, Scopes: d.Scopes, Created: time.Now(),
			Code: codeState{Hash: own.hash(), Expires: d.Expires},
		}, d.Expires.Add(time.Minute), nil
	}
	g, err := s.changeOrMake(ctx, s.key(own), begin, func(g *Grant, now time.Time) error {
		if !g.Revoked.IsZero() {
			return errRevoked
		}
		if g.Code.Used && (g.Refresh.Generation != 1 || now.Sub(g.Refresh.Rotated) > s.cfg.RefreshGrace) {
			g.Revoked = now
			return errRepeated
		}
		if err := g.accepted(accept); err != nil {
			return err
		}
		if !g.Code.Used {
			g.redeemed(refresh, now, s.cfg)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return g, s.codec.encode(refresh), nil
}
