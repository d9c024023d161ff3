package authserver_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// setClockBack makes the sessions that there are begin in an hour, as they do once a
// clock that was wrong has been set right.
func (s *site) setClockBack() {
	s.t.Helper()
	for key := range s.keys() {
		if !strings.Contains(key, "/session/") {
			continue
		}
		r, err := s.store.Inner().Get(s.t.Context(), key)
		if err != nil {
			s.t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(r.Value, &fields); err != nil {
			s.t.Fatal(err)
		}
		later, err := json.Marshal(time.Now().Add(time.Hour))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Value = bytes.Replace(r.Value, fields["since"], later, 1)
		if err := s.store.Inner().Put(s.t.Context(), key, r); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A sign-in that is yet to come says nothing about how long ago it was.
func TestAClockThatIsSetBackMakesNoSignInRecent(t *testing.T) {
	s, _, b := withPasskey(t)
	id := s.register()
	s.setClockBack()
	for _, path := range []string{
		"/account/factor", "/account/passkey",
		"/authorize?" + authorization(id, "prompt", "login").Encode(), "/authorize?" + authorization(id, "max_age", "60").Encode(),
	} {
		if p := b.get(path); !p.has("/login") {
			t.Errorf("%s takes the session for a new one: %d", path, p.status)
		}
	}
	if p := b.get("/account").send("/account/passkey/remove"); !p.has("/login") {
		t.Errorf("a passkey was removed: %d", p.status)
	}
	if p := b.get("/authorize?" + authorization(id).Encode()); !p.has("/authorize") || p.has("/login") {
		t.Errorf("a request that does not mind: %d", p.status)
	}
}
