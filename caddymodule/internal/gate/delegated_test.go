package gate_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
)

func TestRefusalsForWantOfATokenOfTheProvider(t *testing.T) {
	d := newDoor(t)
	r := request("POST", "/sse/x", "Authorization", "Bearer "+staticToken)
	pass, refused := d.Check(httptest.NewRecorder(), r, r.URL.Path)
	if refused != nil {
		t.Fatal(refused.Reason)
	}
	if pass.Resource == nil || pass.Resource.Path != "/sse" {
		t.Fatalf("the request is for the resource %v", pass.Resource)
	}
	for _, tt := range []struct {
		rule      string
		refuse    func(http.ResponseWriter) *gate.Refused
		status    int
		reason    error
		challenge string
	}{
		{
			"the user has to sign in again", func(w http.ResponseWriter) *gate.Refused { return d.RefuseSignIn(w, r, pass) },
			http.StatusUnauthorized, gate.ErrSignIn, strings.Replace(invalid, "/mcp\"", "/sse\"", 1),
		},
		{
			"the caller signs in elsewhere", func(w http.ResponseWriter) *gate.Refused { return d.RefuseOtherSignIn(w, r) },
			http.StatusForbidden, gate.ErrOtherSignIn, "",
		},
		{
			"the provider is down", func(w http.ResponseWriter) *gate.Refused { return d.RefuseUnavailable(w, r, errors.ErrUnsupported) },
			http.StatusServiceUnavailable, errors.ErrUnsupported, "",
		},
	} {
		w := httptest.NewRecorder()
		got := tt.refuse(w)
		if got.Status != tt.status || w.Code != tt.status || !errors.Is(got.Reason, tt.reason) {
			t.Errorf("%s: %d, noted as %+v", tt.rule, w.Code, got)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); challenge != tt.challenge {
			t.Errorf("%s: the challenge is\n%s, want\n%s", tt.rule, challenge, tt.challenge)
		}
		if later := w.Header().Get("Retry-After") != ""; later != (tt.status == http.StatusServiceUnavailable) {
			t.Errorf("%s: Retry-After is there: %v", tt.rule, later)
		}
	}
}

func TestAnUpstreamsRefusalIsTold(t *testing.T) {
	d := newDoor(t)
	for status, want := range map[int]int{http.StatusUnauthorized: 1, http.StatusForbidden: 0, http.StatusOK: 0} {
		told := 0
		a, _ := d.Answer(httptest.NewRecorder(), request("POST", "/mcp"), "/mcp", gate.Pass{})
		a.Unauthorized = func() { told++ }
		a.WriteHeader(status)
		a.WriteHeader(status)
		a.Close()
		if told != want {
			t.Errorf("a %d was told %d times, want %d", status, told, want)
		}
	}
}
