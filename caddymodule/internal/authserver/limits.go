package authserver

import (
	"errors"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// limits is what may be done so many times.
type limits struct {
	logins    *limit.Tries // of passwords
	codes     *limit.Tries // of second factors
	passkeys  *limit.Tries // of passkeys that prove nothing
	callbacks *limit.Tries // of answers from providers that prove nothing
	secrets   *limit.Tries // of client secrets
	documents *limit.Limit // of fetches of metadata documents

	// Of assertions of clients that nobody has allowed anything; for each address,
	// and for all together.
	assertions, allAssertions *limit.Limit

	registrations *limit.Limit
	tokens        *limit.Limit // of token requests

	// Of device codes, and of guesses of user codes; for each address, and for
	// all together.
	devices, allDevices     *limit.Limit
	userCodes, allUserCodes *limit.Limit
}

func newLimits(counts *limit.Counts, cfg Config) limits {
	if counts == nil {
		counts = limit.NewCounts()
	}
	return limits{
		logins:        counts.Tries("login", cfg.LoginMax, cfg.LoginWindow),
		codes:         counts.Tries("code", cfg.LoginMax, cfg.LoginWindow),
		passkeys:      counts.Tries("passkey", cfg.LoginMax, cfg.LoginWindow),
		callbacks:     counts.Tries("callback", cfg.LoginMax, cfg.LoginWindow),
		secrets:       counts.NodeTries("client secret", secretMax, secretWindow),
		documents:     counts.NodeLimit("document", discoverMax, discoverWindow),
		assertions:    counts.NodeLimit("client assertion", assertionMax, assertionWindow),
		allAssertions: counts.NodeLimit("client assertions", assertionMaxAll, assertionWindow),
		registrations: counts.Limit("register", cfg.RegisterMax, cfg.RegisterWindow),
		tokens:        counts.Limit("token", cfg.TokenMax, cfg.TokenWindow),
		devices:       counts.NodeLimit("device", deviceMax, deviceWindow),
		allDevices:    counts.NodeLimit("devices", deviceMaxAll, deviceWindow),
		userCodes:     counts.NodeLimit("user code", userCodeMax, userCodeWindow),
		allUserCodes:  counts.NodeLimit("user codes", userCodeMaxAll, userCodeWindow),
	}
}

// limitRegistration counts a registration, or a change of one, that would be
// written, for the address that it comes from.
func (s *Server) limitRegistration(r *http.Request) error {
	return limited(r, s.registrations, limit.Peer(s.cfg.ClientIP(r)))
}

// limitToken counts a request of a client that is who it says. What belongs to a
// grant counts for that grant: a service through which many people come, from one
// address and as one client, then makes none of them wait for another. The rest
// counts for the client at its address, and for the person whom an assertion is
// about: whether that is true is not known yet, but it cannot hold up the person
// elsewhere.
func (s *Server) limitToken(r *http.Request, clientID string, kind *grantType, p *params) error {
	key := "client " + limit.Peer(s.cfg.ClientIP(r)) + " " + clientID
	if kind.subject != nil {
		key += " " + truncate(kind.subject(p), maxLimitedSubject)
	}
	if id := s.grants.KeyOf(p.get(kind.credential)); id != "" {
		key = "grant " + id
	}
	return s.countHeld("token", limited(r, s.tokens, key))
}

// maxLimitedSubject bounds what is kept of a subject that was not checked, in
// bytes.
const maxLimitedSubject = 256

// limitStranger counts a request whose client could not be told, for its address:
// whoever makes up clients shall not get more than those there are. The others at
// that address are not held back by it.
func (s *Server) limitStranger(r *http.Request, err error) error {
	if refusal, ok := errors.AsType[*oauth.Error](err); !ok || refusal.Status == http.StatusTooManyRequests {
		return err
	}
	if held := limited(r, s.tokens, "nobody "+limit.Peer(s.cfg.ClientIP(r))); held != nil {
		return s.countHeld("token", held)
	}
	return err
}

// limited counts something of a key. Its error is a 429 that names the limit.
func limited(r *http.Request, l *limit.Limit, key string) error {
	if wait, _ := l.Take(r.Context(), key); wait > 0 {
		return oauth.TooManyRequests(l.Explain(wait), limit.Seconds(wait))
	}
	return nil
}

// countHeld counts a request that was held back, if it was.
func (s *Server) countHeld(endpoint string, held error) error {
	if held != nil {
		s.cfg.Metrics.RateLimited(endpoint)
	}
	return held
}
