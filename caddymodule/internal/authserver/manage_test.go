package authserver_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const all = 1000 // more than a test makes

// tokensOf goes through the whole flow as a user.
func (s *site) tokensOf(name, clientID string) answer {
	s.t.Helper()
	p := s.browser().get("/authorize?"+authorization(clientID).Encode()).signIn(name, password)
	return s.issued(redemption(clientID, p.submit("decision", "allow").handedOff().Get("code")))
}

func (s *site) grants(filter authserver.GrantFilter) []authserver.GrantInfo {
	s.t.Helper()
	list, leftOut, err := s.Grants(s.t.Context(), filter, all)
	if err != nil || leftOut != 0 {
		s.t.Fatalf("%d left out, %v", leftOut, err)
	}
	return list
}

func TestGrantsAreListedAndRevoked(t *testing.T) {
	s := newSite(t)
	first, second := s.register(), s.register()
	ofAlice, ofBob := s.tokensOf("alice", first), s.tokensOf("bob", first)
	s.tokensOf("alice", second)
	s.browser().code(authorization(first)) // which nobody redeems
	for filter, want := range map[authserver.GrantFilter]int{
		{}: 3, {User: "alice"}: 2, {User: "bob"}: 1, {User: "carol"}: 0, {ClientID: first}: 2, {ClientID: "x"}: 0,
		{User: "alice", ClientID: second}: 1, {User: "bob", ClientID: second}: 0,
	} {
		if got := s.grants(filter); len(got) != want {
			t.Errorf("%+v: %+v, want %d", filter, got, want)
		}
	}
	list, leftOut, err := s.Grants(t.Context(), authserver.GrantFilter{}, 1)
	if err != nil || len(list) != 1 || leftOut != 2 || list[0].ClientID != second {
		t.Errorf("of one the list is %+v with %d left out, %v", list, leftOut, err)
	}
	g := s.grants(authserver.GrantFilter{User: "bob"})[0]
	if g.User != "bob" || g.Name != "bob@example.com" || g.ClientID != first || g.Scopes.String() != "mcp" || g.Resource != resource ||
		g.Created.IsZero() || g.LastUsed.Before(g.Created) || time.Until(g.Expires) < 29*24*time.Hour {
		t.Errorf("got %+v", g)
	}
	revoked, ended, err := s.RevokeGrant(t.Context(), g.ID)
	if err != nil || ended != 1 || revoked.User != "bob" {
		t.Errorf("got %+v, %d, %v", revoked, ended, err)
	}
	if s.good(ofBob.text("access_token")) || !s.good(ofAlice.text("access_token")) {
		t.Error("the wrong access token has ended")
	}
	s.token(renewal(first, ofBob.text("refresh_token"))).refused(t, 400, "invalid_grant")
	for _, id := range []string{g.ID, "", "x", strings.Repeat("0", 42), strings.Repeat("../", 14)} {
		if _, _, err := s.RevokeGrant(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revoking %q: %v", id, err)
		}
	}
	if got := s.grants(authserver.GrantFilter{}); len(got) != 2 {
		t.Errorf("%d grants are left", len(got))
	}
}

func TestUsersAreListedAndSignedOut(t *testing.T) {
	s := newSite(t)
	id := s.register()
	tokens := s.tokensOf("alice", id)
	s.tokensOf("alice", id)
	s.tokensOf("bob", id)
	users, leftOut, err := s.Users(t.Context(), []string{"alice", "bob"}, all)
	if err != nil || leftOut != 0 || len(users) != 2 || users[0].User != "bob" {
		t.Fatalf("got %+v, %d, %v", users, leftOut, err)
	}
	if u := users[1]; u.User != "alice" || u.Name != "alice@example.com" || u.Provider != "local" || u.Sessions != 2 || u.Grants != 2 || u.LastUsed.IsZero() {
		t.Errorf("got %+v", u)
	}
	s.users.change(func(known map[string]login.Identity) {
		known["carol"] = login.Identity{Subject: "carol", Provider: "local"}
	})
	if users, leftOut, err = s.Users(t.Context(), []string{"carol", "dave"}, 2); err != nil || len(users) != 2 || leftOut != 1 {
		t.Errorf("with a user who was never here: %+v, %d, %v", users, leftOut, err)
	}
	sessions, grants, err := s.SignOut(t.Context(), "alice", false)
	if err != nil || sessions != 2 || grants != 0 || !s.good(tokens.text("access_token")) {
		t.Errorf("signed out of %d browsers and %d grants, %v; good: %v", sessions, grants, err, s.good(tokens.text("access_token")))
	}
	sessions, grants, err = s.SignOut(t.Context(), "alice", true)
	if err != nil || sessions != 0 || grants != 2 || s.good(tokens.text("access_token")) {
		t.Errorf("signed out of %d browsers and %d grants, %v; good: %v", sessions, grants, err, s.good(tokens.text("access_token")))
	}
	s.token(renewal(id, tokens.text("refresh_token"))).refused(t, 400, "invalid_grant")
	users, _, err = s.Users(t.Context(), nil, all)
	if err != nil || len(users) != 1 || users[0].User != "bob" || users[0].Sessions != 1 {
		t.Errorf("afterwards: %+v, %v", users, err)
	}
}

// add makes a client as an operator does.
func (s *site) add(a client.Addition) (secret string) {
	s.t.Helper()
	info, secret, err := s.AddClient(s.t.Context(), a)
	if err != nil || info.ID != a.ID || info.Kind != "added" {
		s.t.Fatalf("adding %s: %+v, %v", a.ID, info, err)
	}
	return secret
}

// What a user has allowed ends with the rest before anybody has come for it.
func TestSigningOutWithAllGrantsLeavesNothingOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, withDevices)
		id, d := s.register(), s.startDevice(s.registerDevice())
		b := s.browser()
		code := b.code(authorization(id))
		b.deviceConsent(d).decide("allow")
		if sessions, grants, err := s.SignOut(t.Context(), "alice", true); sessions != 1 || grants != 0 || err != nil {
			t.Errorf("%d sessions, %d grants, %v", sessions, grants, err)
		}
		s.token(redemption(id, code)).refused(t, 400, "invalid_grant")
		s.token(polling(d)).refused(t, 400, "access_denied")
	})
}

func TestAnAddedClientGoesTheWholeWay(t *testing.T) {
	s := newSite(t)
	secret := s.add(client.Addition{ID: "nightly", Scopes: []string{"mcp"}})
	s.add(client.Addition{ID: "desktop", Name: "Desktop", Public: true, RedirectURIs: []string{callback}})
	values := url.Values{"grant_type": {"client_credentials"}}
	s.token(values, "nightly", "wrong").refused(t, 401, "invalid_client")
	machine := s.issued(with(url.Values{"scope": {"mcp bugs:write"}}, "grant_type", "client_credentials"), "nightly", secret)
	if machine.text("scope") != "mcp" {
		t.Errorf("it got the scopes %q", machine.text("scope"))
	}
	page := s.browser().consent(authorization("desktop"))
	if !strings.Contains(page.body, "Added by whoever runs this server") || !strings.Contains(page.body, "Desktop") {
		t.Errorf("the page says %s", page.body)
	}
	person := s.tokens("desktop")

	info, err := s.Client(t.Context(), "nightly")
	if err != nil || info.Kind != "added" || info.AuthMethod != "client_secret" || info.LastUsed.IsZero() || info.Grants != 0 || info.Scopes.String() != "mcp" {
		t.Errorf("got %+v, %v", info, err)
	}
	if info, err = s.Client(t.Context(), "desktop"); err != nil || info.AuthMethod != "none" || info.Grants != 1 {
		t.Errorf("got %+v, %v", info, err)
	}
	for id, want := range map[string]authserver.Removal{
		"nightly": {ClientID: "nightly", Kind: "added"}, "desktop": {ClientID: "desktop", Kind: "added", Grants: 1},
	} {
		if got, err := s.RemoveClient(t.Context(), id); err != nil || got != want {
			t.Errorf("removing %s: %+v, %v", id, got, err)
		}
		if _, err := s.RemoveClient(t.Context(), id); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("removing %s again: %v", id, err)
		}
	}
	if s.good(machine.text("access_token")) || s.good(person.text("access_token")) {
		t.Error("an access token of a client that was removed is good")
	}
	s.token(values, "nightly", secret).refused(t, 401, "invalid_client")
	s.token(renewal("desktop", person.text("refresh_token"))).refused(t, 401, "invalid_client")
}

func TestAnIDIsFreeAMinuteAfterItsRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		secret := s.add(client.Addition{ID: "nightly"})
		s.add(client.Addition{ID: "desktop", Public: true, RedirectURIs: []string{callback}})
		old := s.issued(url.Values{"grant_type": {"client_credentials"}}, "nightly", secret)
		person := s.tokens("desktop")
		for _, id := range []string{"nightly", "desktop"} {
			if _, err := s.RemoveClient(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := s.AddClient(t.Context(), client.Addition{ID: "nightly"})
		if _, resting := errors.AsType[*authserver.RestingError](err); !resting || !strings.Contains(err.Error(), "in 61 seconds") {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(60 * time.Second)
		if _, _, err := s.AddClient(t.Context(), client.Addition{ID: "nightly"}); err == nil {
			t.Error("it is free in the last second whose tokens are refused")
		}
		time.Sleep(time.Second)
		again := s.add(client.Addition{ID: "nightly"})
		s.add(client.Addition{ID: "desktop", Public: true, RedirectURIs: []string{callback}})
		fresh := s.issued(url.Values{"grant_type": {"client_credentials"}}, "nightly", again)
		if s.good(old.text("access_token")) || !s.good(fresh.text("access_token")) {
			t.Error("the wrong access token is good")
		}
		s.token(url.Values{"grant_type": {"client_credentials"}}, "nightly", secret).refused(t, 401, "invalid_client")
		// What people had allowed the client of before does not come back.
		s.token(renewal("desktop", person.text("refresh_token"))).refused(t, 400, "invalid_grant")
		if s.good(person.text("access_token")) {
			t.Error("an access token of the client of before is good")
		}
	})
}

func TestClientsThatCannotBeAdded(t *testing.T) {
	s := newSite(t)
	s.add(client.Addition{ID: "robot2"})
	for rule, c := range map[string]struct {
		a    client.Addition
		want string
	}{
		"one of the configuration": {client.Addition{ID: robotID}, "the configuration has"},
		"one that was added":       {client.Addition{ID: "robot2"}, "already"},
		"a user":                   {client.Addition{ID: "alice"}, "is a user"},
		"an unknown scope":         {client.Addition{ID: "x", Scopes: []string{"nonsense"}}, "no scope"},
		"the grant of devices":     {client.Addition{ID: "x", GrantTypes: []string{oauth.GrantDeviceCode}}, "device_authorization on"},
		"an id that is none":       {client.Addition{ID: "a b"}, "no id"},
	} {
		before := len(s.store.Calls())
		if _, _, err := s.AddClient(t.Context(), c.a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", rule, err, c.want)
		}
		for _, call := range s.store.Calls()[before:] {
			if rule != "one that was added" {
				t.Errorf("%s: %v", rule, call)
			}
		}
	}
}

func TestTheConfigurationOverrulesWhatWasAdded(t *testing.T) {
	s := newSite(t)
	s.add(client.Addition{ID: "ci"})
	s.reopen(func(cfg *authserver.Config) {
		cfg.Clients = append(cfg.Clients, &client.Client{ID: "ci", Name: "CI", GrantTypes: []string{oauth.GrantClientCredentials}, Secret: plainSecret("configured-secret")})
	})
	tokens := s.issued(url.Values{"grant_type": {"client_credentials"}}, "ci", "configured-secret")
	clients, _, err := s.Clients(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, c := range clients {
		if c.ID == "ci" {
			kinds[fmt.Sprint(c.Kind, c.Overruled)] = true
		}
	}
	if !kinds["configuredfalse"] || !kinds["addedtrue"] || len(kinds) != 2 {
		t.Errorf("it is listed as %v", kinds)
	}
	if info, err := s.Client(t.Context(), "ci"); err != nil || info.Kind != "configured" {
		t.Errorf("got %+v, %v", info, err)
	}
	if got, err := s.RemoveClient(t.Context(), "ci"); err != nil || !got.StillConfigured || got.Kind != "added" {
		t.Errorf("removing it: %+v, %v", got, err)
	}
	if !s.good(tokens.text("access_token")) {
		t.Error("the client of the configuration has lost its tokens")
	}
	s.issued(url.Values{"grant_type": {"client_credentials"}}, "ci", "configured-secret")
	if _, err := s.RemoveClient(t.Context(), "ci"); !errors.Is(err, authserver.ErrConfigured) {
		t.Errorf("removing it again: %v", err)
	}
}

func TestAnAddedClientIsNoUser(t *testing.T) {
	s := newSite(t)
	secret := s.add(client.Addition{ID: "carol"})
	s.issued(url.Values{"grant_type": {"client_credentials"}}, "carol", secret)
	s.users.change(func(known map[string]login.Identity) {
		known["carol"] = login.Identity{Subject: "carol", Provider: "local"}
	})
	s.token(url.Values{"grant_type": {"client_credentials"}}, "carol", secret).refused(t, 400, "unauthorized_client")
}

func TestOtherClientsAreListedAndRemoved(t *testing.T) {
	s, _, _ := newDocumentSite(t, nil)
	registered := s.register()
	tokens, ofDocument := s.tokens(registered), s.tokens(documentID)
	for range 3 {
		s.register() // which nobody uses
	}
	clients, leftOut, err := s.Clients(t.Context(), 3)
	if err != nil || len(clients) != 3 || leftOut != 4 {
		t.Fatalf("got %+v, %d left out, %v", clients, leftOut, err)
	}
	if c := clients[0]; c.ID != documentID || c.Kind != "document" || c.Name != "App" || c.Grants != 1 || c.LastUsed.IsZero() || c.ClientDetails != nil {
		t.Errorf("the first one is %+v", c)
	}
	if c := clients[1]; c.ID != registered || c.Kind != "registered" || c.Grants != 1 || c.Issued.IsZero() || c.Expires.IsZero() {
		t.Errorf("the second one is %+v", c)
	}
	for _, id := range []string{documentID, registered} {
		if got, err := s.RemoveClient(t.Context(), id); err != nil || got.Grants != 1 {
			t.Errorf("removing %s: %+v, %v", id, got, err)
		}
		if _, err := s.Client(t.Context(), id); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s is still there: %v", id, err)
		}
	}
	if s.good(tokens.text("access_token")) || s.good(ofDocument.text("access_token")) {
		t.Error("an access token is still good")
	}
	s.token(renewal(registered, tokens.text("refresh_token"))).refused(t, 401, "invalid_client")
	s.token(renewal(documentID, ofDocument.text("refresh_token"))).refused(t, 401, "invalid_client")
	// People can allow it again, and what they had allowed before stays away.
	b := s.browser()
	again := s.issued(redemption(documentID, b.code(authorization(documentID))))
	s.token(renewal(documentID, ofDocument.text("refresh_token"))).refused(t, 400, "invalid_grant")
	if again.StatusCode != http.StatusOK {
		t.Errorf("once more: %d", again.StatusCode)
	}
}

// What a fault has interrupted can be done again until nothing is left.
func TestARemovalSurvivesFaultsOfTheStore(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t)
		secret := s.add(client.Addition{ID: "both", RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "client_credentials"}})
		person := s.issued(redemption("both", s.browser().code(authorization("both")), "client_secret", secret))
		machine := s.issued(url.Values{"grant_type": {"client_credentials"}}, "both", secret)
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		_, err := s.RemoveClient(t.Context(), "both")
		calls := s.store.Calls()[before:]
		if err != nil {
			if !errors.Is(err, storetest.ErrInjected) {
				t.Errorf("call %d fails %s: %v", n, when, err)
			}
			if _, err := s.RemoveClient(t.Context(), "both"); err != nil && !errors.Is(err, client.ErrUnknown) {
				t.Errorf("call %d fails %s, and then: %v", n, when, err)
			}
			if !slices.ContainsFunc(s.events(), func(e map[string]any) bool { return e["event"] == "client.remove" }) {
				t.Errorf("call %d fails %s, and nothing tells of the removal", n, when)
			}
		}
		if s.good(person.text("access_token")) || s.good(machine.text("access_token")) || len(s.grants(authserver.GrantFilter{})) != 0 {
			t.Errorf("call %d fails %s: something is left", n, when)
		}
		s.token(url.Values{"grant_type": {"client_credentials"}}, "both", secret).refused(t, 401, "invalid_client")
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}
