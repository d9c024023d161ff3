package authserver

import (
	"mime"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// serveRegister is the registration endpoint (RFC 7591 section 3).
func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request) {
	info, err := s.register(w, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.cfg.Log.Info("client registered", zap.String("client_id", info.ClientID), zap.Strings("grant_types", info.GrantTypes))
	respond.JSON(w, http.StatusCreated, info)
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) (*oauth.ClientInformation, error) {
	if s.cfg.Registration.Off {
		respond.CloseUnread(w, r)
		return nil, &oauth.Error{
			Code: "access_denied", Status: http.StatusForbidden,
			Description: "dynamic client registration is off; ask whoever runs this server for a client_id",
		}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		respond.CloseUnread(w, r)
		return nil, oauth.InvalidClientMetadata("the Content-Type must be application/json")
	}
	body, err := respond.ReadBody(w, r, oauth.MaxRegistrationLength)
	if err != nil {
		return nil, oauth.InvalidClientMetadata("the request body is too long or did not arrive whole")
	}
	m, err := oauth.DecodeClientMetadata(body)
	if err != nil {
		return nil, err
	}
	if err := m.Normalize(); err != nil {
		return nil, err
	}
	if slices.Contains(m.GrantTypes, oauth.GrantClientCredentials) && !s.mayRegisterServiceAccount(r) {
		// Anybody could otherwise register, get a token and call the upstream
		// without a person ever having agreed.
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.origin.Host+`"`)
		return nil, &oauth.Error{
			Code: "invalid_token", Status: http.StatusUnauthorized,
			Description: "registering for client_credentials needs an initial access token in the Authorization header",
		}
	}
	return s.clients.Register(r.Context(), m)
}

// mayRegisterServiceAccount checks the initial access token (RFC 7591 section 3).
func (s *Server) mayRegisterServiceAccount(r *http.Request) bool {
	if s.cfg.OpenServiceAccounts {
		return true
	}
	presented, err := oauth.BearerToken(r.Header)
	return err == nil && s.cfg.InitialAccessToken != nil && s.cfg.InitialAccessToken(presented)
}
