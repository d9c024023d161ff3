package authserver

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// managedAt tells the client where its registration can be managed (RFC 7592
// section 3).
func (s *Server) managedAt(info *oauth.ClientInformation) *oauth.ClientInformation {
	info.RegistrationClientURI = s.cfg.Issuer + belowRegister + info.ClientID
	return info
}

// serveRegistration is the client configuration endpoint of the client at the end
// of the path (RFC 7592 section 2). An id that no client can have is answered like
// that of a client who is gone.
func (s *Server) serveRegistration(w http.ResponseWriter, r *http.Request, id string) {
	info, err := s.manageRegistration(w, r, id)
	switch {
	case err != nil:
		s.challengeBearer(w, r, err)
		s.refuse(w, r, err)
	case info == nil:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	default:
		respond.JSON(w, http.StatusOK, s.managedAt(info))
	}
}

// manageRegistration does what a request asks for. It returns nothing when the
// registration has ended.
func (s *Server) manageRegistration(w http.ResponseWriter, r *http.Request, id string) (*oauth.ClientInformation, error) {
	token, err := oauth.BearerToken(r.Header)
	if err != nil {
		respond.CloseUnread(w, r)
		return nil, oauth.InvalidRegistrationToken()
	}
	// Whoever has no token learns nothing about the rest of the request.
	info, err := s.clients.Registration(r.Context(), id, token)
	switch {
	case err != nil:
		respond.CloseUnread(w, r)
		return nil, err
	case r.Method == http.MethodPut:
		return s.replaceRegistration(w, r, id, token)
	case r.Method == http.MethodDelete:
		return nil, s.endRegistration(r, id, token)
	}
	return info, nil
}

// challengeBearer adds the challenge to a 401 (RFC 6750 section 3). It names no
// error when there was no token.
func (s *Server) challengeBearer(w http.ResponseWriter, r *http.Request, err error) {
	refusal, ok := errors.AsType[*oauth.Error](err)
	if !ok || refusal.Status != http.StatusUnauthorized {
		return
	}
	challenge := `Bearer realm="` + s.origin.Host + `"`
	if _, err := oauth.BearerToken(r.Header); !errors.Is(err, oauth.ErrNoCredentials) {
		challenge = oauth.Challenge{Error: refusal.Code}.String()
	}
	w.Header().Set("WWW-Authenticate", challenge)
}

func (s *Server) replaceRegistration(w http.ResponseWriter, r *http.Request, id, token string) (*oauth.ClientInformation, error) {
	body, err := readMetadata(w, r)
	if err != nil {
		return nil, err
	}
	update, err := oauth.DecodeClientUpdate(body)
	if err != nil {
		return nil, err
	}
	if err := update.Normalize(s.furtherGrantTypes()...); err != nil {
		return nil, err
	}
	if err := s.countHeld("register", s.limitRegistration(r)); err != nil {
		return nil, err
	}
	info, err := s.clients.Replace(r.Context(), id, token, update)
	if err != nil {
		return nil, err
	}
	s.auditRegistration(r.Context(), audit.ClientUpdate, info)
	return info, nil
}

func (s *Server) endRegistration(r *http.Request, id, token string) error {
	err := s.clients.Deregister(r.Context(), id, token, func() error { return s.revoker.endClient(r.Context(), id, time.Time{}) })
	if err == nil {
		s.cfg.Audit.Write(r.Context(), audit.Event{Name: audit.ClientRemove, By: audit.ByClient, ClientID: id})
	}
	return err
}
