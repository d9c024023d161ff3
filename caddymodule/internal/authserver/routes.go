package authserver

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// endpoint is something that is served at a path.
type endpoint struct {
	path    string
	guard   guard
	methods []string // beside OPTIONS
	serve   http.HandlerFunc
}

// action serves a page. Its error is shown as a page.
type action func(http.ResponseWriter, *http.Request) error

// read is the methods of endpoints that are only looked at.
var read = []string{http.MethodGet, http.MethodHead}

// endpoints are all that the configuration asks for.
func (s *Server) endpoints() []endpoint {
	out := []endpoint{{pathHealth, forMonitors, read, s.serveHealth}}
	if s.cfg.LandingPage {
		out = append(out, s.page("/", s.landing, nil))
	}
	if s.cfg.OAuth || s.cfg.PublishKeys {
		out = append(out, endpoint{pathJWKS, forPrograms, read, s.serveJWKS})
	}
	if !s.cfg.OAuth {
		return out
	}
	out = append(out, s.programEndpoints()...)
	if !s.cfg.SignIn {
		return append(out, s.page(pathAuthorize, s.nobody, nil))
	}
	out = append(out,
		s.page(pathAuthorize, s.countFailure(s.authorize), s.countFailure(s.decide)),
		s.page(pathLogin, nil, s.login),
		s.page(pathSwitch, nil, s.switchUser),
		s.page(pathLogout, s.toAccount, s.logout),
		s.page(pathAccount, s.account, nil),
		s.page(pathRemove, nil, s.remove),
	)
	if len(s.cfg.Redirects) > 0 {
		callback := s.page(pathCallback, s.callback, nil)
		callback.methods = []string{http.MethodGet} // HEAD would use the code up
		out = append(out, s.page(pathLeave, s.leave, nil), callback)
	}
	if s.factors != nil {
		out = append(out, s.page(pathCode, s.askCode, s.takeCode), s.page(pathFactor, s.factor, s.changeFactor))
	}
	if s.factors != nil && s.cfg.RequireFactor {
		out = append(out, s.page(pathEnrol, s.askEnrol, s.takeEnrol))
	}
	if s.factors != nil && s.factors.HasPasskeys() {
		out = append(out,
			s.page(pathPasskey, s.askPasskey, s.takePasskey),
			s.page(pathNewPasskey, s.newPasskey, s.addPasskey),
			s.page(pathRemovePasskey, nil, s.removePasskey),
		)
	}
	if s.cfg.DeviceAuthorization {
		out = append(out, s.page(pathDevice, s.device, s.answerDevice))
	}
	return out
}

// programEndpoints are those of clients.
func (s *Server) programEndpoints() []endpoint {
	post := []string{http.MethodPost}
	out := []endpoint{
		{pathToken, forPrograms, post, s.serveToken},
		{pathRevoke, forPrograms, post, s.serveRevoke},
		{pathRegister, forPrograms, post, s.serveRegister},
		{oauth.WellKnownServer, forPrograms, read, s.serveMetadata},
	}
	// Clients look for metadata with the resource's path inserted after the
	// well-known part (RFC 8414 section 3.1) or appended before it.
	for _, r := range s.cfg.Resources {
		if r.Path != "" && r.Origin == s.cfg.Issuer {
			out = append(out,
				endpoint{oauth.WellKnownServer + r.Path, forPrograms, read, s.serveMetadata},
				endpoint{r.Path + oauth.WellKnownServer, forPrograms, read, s.serveMetadata},
			)
		}
	}
	if s.cfg.introspection() {
		out = append(out, endpoint{pathIntrospect, forServers, post, s.serveIntrospect})
	}
	if s.cfg.DeviceAuthorization {
		out = append(out, endpoint{pathDeviceAuthorization, forPrograms, post, s.serveDeviceAuthorization})
	}
	return out
}

// registration is the endpoint of one registration.
func (s *Server) registration(path, id string) endpoint {
	return endpoint{
		path, forPrograms, []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete},
		func(w http.ResponseWriter, r *http.Request) { s.serveRegistration(w, r, id) },
	}
}

// page is an endpoint for people. get shows something and post takes a form of
// ours; nil for none.
func (s *Server) page(path string, get, post action) endpoint {
	e := endpoint{path: path, guard: forPeople}
	if get != nil {
		e.methods = append(e.methods, read...)
	}
	if post != nil {
		e.methods = append(e.methods, http.MethodPost)
	}
	e.serve = func(w http.ResponseWriter, r *http.Request) {
		act := get
		if r.Method == http.MethodPost {
			act = post
		}
		if err := act(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
	return e
}

// Endpoint returns the handler of the endpoint at a cleaned path, if it is one.
func (s *Server) Endpoint(path string) (http.HandlerFunc, bool) {
	if id, ok := strings.CutPrefix(path, belowRegister); ok && s.cfg.OAuth {
		return s.guarded(s.registration(path, id)), true
	}
	h, ok := s.routes[path]
	return h, ok
}

// offered are the methods that an answer to another one names.
func (e endpoint) offered() []string {
	out := slices.DeleteFunc(slices.Clone(e.methods), func(m string) bool { return m == http.MethodHead })
	if e.guard == forPrograms {
		out = append(out, http.MethodOptions)
	}
	return out
}
