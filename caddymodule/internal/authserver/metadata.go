package authserver

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// authMethods are the ways in which clients authenticate.
var authMethods = []string{oauth.AuthNone, oauth.AuthClientSecretPost, oauth.AuthClientSecretBasic, oauth.AuthPrivateKeyJWT}

// buildMetadata makes the document of RFC 8414 once: it depends on nothing but
// the configuration.
func (s *Server) buildMetadata() []byte {
	m := oauth.AuthorizationServerMetadata{
		Issuer: s.cfg.Issuer,
		// RFC 8414 section 2 lets a server without people leave it out, but
		// there are clients that then refuse the document as a whole, service
		// accounts among them.
		AuthorizationEndpoint:                      s.cfg.Issuer + pathAuthorize,
		TokenEndpoint:                              s.cfg.Issuer + pathToken,
		JWKSURI:                                    s.cfg.Issuer + pathJWKS,
		RevocationEndpoint:                         s.cfg.Issuer + pathRevoke,
		ScopesSupported:                            append(s.scopeNames(), "offline_access"),
		ResponseTypesSupported:                     []string{oauth.ResponseTypeCode},
		ResponseModesSupported:                     []string{"query"},
		GrantTypesSupported:                        []string{oauth.GrantClientCredentials},
		TokenEndpointAuthMethodsSupported:          authMethods,
		RevocationEndpointAuthMethodsSupported:     authMethods,
		TokenEndpointAuthSigningAlgValuesSupported: assertion.AlgorithmNames(),
		RevocationEndpointAuthSigningAlgValues:     assertion.AlgorithmNames(),
		CodeChallengeMethodsSupported:              []string{oauth.ChallengeS256},
		AuthorizationResponseIssParameterSupported: true,
	}
	if s.cfg.SignIn {
		m.GrantTypesSupported = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials}
		m.UILocalesSupported = s.pages.Languages()
		m.ClientIDMetadataDocumentSupported = !s.cfg.Documents.Off
	} else {
		m.ResponseTypesSupported, m.ResponseModesSupported = []string{}, nil
	}
	if s.cfg.DeviceAuthorization {
		m.DeviceAuthorizationEndpoint = s.cfg.Issuer + pathDeviceAuthorization
		m.GrantTypesSupported = append(m.GrantTypesSupported, oauth.GrantDeviceCode)
	}
	if !s.cfg.Registration.Off {
		m.RegistrationEndpoint = s.cfg.Issuer + pathRegister
	}
	if len(s.cfg.Asserters) > 0 {
		m.GrantTypesSupported = append(m.GrantTypesSupported, oauth.GrantJWTBearer)
		m.AuthorizationGrantProfilesSupported = []string{oauth.GrantProfileIdentityAssertion}
	}
	if s.cfg.introspection() {
		m.IntrospectionEndpoint = s.cfg.Issuer + pathIntrospect
		m.IntrospectionEndpointAuthMethodsSupported = introspectionMethods
		m.IntrospectionEndpointAuthSigningAlgValues = assertion.AlgorithmNames()
	}
	if s.cfg.PKCEPlain {
		m.CodeChallengeMethodsSupported = append(m.CodeChallengeMethodsSupported, oauth.ChallengePlain)
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and slices of them always marshal
	}
	return data
}

// cacheable lets clients keep public documents for some minutes.
const cacheable = "public, max-age=300"

// serveMetadata is /.well-known/oauth-authorization-server.
func (s *Server) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", cacheable)
	respond.Raw(w, http.StatusOK, s.metadata)
}

// serveJWKS publishes the keys of access tokens (RFC 7517).
func (s *Server) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", cacheable)
	respond.Raw(w, http.StatusOK, s.keys.JWKS())
}

// health is the body of /health. It says nothing that only operators should know.
type health struct {
	Status    string    `json:"status"`
	Timestamp time.Time `json:"timestamp"`
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	respond.JSON(w, http.StatusOK, health{"healthy", time.Now().UTC()})
}
