package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// external reports whether somebody else issues the tokens of the site.
func (s *site) external() bool {
	return len(s.options.AuthorizationServers) > 0 && s.options.AuthType != "bearer"
}

// detach takes away what the options of the app say about tokens of our own, when
// the tokens of the site come from somebody else.
func (s *site) detach() {
	if !s.external() {
		return
	}
	o := &s.options
	o.Issuer, o.Users, o.Allow, o.Clients = "", nil, nil, nil
	o.PKCEPlain, o.RememberConsent, o.DeviceAuthorization, o.SecondFactor = nil, nil, nil, ""
	o.Registration = (*Registration)(nil).merge(nil)
	s.logins = nil
}

// checkOthers refuses lines that have no effect beside authorization_server. What
// the options of the app say counts only as far as the site says nothing else.
func (b *builder) checkOthers(s *site) error {
	from, authType := &s.handler.options, s.options.AuthType
	if len(from.AuthorizationServers) == 0 {
		if from.AuthType != "" {
			authType = from.AuthType
		}
		from = &b.app.options
	}
	if len(from.AuthorizationServers) > 0 && authType == "bearer" && (from != &b.app.options || s.handler.AuthType == "") {
		return errors.New("auth_type bearer takes static tokens only, so the line 'authorization_server' has no effect. " +
			"Write: auth_type both; or take one of the lines away")
	}
	if !s.external() {
		return nil
	}
	for _, o := range []*Options{&s.handler.options, from} {
		if name := ownTokenLine(o); name != "" {
			return fmt.Errorf("the line authorization_server says that somebody else issues the tokens, so the line '%s' has no effect. "+
				"Take one of the two away; of the lines about tokens only this one goes with it: bearer_token <token>", name)
		}
	}
	issuer := s.handler.options.Issuer
	if from == &b.app.options {
		issuer = cmp.Or(issuer, b.app.options.Issuer)
	}
	if issuer != "" && strings.TrimSuffix(issuer, "/") != s.origin {
		return fmt.Errorf("the line issuer is about tokens of this server, and authorization_server names another one. "+
			"Take one of the two away, or write the address of this site: issuer %s", s.origin)
	}
	for _, other := range b.sites {
		if other.origin == s.origin && !other.external() {
			return errors.New("there are several mcp_auth directives at this origin, and only some have the line 'authorization_server'. " +
				"Move it into the global options: mcp_auth { authorization_server … }")
		}
	}
	return nil
}

// ownTokenLine is the name of a line that only makes sense where we issue tokens.
func ownTokenLine(o *Options) string {
	for _, l := range tokenLines {
		if l.isSet(o) {
			return l.name
		}
	}
	if o.LoginsRaw != nil {
		return "login"
	}
	return ""
}
