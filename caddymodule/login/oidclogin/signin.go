package oidclogin

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// leeway is how far the clock of the provider may be off.
const leeway = 30 * time.Second

// maxIDToken bounds an ID token in bytes.
const maxIDToken = 64 << 10

// verification says what ID tokens may look like. The algorithms are fixed, and
// none of them works with a secret that others have as well.
func (p *Provider) verification() *oidc.Config {
	return &oidc.Config{
		ClientID:             p.cfg.ClientID,
		SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.PS256, oidc.EdDSA},
		Now:                  func() time.Time { return time.Now().Add(-leeway) },
	}
}

// Begin implements login.Redirect.
func (p *Provider) Begin(ctx context.Context, a login.Attempt) (string, error) {
	m, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)}
	if prompt := p.prompt(a.Prompt); prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", prompt))
	}
	if p.cfg.KeepTokens && p.cfg.Issuer == google {
		options = append(options, oauth2.AccessTypeOffline)
	}
	if a.MaxAge != nil {
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(a.MaxAge.Seconds()))))
	}
	if a.Hint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", a.Hint))
	}
	return m.at(a.Callback).AuthCodeURL(a.State, options...), nil
}

// at is the client of the provider with its callback.
func (m *metadata) at(callback string) *oauth2.Config {
	c := m.oauth
	c.RedirectURL = callback
	return &c
}

// Finish implements login.Redirect.
func (p *Provider) Finish(ctx context.Context, a login.Attempt, callback url.Values) (login.Identity, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), 2*exchangeTimeout)
	defer cancel()
	m, err := p.discover(ctx)
	if err != nil {
		return login.Identity{}, err
	}
	code, err := p.readAnswer(m, callback)
	if err != nil {
		return login.Identity{}, err
	}
	tokens, err := m.at(a.Callback).Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return login.Identity{}, exchangeError(err)
	}
	idToken, err := p.verify(ctx, m, tokens, a)
	if err != nil {
		return login.Identity{}, err
	}
	id, err := p.identify(ctx, m, tokens, idToken)
	if err == nil && p.cfg.KeepTokens {
		id.Tokens, err = usable(tokens)
	}
	return id, err
}

// readAnswer returns the code of an authorization response.
func (p *Provider) readAnswer(m *metadata, callback url.Values) (string, error) {
	for _, name := range []string{"iss", "error", "code"} {
		if len(callback[name]) > 1 {
			return "", fmt.Errorf("the provider's answer has the parameter %s twice", name)
		}
	}
	// RFC 9207 section 2.4: before anything else in the answer is believed,
	// errors included.
	switch iss, named := callback.Get("iss"), callback.Has("iss"); {
	case named && iss != p.cfg.Issuer:
		return "", errors.New("the answer names another issuer")
	case !named && m.issuers:
		return "", errors.New("the answer does not name its issuer, as the provider has announced")
	}
	switch problem := callback.Get("error"); problem {
	case "":
	case "access_denied":
		return "", login.ErrCancelled
	case "temporarily_unavailable", "server_error":
		return "", fmt.Errorf("%w: it answers %s", login.ErrUnreachable, problem)
	default:
		return "", fmt.Errorf("the provider answers with the error %s", plainCode(problem))
	}
	code := callback.Get("code")
	if code == "" {
		return "", errors.New("the provider's answer has no code")
	}
	return code, nil
}

// plainCode makes an error code fit for a log, as anybody can write one into the
// address of the callback.
func plainCode(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) {
		return "of an unknown kind"
	}
	return code
}

// exchangeError tells an outage from a refusal. Neither text has what the
// provider sent, but for the code of a refusal.
func exchangeError(err error) error {
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !ok && isOutage(err):
		return unreachable(err)
	case !ok:
		return errors.New("the token endpoint's answer cannot be read")
	case refusal.Response != nil && refusal.Response.StatusCode >= http.StatusInternalServerError,
		refusal.Response != nil && refusal.Response.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: the token endpoint answers %d", login.ErrUnreachable, refusal.Response.StatusCode)
	case refusal.ErrorCode != "":
		return fmt.Errorf("the token endpoint refuses the request: %s", plainCode(refusal.ErrorCode))
	}
	return errors.New("the token endpoint refuses the request")
}

// isOutage reports whether no answer came, or not the whole of it.
func isOutage(err error) bool {
	if errors.Is(err, errTooLong) || errors.Is(err, errRedirect) {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// verify checks the ID token (OpenID Connect Core section 3.1.3.7).
func (p *Provider) verify(ctx context.Context, m *metadata, tokens *oauth2.Token, a login.Attempt) (*oidc.IDToken, error) {
	raw, _ := tokens.Extra("id_token").(string)
	if raw == "" || len(raw) > maxIDToken {
		return nil, errors.New("the provider sent no ID token, or one that is too long")
	}
	idToken, err := m.verifier.Verify(ctx, raw)
	switch {
	case err != nil && strings.Contains(err.Error(), "fetching keys"):
		return nil, unreachable(errors.New("its keys cannot be fetched"))
	case err != nil:
		return nil, fmt.Errorf("the ID token is refused: %.200s", err.Error())
	case a.Nonce == "" || subtle.ConstantTimeCompare([]byte(idToken.Nonce), []byte(a.Nonce)) != 1:
		return nil, errors.New("the ID token is refused: its nonce is not that of the request")
	}
	var claims struct {
		AuthorizedParty *string `json:"azp"`
		AuthTime        *int64  `json:"auth_time"`
	}
	if err := idToken.Claims(&claims); err != nil {
		return nil, errors.New("the ID token is refused: azp or auth_time cannot be read")
	}
	if !p.authorizedParty(idToken.Audience, claims.AuthorizedParty) {
		return nil, errors.New("the ID token is refused: it was issued to another client")
	}
	if idToken.AccessTokenHash != "" && idToken.VerifyAccessToken(tokens.AccessToken) != nil {
		return nil, errors.New("the ID token is refused: it belongs to another access token")
	}
	if a.MaxAge != nil && claims.AuthTime != nil && time.Since(time.Unix(*claims.AuthTime, 0)) > *a.MaxAge+leeway {
		return nil, errors.New("the sign-in at the provider is older than was asked for")
	}
	return idToken, nil
}

// authorizedParty checks azp, which has to be there when a token is for several.
func (p *Provider) authorizedParty(audience []string, azp *string) bool {
	if azp != nil {
		return *azp == p.cfg.ClientID
	}
	return !slices.ContainsFunc(audience, func(aud string) bool { return aud != p.cfg.ClientID })
}
