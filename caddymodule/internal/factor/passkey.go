// WebAuthn Level 3: passkeys, which are client-side discoverable credentials with
// user verification.

package factor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// MaxPasskeys is how many passkeys a user can have.
const MaxPasskeys = 10

// Bounds of what is kept of one.
const (
	maxCredentialID = 1023 // bytes (WebAuthn section 7.1 step 25)
	maxPublicKey    = 2048 // bytes
)

// parameters are the algorithms for new passkeys: Ed25519, ES256 and RS256.
var parameters = webauthn.CredentialParametersRecommendedL3()

// relyingParty returns what checks passkeys, or nil where browsers have none: they
// belong to a name, and need https except on this computer.
func relyingParty(origin, name string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	host := u.Hostname()
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if _, err := netip.ParseAddr(host); err == nil || u.Scheme != "https" && !local {
		return nil, nil
	}
	return webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: name, RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		// Password managers tell things that nobody has asked for.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
}

// HasPasskeys reports whether browsers can have passkeys for the origin.
func (s *Service) HasPasskeys() bool { return s.rp != nil }

// Ceremony is a question to a browser about a passkey.
type Ceremony struct {
	Options   []byte // JSON for navigator.credentials
	Challenge string // to be kept until the answer comes, as is
	Standing  string // of a question for a new passkey: those that there were
}

func newCeremony(options any, session *webauthn.SessionData, err error) (Ceremony, error) {
	if err != nil {
		return Ceremony{}, err
	}
	data, err := json.Marshal(options)
	return Ceremony{Options: data, Challenge: session.Challenge}, err
}

// session is what the library wants to know of the question again.
func (s *Service) session(challenge string) webauthn.SessionData {
	return webauthn.SessionData{
		Challenge: challenge, RelyingPartyID: s.rp.Config.RPID, UserVerification: protocol.VerificationRequired,
	}
}

// holder is a user in the words of the library.
type holder struct {
	part     string
	name     string
	passkeys []passkey
}

// WebAuthnID implements webauthn.User.
func (h holder) WebAuthnID() []byte { return []byte(h.part) }

// WebAuthnName implements webauthn.User.
func (h holder) WebAuthnName() string { return h.name }

// WebAuthnDisplayName implements webauthn.User.
func (h holder) WebAuthnDisplayName() string { return h.name }

// WebAuthnCredentials implements webauthn.User.
func (h holder) WebAuthnCredentials() []webauthn.Credential {
	var out []webauthn.Credential
	for _, p := range h.passkeys {
		out = append(out, webauthn.Credential{
			ID: p.ID, PublicKey: p.PublicKey, Authenticator: webauthn.Authenticator{SignCount: p.Count},
			Flags: webauthn.CredentialFlags{UserPresent: true, UserVerified: true, BackupEligible: p.Backup},
		})
	}
	return out
}

// BeginAdd asks for a new passkey of a user.
func (s *Service) BeginAdd(ctx context.Context, user login.Identity) (Ceremony, error) {
	rec, err := s.load(ctx, s.part(user.Subject))
	if err != nil {
		return Ceremony{}, err
	}
	h := holder{s.part(user.Subject), user.Subject, rec.current(user.Stamp)}
	if len(h.passkeys) >= MaxPasskeys {
		return Ceremony{}, ErrFull
	}
	options, session, err := s.rp.BeginRegistration(h, webauthn.WithCredentialParameters(parameters),
		webauthn.WithExclusions(webauthn.Credentials(h.WebAuthnCredentials()).CredentialDescriptors()))
	asked, err := newCeremony(options, session, err)
	asked.Standing = standing(h.passkeys)
	return asked, err
}

// standing stands for the passkeys of a user at a moment.
func standing(passkeys []passkey) string {
	all := sha256.New()
	for _, p := range passkeys {
		id := sha256.Sum256(p.ID)
		all.Write(id[:])
	}
	return base64.RawURLEncoding.EncodeToString(all.Sum(nil))
}

// FinishAdd adds the passkey that a browser has made for a question, of which the
// challenge and the standing count. Adding the same one again changes nothing. When
// another one was added or removed since the question was asked, the answer is
// refused: authenticators know by the question which passkeys there are, and one
// that is asked twice at once would make two of which it keeps one, or two could
// come in answer to one question.
func (s *Service) FinishAdd(ctx context.Context, user login.Identity, asked Ceremony, name string, answer []byte) error {
	fresh, err := s.made(user, asked.Challenge, answer)
	if err != nil {
		return err
	}
	fresh.Name = name
	return s.change(ctx, user.Subject, func(rec *record) (bool, error) {
		rec.Passkeys = rec.current(user.Stamp)
		switch i := rec.find(fresh.ID); {
		case i >= 0 && bytes.Equal(rec.Passkeys[i].PublicKey, fresh.PublicKey):
			return false, nil
		case i >= 0:
			return false, fmt.Errorf("%w: there is one with its id", ErrDenied)
		case len(rec.Passkeys) >= MaxPasskeys:
			return false, ErrFull
		case standing(rec.Passkeys) != asked.Standing:
			return false, fmt.Errorf("%w: others were added or removed since it was asked for", ErrDenied)
		}
		rec.Passkeys = append(rec.Passkeys, fresh)
		return true, nil
	})
}

// made returns the passkey in an answer, if it was made for the challenge.
func (s *Service) made(user login.Identity, challenge string, answer []byte) (passkey, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return passkey{}, denied(err)
	}
	h := holder{part: s.part(user.Subject)}
	session := s.session(challenge)
	session.UserID, session.CredParams = h.WebAuthnID(), parameters
	made, err := s.rp.CreateCredential(h, session, parsed)
	if err != nil {
		return passkey{}, denied(err)
	}
	if len(made.ID) > maxCredentialID || len(made.PublicKey) > maxPublicKey {
		return passkey{}, fmt.Errorf("%w: it is too long", ErrDenied)
	}
	return passkey{
		ID: made.ID, PublicKey: made.PublicKey, Count: made.Authenticator.SignCount, Backup: made.Flags.BackupEligible,
		Stamp: user.Stamp, Added: time.Now().UTC().Truncate(time.Second),
	}, nil
}

// denied is the refusal of what a browser sent, with the reason for the log.
func denied(err error) error {
	reason := err.Error()
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		reason = strings.TrimSpace(e.Details + " " + e.DevInfo)
	}
	return fmt.Errorf("%w: %.300s", ErrDenied, reason)
}

// find returns the place of a passkey, or -1.
func (rec *record) find(id []byte) int {
	return slices.IndexFunc(rec.Passkeys, func(p passkey) bool { return bytes.Equal(p.ID, id) })
}

// RemovePasskey takes a passkey of a user away and returns its name, or "" when it
// is not there.
func (s *Service) RemovePasskey(ctx context.Context, user login.Identity, id []byte) (name string, err error) {
	err = s.change(ctx, user.Subject, func(rec *record) (bool, error) {
		i := rec.find(id)
		if name = ""; i < 0 {
			return false, nil
		}
		name = rec.Passkeys[i].Name
		rec.Passkeys = slices.Delete(rec.Passkeys, i, i+1)
		return true, nil
	})
	return name, err
}

// BeginLogin asks for a passkey of anybody.
func (s *Service) BeginLogin() (Ceremony, error) {
	options, session, err := s.rp.BeginDiscoverableLogin()
	return newCeremony(options, session, err)
}

// Proven is somebody whose passkey has signed a challenge.
type Proven struct {
	User login.Identity

	id    []byte
	count uint32
}

// Prove finds out whose passkey has signed a challenge. It writes nothing, so the
// caller makes sure that the challenge has not been used, and calls Use. For a
// user who is gone, or whose password has changed since, it returns ErrDenied as
// for a wrong signature.
func (s *Service) Prove(ctx context.Context, challenge string, answer []byte) (*Proven, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return nil, denied(err)
	}
	part := string(parsed.Response.UserHandle)
	if !isPart(part) {
		return nil, fmt.Errorf("%w: no user handle of ours", ErrDenied)
	}
	rec, err := s.load(ctx, part)
	if err != nil {
		return nil, err
	}
	user, known := s.users.Lookup(ctx, rec.User)
	if !known || s.part(user.Subject) != part {
		return nil, fmt.Errorf("%w: there is no such user", ErrDenied)
	}
	h := holder{part, user.Subject, rec.current(user.Stamp)}
	_, used, err := s.rp.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return h, nil }, s.session(challenge), parsed)
	if err != nil {
		return nil, denied(err)
	}
	return &Proven{User: user, id: used.ID, count: parsed.Response.AuthenticatorData.Counter}, nil
}

// Use notes that a passkey was used. It refuses one whose counter does not go up:
// somebody has a copy of it.
func (s *Service) Use(ctx context.Context, p *Proven) error {
	return s.change(ctx, p.User.Subject, func(rec *record) (bool, error) {
		i := rec.find(p.id)
		if i < 0 {
			return false, fmt.Errorf("%w: it has been removed", ErrDenied)
		}
		known := &rec.Passkeys[i]
		if p.count <= known.Count && (p.count != 0 || known.Count != 0) {
			return false, fmt.Errorf("%w: its counter does not go up, so there may be a copy of it", ErrDenied)
		}
		known.Count, known.Used = p.count, time.Now().UTC().Truncate(time.Second)
		return true, nil
	})
}
