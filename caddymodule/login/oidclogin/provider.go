package oidclogin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
	"golang.org/x/oauth2"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// Config of a login.
type Config struct {
	// ID names the login. It begins the subjects of its users, so it must not
	// change, and must not be used for another provider later.
	ID string

	// Issuer is the provider as it names itself, byte by byte.
	Issuer string

	// ClientID and ClientSecret are what the provider knows us by. Without a
	// secret we are a public client there.
	ClientID, ClientSecret string

	// Scopes are asked for; they have to contain openid.
	Scopes []string

	// Prompt is what the provider shall show at each sign-in (OpenID Connect Core
	// section 3.1.2.1), beside what a request asks for; "" for nothing.
	Prompt string

	// KeepTokens gives out the tokens of the provider together with the identity.
	KeepTokens bool

	// Log gets what goes wrong away from any sign-in; nil for no log.
	Log *zap.Logger

	// Transport carries the requests to the provider.
	// Default: that of net/http, which knows of proxies.
	Transport http.RoundTripper
}

// Provider is a login at one OpenID provider. Nothing is fetched before somebody
// signs in, so a provider that is down keeps nobody else from working. It is
// safe for concurrent use.
type Provider struct {
	cfg    Config
	client *http.Client
	stamp  string

	mu     sync.Mutex
	known  *metadata
	asked  *inquiry
	failed time.Time // when the last inquiry failed
	fault  error     // and why
}

// New returns a login.
func New(cfg Config) *Provider {
	sum := sha256.Sum256([]byte(cfg.Issuer))
	return &Provider{
		cfg: cfg, client: newClient(cfg.Transport), stamp: base64.RawURLEncoding.EncodeToString(sum[:9]),
	}
}

// How long what the provider tells about itself is believed, and how long an
// inquiry that failed is not repeated, so that a flood of sign-ins does not hit
// a provider that is struggling.
const (
	metadataLifetime = time.Hour
	retryAfter       = 2 * time.Second
)

// metadata is what the provider tells about itself.
type metadata struct {
	provider *oidc.Provider
	verifier *oidc.IDTokenVerifier
	oauth    oauth2.Config // without the callback
	jwksURI  string
	issuers  bool // answers name the issuer (RFC 9207)
	until    time.Time
}

// inquiry is one fetch of the metadata, which all who need it wait for.
type inquiry struct {
	done  chan struct{}
	found *metadata
	err   error
}

// discover returns the metadata. What is out of date is used for as long as the
// provider does not answer.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	p.mu.Lock()
	now := time.Now()
	switch {
	case p.known != nil && now.Before(p.known.until):
		defer p.mu.Unlock()
		return p.known, nil
	case p.asked == nil && now.Sub(p.failed) < retryAfter:
		defer p.mu.Unlock()
		if p.known != nil {
			return p.known, nil
		}
		return nil, p.fault
	case p.asked == nil:
		p.asked = &inquiry{done: make(chan struct{})}
		go p.inquire(p.asked) //nolint:gosec // G118: others wait for it as well, whoever goes away
	}
	asked := p.asked
	p.mu.Unlock()
	select {
	case <-asked.done:
		return asked.found, asked.err
	case <-ctx.Done():
		return nil, unreachable(ctx.Err())
	}
}

// inquire fetches the metadata for all who wait, whoever of them goes away. A
// second try is for connections that have died meanwhile.
func (p *Provider) inquire(asked *inquiry) {
	ctx, cancel := context.WithTimeout(context.Background(), exchangeTimeout)
	defer cancel()
	found, err := p.fetch(ctx)
	if err != nil && ctx.Err() == nil {
		found, err = p.fetch(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.known, p.fault = found, nil
	} else {
		p.failed, p.fault = time.Now(), err
		if found = p.known; found != nil {
			err = nil
		}
	}
	asked.found, asked.err, p.asked = found, err, nil
	close(asked.done)
}

// fetch reads the discovery document (OpenID Connect Discovery 1.0 section 4).
func (p *Provider) fetch(ctx context.Context) (*metadata, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	if mismatch, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
		return nil, fmt.Errorf("the provider calls itself %.200q and not %q; the line 'issuer' has to say the same", mismatch.Discovered, p.cfg.Issuer)
	}
	if err != nil {
		return nil, unreachable(withoutBody(err))
	}
	var more struct {
		JWKS    string   `json:"jwks_uri"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		Issuers bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&more); err != nil {
		return nil, errors.New("the discovery document of the provider cannot be read")
	}
	endpoint := provider.Endpoint()
	for name, address := range map[string]string{
		"authorization_endpoint": endpoint.AuthURL, "token_endpoint": endpoint.TokenURL, "jwks_uri": more.JWKS,
	} {
		if err := p.checkEndpoint(address); err != nil {
			return nil, fmt.Errorf("the %s of the provider %w", name, err)
		}
	}
	endpoint.AuthStyle = p.authStyle(more.Methods)
	return &metadata{
		provider: provider,
		verifier: provider.Verifier(p.verification()),
		oauth: oauth2.Config{
			ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: endpoint, Scopes: p.cfg.Scopes,
		},
		jwksURI: more.JWKS, issuers: more.Issuers, until: time.Now().Add(metadataLifetime),
	}, nil
}

// checkEndpoint refuses endpoints that would carry secrets in the clear.
func (p *Provider) checkEndpoint(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "":
		return errors.New("is missing or malformed")
	case u.Scheme != "https" && (u.Scheme != "http" || !strings.HasPrefix(p.cfg.Issuer, "http:")):
		return errors.New("is not https")
	}
	return nil
}

// authStyle is how we prove who we are at the token endpoint. The library would
// try one after the other, which can use up the code.
func (p *Provider) authStyle(methods []string) oauth2.AuthStyle {
	switch {
	case p.cfg.ClientSecret == "":
		return oauth2.AuthStyleInParams
	case len(methods) == 0 || slices.Contains(methods, "client_secret_basic"):
		return oauth2.AuthStyleInHeader // OpenID Connect Discovery section 3 has it as the default
	}
	return oauth2.AuthStyleInParams
}

// unreachable marks an error as an outage.
func unreachable(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // without the address, which may hold more than its host
	}
	return fmt.Errorf("%w: %.200s", login.ErrUnreachable, err.Error())
}

// withoutBody takes what the provider sent out of an error of the library, which
// has it behind the status.
func withoutBody(err error) error {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return err
	}
	status, _, _ := strings.Cut(err.Error(), ":")
	if status != "" && status[0] >= '0' && status[0] <= '9' {
		return errors.New("its discovery document is answered with " + status)
	}
	return errors.New("its discovery document cannot be read")
}

// Recognizes implements login.Method.
func (p *Provider) Recognizes(id login.Identity) bool {
	return id.Provider == p.cfg.ID && id.Stamp == p.stamp
}

// Interface guard
var _ login.Delegate = (*Provider)(nil)
