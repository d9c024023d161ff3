package integration

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth/extauth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// agentSecret is what the agent of the company proves itself with at the gateway.
const agentSecret = "secret-of-the-agent"

// bearing is the token request with an assertion.
func bearing(assertion string, pairs ...string) url.Values {
	form := url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion},
		"client_id": {"agent"}, "client_secret": {agentSecret},
	}
	return with(form, pairs...)
}

// TestEnterpriseManagedAuthorization lets the helpers of the official SDKs get tokens for what a company's provider
// vouches for.
func TestEnterpriseManagedAuthorization(t *testing.T) {
	t.Parallel()
	idp := newEnterpriseProvider(t)
	g := startGateway(t, gatewayConfig{
		site: scopedSite(startBackend(t), idp.lines()), env: []string{"AGENT_SECRET=" + agentSecret},
	})
	g.keepSecret(agentSecret)
	t.Run("TypeScript", func(t *testing.T) {
		needNode(t)
		env := g.trusting("MCP_SERVER="+g.origin+"/mcp", "IDP="+idp.URL, "ID_TOKEN=id-token-of-carol", "CLIENT_ID=agent", "CLIENT_SECRET="+agentSecret)
		for _, line := range runScript(t, env, "enterprise.mjs") {
			var got struct {
				Bugs    int
				Scope   string
				Refresh bool
				Secrets []string
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("it printed no JSON: %v: %s", err, line)
			}
			g.keepSecret(got.Secrets...)
			if got.Bugs == 0 || got.Scope != "bugs:read" || got.Refresh {
				t.Errorf("it got %+v", got)
			}
		}
	})
	t.Run("Go", func(t *testing.T) {
		credentials := func(id, secret string) *oauthex.ClientCredentials {
			return &oauthex.ClientCredentials{ClientID: id, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: secret}}
		}
		handler, err := extauth.NewEnterpriseHandler(&extauth.EnterpriseHandlerConfig{
			IdPIssuerURL: idp.URL, IdPCredentials: credentials("agent-at-acme", "a secret of the provider"),
			MCPAuthServerURL: g.origin, MCPResourceURI: g.origin + "/mcp", MCPCredentials: credentials("agent", agentSecret),
			IDTokenFetcher: func(context.Context) (*oauth2.Token, error) {
				return new(oauth2.Token).WithExtra(map[string]any{"id_token": "id-token-of-carol"}), nil
			},
			// That of the gateway finds nobody else.
			HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: g.tlsConfig()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		callGo(t, sdkWay{transport: "http"}.connectGo(t, g, handler))
	})
}

// TestIdentityAssertions presents assertions of a company's provider by hand: who calls then, and which of them get
// nowhere.
func TestIdentityAssertions(t *testing.T) {
	t.Parallel()
	idp := newEnterpriseProvider(t)
	docs := newDocumentServer(t)
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{
		site: scopedSite(rec.address, idp.lines()+onLoopback), env: append(docs.trust(), "AGENT_SECRET="+agentSecret),
	})
	g.keepSecret(agentSecret)
	vouched := func(change map[string]any) string {
		claims := map[string]any{"aud": g.origin, "resource": g.origin + "/mcp", "scope": "bugs:read"}
		maps.Copy(claims, change)
		raw := idp.assertion(claims)
		g.keepSecret(raw)
		return raw
	}

	var metadata struct {
		Profiles []string `json:"authorization_grant_profiles_supported"`
	}
	doc := send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-authorization-server", "")
	if err := json.Unmarshal([]byte(doc.body), &metadata); err != nil || len(metadata.Profiles) != 1 {
		t.Errorf("the metadata says %s, %v", doc.body, err)
	}

	raw := vouched(nil)
	a := g.postForm(t, "/token", bearing(raw))
	wantStatus(t, "a good assertion", a, http.StatusOK)
	access := a.field(t, "access_token")
	wantStatus(t, "a call", g.call(t, g.client, "/mcp", access), http.StatusOK)
	if h := rec.last(t).Header; h.Get("X-Mcp-User") != "acme:U-carol" || h.Get("X-Caller-Email") != "carol@example.com" {
		t.Errorf("the upstream is told that %q calls, %q", h.Get("X-Mcp-User"), h.Get("X-Caller-Email"))
	}
	wantError(t, "the same once more", g.postForm(t, "/token", bearing(raw)), "invalid_grant")
	for what, change := range map[string]map[string]any{
		"for another server":   {"aud": "https://other.example"},
		"for another client":   {"client_id": "robot"},
		"for another resource": {"resource": "https://other.example/mcp"},
		"expired":              {"exp": time.Now().Add(-10 * time.Minute).Unix()},
		"without a jti":        {"jti": nil},
		"about a stranger":     {"groups": []string{"guests"}},
		"for other scopes":     {"scope": "admin"},
	} {
		wantError(t, what, g.postForm(t, "/token", bearing(vouched(change))), "invalid_grant")
	}
	idp.rotate()
	wantStatus(t, "by a new key", g.postForm(t, "/token", bearing(vouched(nil))), http.StatusOK)

	// A client that nobody has allowed anything is known by the word of the provider.
	id := docs.publish(t, "/agent.json", map[string]any{
		"client_id": docs.URL + "/agent.json", "client_name": "Agent", "redirect_uris": []string{"http://localhost/cb"},
		"grant_types": []string{"authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
	})
	stranger := newEnterpriseProvider(t)
	wantError(t, "a stranger's word", g.postForm(t, "/token", bearing(stranger.assertion(map[string]any{"aud": g.origin, "client_id": id}),
		"client_id", id, "client_secret", "")), "invalid_grant")
	if n := docs.count(); n != 0 {
		t.Errorf("a stranger made the gateway fetch %d documents", n)
	}
	wantStatus(t, "a client with a document", g.postForm(t, "/token", bearing(vouched(map[string]any{"client_id": id}), "client_id", id, "client_secret", "")), http.StatusOK)

	g.restart(true)
	wantError(t, "the first one, after a crash", g.postForm(t, "/token", bearing(raw)), "invalid_grant")
	idp.Close()
	g.restart(false)
	a = g.postForm(t, "/token", bearing(vouched(nil)))
	wantStatus(t, "while the provider is away", a, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
}
