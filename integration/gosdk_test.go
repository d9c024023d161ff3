package integration

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// goSDK goes the whole way with the Go SDK.
func (w sdkWay) goSDK(t *testing.T, g *gateway, documentAddress string) {
	t.Helper()
	person := &goPerson{visitor: g.newVisitor(t)}
	handler := person.handler(t, g, func(c *auth.AuthorizationCodeHandlerConfig) { w.goClient(c, documentAddress) })
	session := w.connectGo(t, g, handler)

	if got := session.InitializeResult().ProtocolVersion; got != w.version {
		t.Errorf("the versions agree on %s, want %s", got, w.version)
	}
	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) < 8 {
		t.Fatalf("tools/list: %v, %v", tools, err)
	}
	callGo(t, session)
	if person.asked != 1 {
		t.Errorf("the person was asked %d times, want once", person.asked)
	}

	before := person.source.accessToken()
	person.source.expire()
	callGo(t, session)
	if person.source.accessToken() == before || person.asked != 1 {
		t.Errorf("the token was not refreshed; the person was asked %d times", person.asked)
	}

	form := url.Values{"token": {person.source.refreshToken()}, "client_id": {person.source.config.ClientID}}
	if secret := person.source.config.ClientSecret; secret != "" {
		form.Set("client_secret", secret)
	}
	wantStatus(t, "revoking", g.postForm(t, "/revoke", form), http.StatusOK)
	if _, err := session.CallTool(t.Context(), searchTool()); err == nil {
		t.Error("the call works after the revocation")
	}
	// The stream of the old transport, without which there is no call, has ended with its grant.
	if w.transport == "http" && person.asked != 2 {
		t.Errorf("after the revocation the person was asked %d times, want the second time, as for a 401", person.asked)
	}
}

// goClient is who the client is.
func (w sdkWay) goClient(c *auth.AuthorizationCodeHandlerConfig, documentAddress string) {
	c.RedirectURL = redirectURI
	switch w.client {
	case registers:
		c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: sdkClientName, RedirectURIs: []string{redirectURI}, GrantTypes: []string{"authorization_code", "refresh_token"},
		}}
	case document:
		c.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: documentAddress}
	case public:
		c.PreregisteredClient = &oauthex.ClientCredentials{ClientID: public}
	case confidential:
		c.PreregisteredClient = &oauthex.ClientCredentials{
			ClientID: confidential, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: sdkSecret},
		}
	}
}

// connectGo connects by the transport of a way.
func (w sdkWay) connectGo(t *testing.T, g *gateway, handler auth.OAuthHandler) *mcp.ClientSession {
	t.Helper()
	address := g.origin + w.path()
	var transport mcp.Transport = &mcp.StreamableClientTransport{
		Endpoint: address, HTTPClient: &http.Client{Transport: g.http2()}, OAuthHandler: handler,
	}
	if w.transport == "sse" {
		transport = &mcp.SSEClientTransport{Endpoint: address, HTTPClient: &http.Client{Transport: withHandler{g.http2(), handler}}}
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "integration", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: w.version})
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { session.Close() }) // fails for a token that was revoked, which is no fault
	return session
}

// withHandler does for the old transport what the Go SDK does for the streamable one only: its requests carry the token of
// an OAuth handler, and one that is refused is sent again after the handler has got a token.
type withHandler struct {
	base    http.RoundTripper
	handler auth.OAuthHandler
}

// RoundTrip implements http.RoundTripper.
func (w withHandler) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.send(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if err := w.handler.Authorize(r.Context(), r, resp); err != nil {
		return nil, err
	}
	return w.send(r)
}

func (w withHandler) send(r *http.Request) (*http.Response, error) {
	source, err := w.handler.TokenSource(r.Context())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	if r.GetBody != nil {
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	if source != nil {
		token, err := source.Token()
		if err != nil {
			return nil, err
		}
		token.SetAuthHeader(r)
	}
	return w.base.RoundTrip(r)
}

func searchTool() *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: "search_bugs_by_keyword", Arguments: map[string]any{"keyword": "memory leak"}}
}

func callGo(t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	result, err := session.CallTool(t.Context(), searchTool())
	if err != nil || result.IsError || len(result.Content) == 0 {
		t.Fatalf("tools/call: %+v, %v", result, err)
	}
}

// goPerson agrees once, or as often as a test says, and never again, so that a client that asks too often is noticed.
type goPerson struct {
	visitor *visitor
	agrees  int // 0 for once
	asked   int
	source  *expiringSource
}

// errAskedAgain is what the client gets that asks the person a second time.
var errAskedAgain = errors.New("the person was asked again")

func (p *goPerson) handler(t *testing.T, g *gateway, client func(*auth.AuthorizationCodeHandlerConfig)) auth.OAuthHandler {
	t.Helper()
	config := &auth.AuthorizationCodeHandlerConfig{
		Client:              &http.Client{Transport: g.http2()},
		RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			if p.asked++; p.asked > max(p.agrees, 1) {
				return nil, errAskedAgain
			}
			callback := p.visitor.authorize(args.URL)
			return &auth.AuthorizationResult{Code: callback.Get("code"), State: callback.Get("state"), Iss: callback.Get("iss")}, nil
		},
		NewTokenSource: func(ctx context.Context, config *oauth2.Config, token *oauth2.Token) (oauth2.TokenSource, error) {
			g.keepSecret(token.AccessToken, token.RefreshToken)
			p.source = &expiringSource{ctx: ctx, config: config, token: token}
			return p.source, nil
		},
	}
	client(config)
	handler, err := auth.NewAuthorizationCodeHandler(config)
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// expiringSource is a token source whose token a test can let expire.
type expiringSource struct {
	ctx    context.Context
	config *oauth2.Config

	mu    sync.Mutex
	token *oauth2.Token
}

// Token implements oauth2.TokenSource.
func (s *expiringSource) Token() (*oauth2.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, err := s.config.TokenSource(s.ctx, s.token).Token()
	if err == nil {
		s.token = token
	}
	return token, err
}

func (s *expiringSource) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	expired := *s.token
	expired.Expiry = time.Now().Add(-time.Hour)
	s.token = &expired
}

func (s *expiringSource) accessToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token.AccessToken
}

func (s *expiringSource) refreshToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token.RefreshToken
}
