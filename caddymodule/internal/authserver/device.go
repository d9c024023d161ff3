// This file implements the endpoint and the page of RFC 8628 (OAuth 2.0 Device
// Authorization Grant). The state of a request is in package grant.

package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// Everybody may ask for a device code, so an address may do so deviceMax times, and
// all together deviceMaxAll times, within deviceWindow, which is also how long a
// request is kept. So a node never keeps more than twice deviceMaxAll: those of a
// window, and those of the next one until the first of them lapse. A client that an
// operator has made known, and that proves to be it, may do so as often by itself.
const (
	deviceMax    = 30
	deviceMaxAll = 1000
	deviceWindow = grant.DeviceLifetime
)

// Guessing user codes (section 5.1). There are 20^8 = 2.56e10 of them, and at most
// 2000 of strangers on a node, so a guess is right with a probability below 8e-8, and the 100 a
// minute that all addresses together have with 8e-6: once in 89 days of guessing
// without a pause, if the place for strangers is full all the time. With 20 devices
// that wait it is once in 24 years. And whoever is right has to sign in before
// anything happens, and can then give away nothing but an access of their own.
const (
	userCodeMax    = 10
	userCodeMaxAll = 100
	userCodeWindow = time.Minute
)

// serveDeviceAuthorization is the device authorization endpoint (section 3.1).
func (s *Server) serveDeviceAuthorization(w http.ResponseWriter, r *http.Request) {
	answer, err := s.startDevice(w, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	respond.JSON(w, http.StatusOK, answer)
}

func (s *Server) startDevice(w http.ResponseWriter, r *http.Request) (*oauth.DeviceAuthorization, error) {
	p, err := formParams(w, r)
	if err != nil {
		return nil, err
	}
	creds, err := readCredentials(r, p)
	if err != nil {
		return nil, err
	}
	creds.vouched = func(context.Context, string) (bool, error) { return true, nil }
	c, err := s.authenticateClient(r, creds, func() (string, error) { return needClientID(r.Context(), s, p) })
	if err != nil {
		return nil, err
	}
	if !c.Allows(oauth.GrantDeviceCode) {
		return nil, oauth.UnauthorizedClient("this client is not registered for the grant type " + oauth.GrantDeviceCode)
	}
	if err := s.limitToken(r, c.ID, &grantType{}, p); err != nil {
		return nil, err
	}
	req, err := s.sharedParameters(p, c)
	if err != nil {
		return nil, err
	}
	target, scopes, err := s.wanted(req)
	if err != nil {
		return nil, err
	}
	if err := s.spendDevice(r, c); err != nil {
		return nil, err
	}
	code, userCode, err := s.grants.StartDevice(r.Context(), grant.DeviceRequest{ClientID: c.ID, Resource: target.URL(), Scopes: scopes})
	if err != nil {
		return nil, err
	}
	s.cfg.Metrics.Authorization(metrics.AuthorizationStarted)
	s.cfg.Audit.Write(r.Context(), audit.Event{Name: audit.DeviceStart, By: audit.ByClient, Scopes: scopes, Resource: target.URL()})
	return &oauth.DeviceAuthorization{
		DeviceCode: code, UserCode: userCode.String(), VerificationURI: s.cfg.Issuer + pathDevice,
		VerificationURIComplete: s.cfg.Issuer + pathDevice + "?" + url.Values{paramUserCode: {userCode.String()}}.Encode(),
		ExpiresIn:               int64(grant.DeviceLifetime / time.Second), Interval: grant.DeviceInterval,
	}, nil
}

// spendDevice counts a request of a device. An address that is held back costs
// the others nothing, and strangers hold back no client that has proven to be none.
func (s *Server) spendDevice(r *http.Request, c *client.Client) error {
	whose := ""
	if c.ByOperator() && !c.Public() {
		whose = c.ID
	}
	wait, _ := s.devices.Take(r.Context(), limit.Peer(s.cfg.ClientIP(r)))
	if wait == 0 {
		wait, _ = s.allDevices.Take(r.Context(), whose)
	}
	if wait == 0 {
		return nil
	}
	s.cfg.Metrics.RateLimited("device_authorization")
	return oauth.TooManyRequests("too many devices are asking at the moment; try again later", limit.Seconds(wait))
}

// issueForDevice answers a device that polls (section 3.4).
func issueForDevice(ctx context.Context, s *Server, req *tokenRequest) (*issuance, error) {
	redemption := grant.DeviceRedemption{
		DeviceCode: req.get(paramDeviceCode), ClientID: req.client.ID, Resource: req.resourceURL(), Accept: s.stillGood(ctx, req.client, nil),
	}
	switch {
	case req.err() != nil:
		return nil, req.err()
	case redemption.DeviceCode == "":
		return nil, oauth.InvalidRequest("device_code is missing")
	}
	g, refresh, err := s.grants.RedeemDevice(ctx, redemption)
	if err != nil {
		return nil, err
	}
	return &issuance{user: g.User, grantID: g.ID, resource: g.Resource, scopes: g.Scopes, refresh: refresh}, nil
}

// Names of parameters.
const (
	paramDeviceCode = "device_code"
	paramUserCode   = pages.FieldUserCode
)

// device is the page on which people let a device in (section 3.3). It asks for
// the code, or goes on with a code that was entered. A code in the
// address is filled in; the person has to compare it all the same (section
// 3.3.1).
func (s *Server) device(w http.ResponseWriter, r *http.Request) error {
	p, err := queryParams(r)
	if err != nil {
		return err
	}
	sealed, typed, locales := p.get(paramContinue), p.get(paramUserCode), p.get("ui_locales")
	if err := p.err(); err != nil {
		return err
	}
	if sealed != "" {
		return s.deviceConsent(w, r, sealed)
	}
	v := pages.Device{}
	if code, ok := oauth.ParseUserCode(typed); ok {
		v.Code, v.Compare = code.String(), true
	}
	return s.askUserCode(w, r, truncate(locales, maxLocales), v)
}

// askUserCode shows the form for the code.
func (s *Server) askUserCode(w http.ResponseWriter, r *http.Request, locales string, v pages.Device) error {
	tx := newTransaction(forUserCode, s.cookies.ensureBrowser(w, r))
	tx.Locales = locales
	sealed, err := s.seal.seal(tx)
	if err != nil {
		return err
	}
	v.Token, v.Locales = sealed, locales
	status := http.StatusOK
	switch v.Failure {
	case pages.NoDeviceFailure:
	case pages.UnknownUserCode:
		status = http.StatusBadRequest
	case pages.TooManyUserCodes:
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", strconv.Itoa(limit.Seconds(v.Wait)))
	}
	s.rendered(w, s.pages.Device(w, r, status, v))
	return nil
}

// answerDevice takes the code, and later the decision.
func (s *Server) answerDevice(w http.ResponseWriter, r *http.Request) error {
	f, err := s.readForm(w, r, forUserCode, forDevice)
	switch {
	case err != nil:
		return err
	case f.tx.Purpose == forDevice:
		return s.decideDevice(w, r, f)
	}
	return s.enterUserCode(w, r, f)
}

// enterUserCode looks a code up and goes on to sign-in and consent.
func (s *Server) enterUserCode(w http.ResponseWriter, r *http.Request, f *form) error {
	typed := f.get(paramUserCode)
	if err := f.err(); err != nil {
		return err
	}
	code, ok := oauth.ParseUserCode(typed)
	if !ok {
		return s.askUserCode(w, r, f.tx.Locales, pages.Device{Failure: pages.UnknownUserCode, Code: typed})
	}
	right, wait, err := s.tryUserCode(r)
	if err != nil {
		return err
	}
	if wait > 0 {
		s.auditAuthorization(r.Context(), audit.ByUser, "too many user codes")
		s.cfg.Metrics.RateLimited("user_code")
		return s.askUserCode(w, r, f.tx.Locales, pages.Device{Failure: pages.TooManyUserCodes, Wait: wait, Code: code.String()})
	}
	d, err := s.grants.FindDevice(r.Context(), code)
	if errors.Is(err, grant.ErrNoDevice) || errors.Is(err, grant.ErrDecided) {
		s.auditAuthorization(r.Context(), audit.ByUser, "no device waits with the user code")
		return s.askUserCode(w, r, f.tx.Locales, pages.Device{Failure: pages.UnknownUserCode, Code: code.String()})
	}
	right()
	if err != nil {
		return err
	}
	tx := newTransaction(forDevice, f.tx.Browser)
	tx.Locales, tx.UserCode, tx.Device = f.tx.Locales, code, d.ID()
	tx.ClientID, tx.Resource, tx.Scopes = d.ClientID, d.Resource, d.Scopes
	if s.cfg.Request != nil {
		// Who vouches for people is asked at the authorization endpoint only.
		return s.continueAt(w, pathAuthorize, tx)
	}
	return s.continueAt(w, pathDevice, tx)
}

// tryUserCode counts a guess. It returns what takes it back, or for how long to
// wait. Who is signed in has a count of their own: otherwise a few strangers who
// guess could keep everybody from letting a device in.
func (s *Server) tryUserCode(r *http.Request) (right func(), wait time.Duration, err error) {
	current, err := s.session(r)
	if err != nil {
		return nil, 0, err
	}
	if current != nil {
		user := "user " + current.User.Subject
		wait, _ := s.userCodes.Take(r.Context(), user)
		return func() { s.userCodes.Return(user) }, wait, nil
	}
	peer := limit.Peer(s.cfg.ClientIP(r))
	if wait, _ := s.userCodes.Take(r.Context(), peer); wait > 0 {
		return nil, wait, nil
	}
	if wait, _ := s.allUserCodes.Take(r.Context(), ""); wait > 0 {
		return nil, wait, nil
	}
	return func() {
		s.userCodes.Return(peer)
		s.allUserCodes.Return("")
	}, 0, nil
}

// deviceConsent shows the page that comes next after the code: sign-in, or consent,
// which is asked for each time.
func (s *Server) deviceConsent(w http.ResponseWriter, r *http.Request, sealed string) error {
	tx, err := s.seal.open(sealed, forDevice, s.cookies.browser(r))
	if err != nil {
		return err
	}
	d, err := s.grants.FindDevice(r.Context(), tx.UserCode)
	switch {
	case errors.Is(err, grant.ErrNoDevice), errors.Is(err, grant.ErrDecided), err == nil && d.ID() != tx.Device:
		return s.askUserCode(w, r, tx.Locales, pages.Device{Failure: pages.UnknownUserCode, Code: tx.UserCode.String()})
	case err != nil:
		return err
	}
	c, err := s.clientOf(r, tx)
	if err != nil {
		return err
	}
	current, err := s.session(r)
	switch {
	case err != nil:
		return err
	case current == nil:
		return s.showLogin(w, r, tx, c, pages.Login{})
	}
	return s.showConsent(w, r, tx, c, current)
}

// decideDevice takes the answer of a person about a device.
func (s *Server) decideDevice(w http.ResponseWriter, r *http.Request, f *form) error {
	c, err := s.clientOf(r, f.tx)
	if err != nil {
		return err
	}
	allow, err := f.decision()
	if err != nil {
		return err
	}
	outcome := metrics.AuthorizationDenied
	done := pages.DeviceDone{Denied: !allow, Client: s.clientView(c, ""), Resource: s.resourceView(f.tx.Resource), Locales: f.tx.Locales}
	if allow {
		outcome = metrics.AuthorizationAllowed
		done.User, err = s.allowDevice(r, f, c)
	} else {
		err = s.denyDevice(r, f)
	}
	if err != nil {
		return err
	}
	s.cfg.Metrics.Authorization(outcome)
	s.rendered(w, s.pages.DeviceDone(w, r, http.StatusOK, done))
	return nil
}

// allowDevice records that the person of the form agrees, and returns who that
// is.
func (s *Server) allowDevice(r *http.Request, f *form, c *client.Client) (string, error) {
	current, err := s.decider(r, f)
	if err != nil {
		return "", err
	}
	scopes, err := s.decided(r, f, c, current.User)
	if err != nil {
		return "", err
	}
	consent := consentOf(f.tx, current, scopes)
	consent.Request = f.tx.Device
	if err := s.grants.AllowDevice(r.Context(), f.tx.UserCode, consent); err != nil {
		return "", err
	}
	if err := s.clients.Touch(r.Context(), c); err != nil {
		return "", unavailable(err)
	}
	s.auditAllowed(r, f.tx, consent.Scopes, "", audit.ByUser)
	return current.User.Display(), nil
}

// denyDevice records that the person of the form does not agree.
func (s *Server) denyDevice(r *http.Request, f *form) error {
	err := s.grants.DenyDevice(r.Context(), f.tx.UserCode, f.tx.Device)
	if err == nil {
		s.auditAuthorization(r.Context(), audit.ByUser, reasonOf(oauth.AccessDenied()))
	}
	return err
}
