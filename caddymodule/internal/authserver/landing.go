package authserver

import (
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// description is what "/" says to programs.
type description struct {
	Name           string            `json:"name"`
	Authentication []string          `json:"authentication"`
	Endpoints      map[string]string `json:"endpoints"`
}

// landing answers "/" with the address of the server and how to add it.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) error {
	w.Header().Add("Vary", "Accept")
	if wantsJSON(r) {
		respond.CORS(w, "*")
		respond.JSON(w, http.StatusOK, s.describe())
		return nil
	}
	view := pages.Landing{SignIn: s.cfg.SignIn, Bearer: s.cfg.Static}
	for _, res := range s.landingResources() {
		view.Resources = append(view.Resources, pages.Resource{Name: res.Name, URL: res.URL()})
	}
	s.rendered(w, s.pages.Landing(w, r, http.StatusOK, view))
	return nil
}

// landingResources are the first resource of each upstream: its others are other
// ways to the same place.
func (s *Server) landingResources() []*oauth.Resource {
	var out []*oauth.Resource
	seen := map[int]bool{}
	for _, res := range s.cfg.Resources {
		if !seen[res.Group] {
			seen[res.Group] = true
			out = append(out, res)
		}
	}
	return out
}

// describe names the endpoints that there are.
func (s *Server) describe() description {
	d := description{Name: s.cfg.Name, Endpoints: map[string]string{
		"protected_resource": s.cfg.Issuer + oauth.WellKnownResource,
	}}
	for name, path := range map[string]string{
		"health":                 pathHealth,
		"authorization_server":   oauth.WellKnownServer,
		"authorization_endpoint": pathAuthorize,
		"token_endpoint":         pathToken,
		"registration_endpoint":  pathRegister,

		"device_authorization_endpoint": pathDeviceAuthorization,
	} {
		if _, ok := s.routes[path]; ok && (path != pathRegister || !s.cfg.Registration.Off) {
			d.Endpoints[name] = s.cfg.Issuer + path
		}
	}
	for _, res := range s.cfg.Resources {
		if res.Path != "" {
			d.Endpoints[res.Path] = res.URL()
		}
	}
	if s.cfg.SignIn {
		d.Authentication = append(d.Authentication, "oauth2.1")
	}
	if s.cfg.Static {
		d.Authentication = append(d.Authentication, "bearer")
	}
	return d
}
