package oidclogin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// google gives refresh tokens in a way of its own: by access_type=offline, and
// only while it shows its page of consent.
const google = "https://accounts.google.com"

// maxToken bounds each token that is kept, in bytes.
const maxToken = 16 << 10

// prompt is what the provider shall show: what the configuration says, and what
// the request asks for.
func (p *Provider) prompt(requested string) string {
	words := strings.Fields(p.cfg.Prompt)
	if p.cfg.KeepTokens && p.cfg.Issuer == google {
		words = append(words, "consent")
	}
	var out []string
	for _, word := range append(words, strings.Fields(requested)...) {
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

// refusals are the errors of the token endpoint after which only the person can
// get further tokens. The others than invalid_grant are those of authorization
// responses (OpenID Connect Core section 3.1.2.6): some providers answer a refresh
// with them when their rules have changed, and go on doing so.
var refusals = []string{"invalid_grant", "interaction_required", "login_required", "consent_required", "account_selection_required"}

// Renew implements login.Delegate (OpenID Connect Core section 12).
func (p *Provider) Renew(ctx context.Context, subject, refresh string) (login.Tokens, error) {
	ctx = oidc.ClientContext(ctx, p.client)
	m, err := p.discover(ctx)
	if err != nil {
		return login.Tokens{}, err
	}
	renewed, err := m.oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok && slices.Contains(refusals, refusal.ErrorCode) {
		return login.Tokens{}, fmt.Errorf("%w: the provider does not accept the refresh token: %s", login.ErrDenied, refusal.ErrorCode)
	}
	if err != nil {
		return login.Tokens{}, exchangeError(err)
	}
	if raw, ok := renewed.Extra("id_token").(string); ok && !p.isAbout(ctx, m, raw, subject) {
		return login.Tokens{}, fmt.Errorf("%w: the provider gives tokens for somebody else", login.ErrDenied)
	}
	t, err := usable(renewed)
	if err != nil {
		return login.Tokens{}, err
	}
	if t.Refresh == refresh {
		t.Refresh = "" // the library fills it in
	}
	return *t, nil
}

// isAbout checks the ID token that may come with renewed tokens: it has to be of the
// same iss, sub and aud as that of the sign-in (OpenID Connect Core section 12.2).
// TLS stands for its signature (section 3.1.3.7, number 6), as the refresh token is
// used up by now, and keys that cannot be fetched must not lose the next one.
func (p *Provider) isAbout(ctx context.Context, m *metadata, raw, subject string) bool {
	config := p.verification()
	config.InsecureSkipSignatureCheck, config.SkipExpiryCheck = true, true
	idToken, err := m.provider.Verifier(config).Verify(ctx, raw)
	return err == nil && p.cfg.ID+":"+idToken.Subject == subject
}

// usable returns tokens that can be sent in a header and that work there by
// themselves.
func usable(t *oauth2.Token) (*login.Tokens, error) {
	if !strings.EqualFold(t.Type(), "Bearer") {
		return nil, errors.New("the provider's access token is no bearer token")
	}
	for _, text := range []string{t.AccessToken, t.RefreshToken} {
		if len(text) > maxToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, errors.New("the provider's tokens are too long, or cannot stand in a header")
		}
	}
	return &login.Tokens{Access: t.AccessToken, Refresh: t.RefreshToken, Expires: t.Expiry}, nil
}
