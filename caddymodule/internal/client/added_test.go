package client_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func add(t testing.TB, d *client.Directory, a client.Addition) (*client.Client, string) {
	t.Helper()
	c, secret, err := d.Add(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return c, secret
}

func TestAnAddedClientIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDirectory(t, client.Config{})
		_, secret := add(t, d, client.Addition{ID: "nightly/report", Scopes: []string{"mcp"}})
		_, none := add(t, d, client.Addition{ID: "App", Name: "The app", RedirectURIs: []string{"https://app.example/cb"}, Public: true})
		_, key := add(t, d, client.Addition{ID: "signer", JWKSURI: "https://10.0.0.1/jwks.json"})
		if len(secret) < 40 || none != "" || key != "" {
			t.Errorf("the secrets are %q, %q and %q", secret, none, key)
		}
		time.Sleep(10 * 365 * 24 * time.Hour) // nobody uses them, and they stay
		report, err := d.Get(t.Context(), "nightly/report")
		if err != nil {
			t.Fatal(err)
		}
		if report.Kind != client.Added || !report.ByOperator() || report.Name != "nightly/report" || report.Public() ||
			!slices.Equal(report.GrantTypes, []string{"client_credentials"}) || !slices.Equal(report.Scopes, oauth.Scopes{"mcp"}) {
			t.Errorf("got %+v", report)
		}
		for presented, want := range map[string]bool{secret: true, secret[1:]: false, "": false} {
			if ok, err := report.Secret.Check(t.Context(), presented); ok != want || err != nil {
				t.Errorf("the secret %q: %v, %v", presented, ok, err)
			}
		}
		app, err := d.Get(t.Context(), "App")
		if err != nil || !app.Public() || app.Name != "The app" || app.Scopes != nil || !app.Allows("refresh_token") || !app.Redirects("https://app.example/cb") {
			t.Errorf("got %+v, %v", app, err)
		}
		if signer, err := d.Get(t.Context(), "signer"); err != nil || !signer.Signs() || signer.Public() {
			t.Errorf("got %+v, %v", signer, err)
		}
		for _, other := range []string{"app", "nightly", "report", "nightly/report/", "Nightly/report"} {
			if c, err := d.Get(t.Context(), other); !errors.Is(err, client.ErrUnknown) {
				t.Errorf("%q is %+v, %v", other, c, err)
			}
		}
		for key := range s.Inner().Keys(t.Context(), "") {
			r, err := s.Inner().Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(r.Value, []byte(secret)) || !r.Expires.IsZero() {
				t.Errorf("the store has %s until %v", r.Value, r.Expires)
			}
			if err := client.CheckAdded(strings.TrimPrefix(key, prefix+"added/"), r.Value); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
}

func TestAClientCannotBeAddedTwice(t *testing.T) {
	d, _ := newDirectory(t, client.Config{})
	_, secret := add(t, d, client.Addition{ID: "robot"})
	if _, _, err := d.Add(t.Context(), client.Addition{ID: "robot", Public: true, RedirectURIs: []string{"https://app.example/cb"}}); !errors.Is(err, client.ErrExists) {
		t.Errorf("got %v", err)
	}
	c, err := d.Get(t.Context(), "robot")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := c.Secret.Check(t.Context(), secret); !ok || err != nil {
		t.Errorf("the first one has lost its secret: %v", err)
	}
}

func TestAdditionsThatCannotBe(t *testing.T) {
	uris := []string{"https://app.example/cb"}
	for rule, a := range map[string]client.Addition{
		"no id":                           {},
		"a space":                         {ID: "a b"},
		"a control character":             {ID: "a\x1b[31m"},
		"a NUL":                           {ID: "a\x00"},
		"a letter beyond ASCII":           {ID: "é"},
		"a long id":                       {ID: strings.Repeat("a", 129)},
		"the address of a document":       {ID: "https://app.example/client.json"},
		"another address":                 {ID: "ftp://app.example/"},
		"the name of a user of a login":   {ID: "google:1"},
		"the prefix of registrations":     {ID: "mcp_robot"},
		"a name with a line break":        {ID: "a", Name: "x\ny"},
		"a long name":                     {ID: "a", Name: strings.Repeat("x", 201)},
		"script":                          {ID: "a", RedirectURIs: []string{"javascript:alert(1)"}},
		"a placeholder":                   {ID: "a", RedirectURIs: []string{"{env.URL}"}},
		"many redirect URIs":              {ID: "a", RedirectURIs: slices.Repeat(uris, 33)},
		"an unknown grant type":           {ID: "a", GrantTypes: []string{"password"}},
		"people without a redirect URI":   {ID: "a", GrantTypes: []string{"authorization_code"}},
		"refresh tokens alone":            {ID: "a", RedirectURIs: uris, GrantTypes: []string{"refresh_token"}},
		"a public service account":        {ID: "a", Public: true},
		"a public client that acts alone": {ID: "a", Public: true, RedirectURIs: uris, GrantTypes: []string{"client_credentials"}},
		"a public client with keys":       {ID: "a", Public: true, RedirectURIs: uris, JWKSURI: "https://app.example/jwks"},
		"keys over http":                  {ID: "a", JWKSURI: "http://app.example/jwks"},
		"a scope that is none":            {ID: "a", Scopes: []string{`"`}},
	} {
		t.Run(rule, func(t *testing.T) {
			d, s := newDirectory(t, client.Config{})
			_, _, err := d.Add(t.Context(), a)
			if _, ok := errors.AsType[client.AdditionError](err); !ok {
				t.Errorf("got %v", err)
			}
			if n := len(s.Calls()); n != 0 {
				t.Errorf("%d calls to the store", n)
			}
		})
	}
}

func TestTheUseOfAnAddedClientIsNotedOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDirectory(t, client.Config{})
		add(t, d, client.Addition{ID: "robot"})
		before := len(s.Calls())
		for range 24 * 10 {
			c, err := d.Get(t.Context(), "robot")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Touch(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		writes := 0
		for _, call := range s.Calls()[before:] {
			if call.Method == storetest.Update {
				writes++
			}
		}
		if writes != 10 {
			t.Errorf("%d writes in ten days", writes)
		}
		c, err := d.Get(t.Context(), "robot")
		if err != nil || time.Since(c.LastUsed) > 25*time.Hour {
			t.Errorf("got %+v, %v", c, err)
		}
		if err := d.Remove(t.Context(), "robot"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if err := d.Touch(t.Context(), c); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("touching it after its removal: %v", err)
		}
	})
}

func TestAddedClientsWithAStoreThatFails(t *testing.T) {
	d, s := newDirectory(t, client.Config{})
	c, _ := add(t, d, client.Addition{ID: "robot"})
	s.FailMethods(storetest.Before)
	_, getErr := d.Get(t.Context(), "robot")
	_, _, addErr := d.Add(t.Context(), client.Addition{ID: "other"})
	for name, err := range map[string]error{"Get": getErr, "Add": addErr, "Touch": d.Touch(t.Context(), c), "Remove": d.Remove(t.Context(), "robot")} {
		if !errors.Is(err, storetest.ErrInjected) || errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s: got %v, want the store's error", name, err)
		}
	}
}

func TestAllClientsAreListed(t *testing.T) {
	configured := &client.Client{ID: "ci", Kind: client.Configured}
	d, s := newDirectory(t, client.Config{Configured: []*client.Client{configured}})
	add(t, d, client.Addition{ID: "robot"})
	add(t, d, client.Addition{ID: "ci"}) // which the configuration overrules
	id := register(t, d, publicBody).ClientID
	list := func() (ids []string) {
		t.Helper()
		for c, err := range d.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, c.ID)
		}
		slices.Sort(ids)
		return ids
	}
	want := []string{"ci", "ci", "robot", id}
	slices.Sort(want)
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, err := d.Get(t.Context(), "ci"); err != nil || got != configured {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, gone := range []string{"ci", id, "nobody", "https://nobody.example/c"} {
		if err := d.Remove(t.Context(), gone); err != nil {
			t.Errorf("removing %s: %v", gone, err)
		}
		if c, err := d.Stored(t.Context(), gone); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s is still stored: %+v, %v", gone, c, err)
		}
	}
	if got := list(); !slices.Equal(got, []string{"ci", "robot"}) {
		t.Errorf("got %v", got)
	}
	s.FailMethods(storetest.Before, storetest.List)
	var last error
	for _, last = range d.All(t.Context()) {
	}
	if !errors.Is(last, storetest.ErrInjected) {
		t.Errorf("with a store that fails: %v", last)
	}
}
