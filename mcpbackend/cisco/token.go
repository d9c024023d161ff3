package cisco

// This file implements the client side of the OAuth 2.0 client credentials grant (RFC 6749 §4.4).

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxTokenAnswer = 64 << 10
	// defaultLifetime is assumed when expires_in is missing or nonsense. A 401 corrects a wrong guess.
	defaultLifetime = 5 * time.Minute
	maxLifetime     = 24 * time.Hour
	// maxMargin is how long before its expiry a token is no longer used, so that it does not expire on the way.
	maxMargin = time.Minute
)

// A tokenSource fetches access tokens and keeps the current one.
type tokenSource struct {
	http            *http.Client
	url, id, secret string
	busy            chan struct{} // holds one element while somebody reads or writes the fields below
	token           string
	expires         time.Time // when to stop using token
}

func newTokenSource(hc *http.Client, tokenURL, id, secret string) *tokenSource {
	return &tokenSource{http: hc, url: tokenURL, id: id, secret: secret, busy: make(chan struct{}, 1)}
}

// get returns the current token, or fetches one. Callers that arrive during a fetch wait for it instead of fetching
// too; unlike with a mutex, the wait ends with ctx.
func (s *tokenSource) get(ctx context.Context) (string, error) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return "", transportError("Cisco's sign-in service", ctx.Err())
	}
	defer func() { <-s.busy }()
	if s.token != "" && time.Now().Before(s.expires) {
		return s.token, nil
	}
	token, lifetime, err := s.fetch(ctx)
	if err != nil {
		return "", err
	}
	// A tenth of the lifetime, at most a minute: a fixed margin would make a short-lived token expired at birth.
	s.token, s.expires = token, time.Now().Add(lifetime-min(lifetime/10, maxMargin))
	return token, nil
}

// drop forgets token after the API refused it, unless another caller has replaced it since.
func (s *tokenSource) drop(ctx context.Context, token string) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done(): // the next use of the token will be refused and drop it
		return
	}
	defer func() { <-s.busy }()
	if s.token == token {
		s.token = ""
	}
}

func (s *tokenSource) fetch(ctx context.Context) (token string, lifetime time.Duration, err error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.id}, "client_secret": {s.secret}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, transportError("Cisco's sign-in service", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := s.http.Do(req)
	if err != nil {
		return "", 0, transportError("Cisco's sign-in service", err)
	}
	defer res.Body.Close()
	body, err := readBounded(res.Body, maxTokenAnswer)
	if err != nil {
		return "", 0, transportError("Cisco's sign-in service", err)
	}
	if res.StatusCode != http.StatusOK {
		return "", 0, tokenRefusal(res.StatusCode, body, s.secret)
	}
	// json.Number also reads the quoted numbers that some token endpoints send.
	var wire struct {
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &wire); err != nil || wire.AccessToken == "" {
		return "", 0, &Error{Message: "Cisco's sign-in service sent an answer without a token. Try again later.", cause: err}
	}
	return wire.AccessToken, tokenLifetime(wire.ExpiresIn), nil
}

func tokenLifetime(n json.Number) time.Duration {
	seconds, err := n.Float64()
	if err != nil || seconds <= 0 {
		return defaultLifetime
	}
	return time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
}
