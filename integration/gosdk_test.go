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

// TestGoSDK goes the whole way with the official Go SDK, from an address and nothing else to a revoked token.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	docs := newDocumentServer(t)
	document := docs.publishClient(t, "/client.json", "Go SDK")
	g := startGateway(t, gatewayConfig{env: docs.trust(), site: "mcp_auth " + startBackend(t) + ` {
		` + userLine + `
		` + onLoopback + `
		client report {
			name "Report"
			secret report-secret-1234
			redirect_uris ` + redirectURI + `
		}
	}`})
	g.keepSecret("report-secret-1234")
	dynamic := func(c *auth.AuthorizationCodeHandlerConfig) {
		c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{redirectURI}, GrantTypes: []string{"authorization_code", "refresh_token"},
		}}
	}
	configured := func(c *auth.AuthorizationCodeHandlerConfig) {
		c.RedirectURL = redirectURI
		c.PreregisteredClient = &oauthex.ClientCredentials{
			ClientID: "report", ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: "report-secret-1234"},
		}
	}
	described := func(c *auth.AuthorizationCodeHandlerConfig) {
		c.RedirectURL = redirectURI
		c.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: document}
	}
	for _, tt := range []struct {
		name, version string
		client        func(*auth.AuthorizationCodeHandlerConfig)
	}{
		{"2026-07-28, registered dynamically", "2026-07-28", dynamic},
		{"2025-11-25, registered dynamically", "2025-11-25", dynamic},
		{"2026-07-28, in the configuration", "2026-07-28", configured},
		{"2026-07-28, described by a document", "2026-07-28", described},
		{"2025-11-25, described by a document", "2025-11-25", described},
	} {
		t.Run(tt.name, func(t *testing.T) {
			person := &goPerson{visitor: g.newVisitor(t)}
			handler := person.handler(t, g, tt.client)
			session := connectGo(t, g, handler, tt.version)

			if got := session.InitializeResult().ProtocolVersion; got != tt.version {
				t.Errorf("the versions agree on %s, want %s", got, tt.version)
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
			if _, err := session.CallTool(t.Context(), searchTool()); err == nil || person.asked != 2 {
				t.Errorf("after the revocation: error %v; asked %d times, want the second time, as for a 401", err, person.asked)
			}
		})
	}
}

// TestGoSDKOverSSE uses the old transport, for which the Go SDK knows no OAuth: the token comes from elsewhere.
func TestGoSDKOverSSE(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}"})
	gr := g.newGrant(t, url.Values{"resource": {g.origin + "/sse"}})
	client := &http.Client{Transport: withToken{g.http2(), gr.access}}
	session, err := newGoClient().Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: g.origin + "/sse", HTTPClient: client}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	callGo(t, session)
	gr.revoke(t)
	if _, err := session.CallTool(t.Context(), searchTool()); err == nil {
		t.Error("the call works with a revoked token")
	}
}

func newGoClient() *mcp.Client {
	return mcp.NewClient(&mcp.Implementation{Name: "integration", Version: "1"}, nil)
}

func connectGo(t *testing.T, g *gateway, handler auth.OAuthHandler, version string) *mcp.ClientSession {
	t.Helper()
	transport := &mcp.StreamableClientTransport{
		Endpoint: g.origin + "/mcp", HTTPClient: &http.Client{Transport: g.http2()}, OAuthHandler: handler,
	}
	session, err := newGoClient().Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { session.Close() }) // fails for a token that was revoked, which is no fault
	return session
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

// goPerson agrees once and never again, so that a client that asks a second time is noticed.
type goPerson struct {
	visitor *visitor
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
			if p.asked++; p.asked > 1 {
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

// withToken adds a token to every request.
type withToken struct {
	base  http.RoundTripper
	token string
}

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return w.base.RoundTrip(r)
}
