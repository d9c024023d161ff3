package authserver

import (
	"errors"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// countToken counts the outcome of a token request.
func (s *Server) countToken(kind *grantType, err error) {
	name := metrics.Other
	if kind != nil {
		name = kind.name
	}
	if err == nil {
		s.cfg.Metrics.TokenIssued(name)
		return
	}
	s.cfg.Metrics.TokenRefused(name, asRefusal(err).Code)
	if grant.Reused(err) {
		s.cfg.Metrics.Revoked(metrics.ByReuse, 1)
		if name == oauth.GrantRefreshToken {
			s.cfg.Metrics.RefreshReused()
		}
	}
}

// countRegistration counts the outcome of a request to the registration endpoint.
func (s *Server) countRegistration(err error) {
	s.cfg.Metrics.Registered(metrics.RegistrationDynamic, registrationResult(err))
	if err != nil && asRefusal(err).Status == http.StatusTooManyRequests {
		s.cfg.Metrics.RateLimited("register")
	}
}

// discovered counts a metadata document that was fetched for the first time.
func (cfg *Config) discovered(err error) {
	result := metrics.RegistrationOK
	if err != nil {
		result = metrics.RegistrationRefused
	}
	cfg.Metrics.Registered(metrics.RegistrationDocument, result)
}

func registrationResult(err error) string {
	switch {
	case err == nil:
		return metrics.RegistrationOK
	case asRefusal(err).Status >= http.StatusInternalServerError:
		return metrics.RegistrationError
	}
	return metrics.RegistrationRefused
}

// countPassword counts a password that was not accepted. One that was is counted
// with all other sign-ins.
func (s *Server) countPassword(err error) {
	switch {
	case err == nil:
	case errors.Is(err, login.ErrDenied):
		s.cfg.Metrics.Login(metrics.LocalProvider, metrics.LoginFailed)
	default:
		s.cfg.Metrics.Login(metrics.LocalProvider, metrics.LoginError)
	}
}

// countCode counts a second factor or a passkey that was not accepted.
func (s *Server) countCode(failed pages.Failed) {
	result := metrics.LoginFailed
	if failed.Failure == pages.TooManyTries {
		result = metrics.LoginLimited
	}
	s.cfg.Metrics.Login(metrics.LocalProvider, result)
}

// refusalOutcome is what a refusal at the client is for metrics.
func refusalOutcome(refusal *oauth.Error) string {
	if refusal.Code == oauth.AccessDenied().Code {
		return metrics.AuthorizationDenied
	}
	return metrics.AuthorizationFailed
}

// countFailure counts the authorization requests that end on an error page.
func (s *Server) countFailure(next action) action {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := next(w, r)
		if err == nil {
			return nil
		}
		outcome := metrics.AuthorizationFailed
		if asPageError(err).problem == pages.RequestExpired {
			outcome = metrics.AuthorizationExpired
		}
		s.cfg.Metrics.Authorization(outcome)
		return err
	}
}
