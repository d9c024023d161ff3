package authserver

import (
	"mime"
	"net/http"
	"slices"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// serveRegister is the registration endpoint (RFC 7591 section 3).
func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request) {
	info, err := s.register(w, r)
	s.countRegistration(err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.auditRegistration(r.Context(), audit.ClientRegister, info)
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
	access := s.initialAccess(r)
	if s.cfg.ProtectedRegistration && access == NoAccess {
		respond.CloseUnread(w, r)
		return nil, s.needInitialAccess(w, "registering needs an initial access token in the Authorization header; ask whoever runs this server for one")
	}
	body, err := readMetadata(w, r)
	if err != nil {
		return nil, err
	}
	m, err := oauth.DecodeClientMetadata(body)
	if err != nil {
		return nil, err
	}
	if err := m.Normalize(s.furtherGrantTypes()...); err != nil {
		return nil, err
	}
	if slices.Contains(m.GrantTypes, oauth.GrantClientCredentials) && !s.cfg.OpenServiceAccounts {
		if err := s.mayMakeServiceAccount(w, access); err != nil {
			return nil, err
		}
	}
	if access == NoAccess {
		if err := s.limitRegistration(r); err != nil {
			return nil, err
		}
	}
	info, err := s.clients.Register(r.Context(), m)
	if err != nil {
		return nil, err
	}
	return s.managedAt(info), nil
}

// readMetadata reads the body of a registration.
func readMetadata(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		respond.CloseUnread(w, r)
		return nil, oauth.InvalidClientMetadata("the Content-Type must be application/json")
	}
	body, err := respond.ReadBody(w, r, oauth.MaxRegistrationLength)
	if err != nil {
		return nil, oauth.InvalidClientMetadata("the request body is too long or did not arrive whole")
	}
	return body, nil
}

// furtherGrantTypes are those that clients can register for by choice of the
// operator. Where redirect URIs say who may register, there is no device grant: it
// has none.
func (s *Server) furtherGrantTypes() []string {
	if s.cfg.DeviceAuthorization && len(s.cfg.Registration.Hosts) == 0 {
		return []string{oauth.GrantDeviceCode}
	}
	return nil
}

// InitialAccess is what an initial access token lets clients register as.
type InitialAccess int

// The kinds of initial access tokens.
const (
	NoAccess       InitialAccess = iota // it is none
	PeoplesClients                      // clients that get tokens when a person agrees
	AllClients                          // service accounts as well
)

// initialAccess looks at the initial access token of a request (RFC 7591 section
// 3), if there is one.
func (s *Server) initialAccess(r *http.Request) InitialAccess {
	presented, err := oauth.BearerToken(r.Header)
	if err != nil || s.cfg.InitialAccess == nil {
		return NoAccess
	}
	return s.cfg.InitialAccess(presented)
}

// mayMakeServiceAccount demands an initial access token that is good for it.
// Anybody could otherwise register, get a token and call the upstream without a
// person ever having agreed.
func (s *Server) mayMakeServiceAccount(w http.ResponseWriter, access InitialAccess) error {
	switch access {
	case AllClients:
		return nil
	case PeoplesClients:
		w.Header().Set("WWW-Authenticate", oauth.Challenge{Error: "insufficient_scope"}.String())
		return &oauth.Error{
			Code: "insufficient_scope", Status: http.StatusForbidden,
			Description: "this initial access token is limited to some scopes or to a resource, and a client of client_credentials would not be",
		}
	default:
		return s.needInitialAccess(w, "registering for client_credentials needs an initial access token in the Authorization header")
	}
}

// needInitialAccess is the refusal of a registration without a good token.
func (s *Server) needInitialAccess(w http.ResponseWriter, description string) error {
	w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.origin.Host+`"`)
	return &oauth.Error{Code: "invalid_token", Status: http.StatusUnauthorized, Description: description}
}
