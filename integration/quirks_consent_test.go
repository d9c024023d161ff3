package integration

import (
	"html"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// handOffPageAfterConsent answers the form of the consent page with a page, for browsers apply its form-action to all
// redirects that follow a form, which would cut off the callback. The page goes on by itself, and has a link for those
// where that is switched off.
func handOffPageAfterConsent(t *testing.T, s *ground) {
	for _, redirect := range []string{"https://app.example/callback", "cursor://anysphere.cursor-mcp/oauth/callback", redirectURI} {
		id := s.registerAt(t, redirect)
		p := s.newVisitor(t).get(s.authorizeURL(id, url.Values{"redirect_uri": {redirect}})).signIn().submit("allow", nil)
		if p.status != http.StatusOK || p.header.Get("Location") != "" || !strings.HasPrefix(p.next, redirect+"?") {
			t.Errorf("the answer for %s is %v, leading to %s and %q", redirect, p, p.next, p.header.Get("Location"))
		}
		s.keepSecret(p.callback().Get("code"))
		if policy := p.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self'; ") {
			t.Errorf("the policy of the page is %s", policy)
		}
		if !strings.Contains(html.UnescapeString(p.body), `href="`+p.next+`"`) {
			t.Errorf("the page for %s has no link there", redirect)
		}
	}
}

// statusWatch takes down how a site answers a browser.
type statusWatch struct {
	http.RoundTripper
	forms, pages []int // statuses of POST and of GET
}

// RoundTrip implements http.RoundTripper.
func (w *statusWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	switch {
	case err != nil:
	case r.Method == http.MethodPost:
		w.forms = append(w.forms, resp.StatusCode)
	default:
		w.pages = append(w.pages, resp.StatusCode)
	}
	return resp, err
}

// no307AfterForm goes from signing in to a callback: each form is answered in a way that no browser repeats it, with its
// password, at the next address, and so is a request that needs no form.
func no307AfterForm(t *testing.T, s *ground) {
	v := s.newVisitor(t)
	watch := &statusWatch{RoundTripper: v.client.Transport}
	v.client.Transport = watch
	form := s.codeFor(t, v, "report", url.Values{"redirect_uri": {groundWebsite}})
	if !slices.Equal(watch.forms, []int{http.StatusSeeOther, http.StatusOK}) {
		t.Errorf("the forms of sign-in and consent are answered with %v", watch.forms)
	}
	wantStatus(t, "redeeming", s.postForm(t, "/token", with(form, "redirect_uri", groundWebsite, "client_secret", groundSecret)), http.StatusOK)
	request := s.authorizeURL("report", url.Values{"redirect_uri": {groundWebsite}})
	watch.pages = nil
	for what, next := range map[string]*page{
		"what was allowed before": v.get(request),
		"an error for the client": v.get(request + "&response_mode=fragment"),
	} {
		if !strings.HasPrefix(next.next, groundWebsite+"?") {
			t.Errorf("%s leads to %q", what, next.next)
		}
		s.keepSecret(next.callback().Get("code"))
	}
	if !slices.Equal(watch.pages, []int{http.StatusSeeOther, http.StatusSeeOther}) {
		t.Errorf("requests that need no page are answered with %v", watch.pages)
	}
}

// probeBeforeTheBrowser is what mcp-remote does before it opens a browser: it asks for the page itself and takes some
// errors for the news that its registration is gone.
func probeBeforeTheBrowser(t *testing.T, s *ground) {
	id := s.registerAt(t, redirectURI)
	request := s.authorizeURL(id, nil)
	before := s.stored(t)
	for range 2 {
		a := send(t, s.client, "GET", request, "", "Accept", "application/json")
		wantStatus(t, "asking as a program", a, http.StatusOK)
	}
	if after := s.stored(t); !reflect.DeepEqual(before, after) {
		t.Errorf("asking has changed the store from %v to %v", before, after)
	}
	if s.newVisitor(t).authorize(request).Get("code") == "" {
		t.Error("the browser gets no code afterwards")
	}
	unknown := s.authorizeURL("mcp_ABCDEFGHIJKLMNOPQRSTUVWXYZ", nil)
	a := send(t, s.client, "GET", unknown, "", "Accept", "application/json")
	wantStatus(t, "an unknown client as a program", a, http.StatusBadRequest)
	if a.field(t, "error") != "invalid_client" {
		t.Errorf("a program with an unknown client is told %s", a.body)
	}
	if p := s.newVisitor(t).get(unknown); p.status != http.StatusBadRequest || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") || p.next != "" {
		t.Errorf("a person with an unknown client sees %v and is led to %q", p, p.next)
	}
}
