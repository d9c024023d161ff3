package client_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	prefix      = "test/"
	expireAfter = 30 * 24 * time.Hour
)

func newDirectory(t testing.TB, cfg client.Config) (*client.Directory, *storetest.Faulty) {
	s := storetest.NewFaulty(memstore.New(0))
	t.Cleanup(func() { _ = s.Close() })
	if cfg.ExpireAfter == 0 {
		cfg.ExpireAfter = expireAfter
	}
	return client.NewDirectory(s, prefix, cfg), s
}

func metadata(t testing.TB, body string) oauth.ClientMetadata {
	t.Helper()
	m, err := oauth.DecodeClientMetadata([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Normalize(); err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	publicBody  = `{"client_name":"App","redirect_uris":["https://app.example/cb"]}`
	secretBody  = `{"client_name":"App","redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"client_secret_post"}`
	machineBody = `{"client_name":"Bot","grant_types":["client_credentials"]}`
)

func register(t testing.TB, d *client.Directory, body string) *oauth.ClientInformation {
	t.Helper()
	info, err := d.Register(t.Context(), metadata(t, body))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// wantCode demands a refusal with the code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if refusal, ok := errors.AsType[*oauth.Error](err); !ok || refusal.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestARegisteredClientIsFound(t *testing.T) {
	for _, tc := range []struct {
		rule, body string
		public     bool
	}{
		{"a public client", publicBody, true},
		{"a confidential client", secretBody, false},
		{"a service account", machineBody, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			d, _ := newDirectory(t, client.Config{})
			info := register(t, d, tc.body)
			if public := info.ClientSecret == ""; public != tc.public || (info.ClientSecretExpiresAt == nil) != tc.public {
				t.Errorf("secret %q, expiry %v", info.ClientSecret, info.ClientSecretExpiresAt)
			}
			c, err := d.Get(t.Context(), info.ClientID)
			if err != nil {
				t.Fatal(err)
			}
			if c.ID != info.ClientID || c.Kind != client.Registered || c.Name != info.ClientName || c.Public() != tc.public ||
				c.AuthMethod != info.TokenEndpointAuthMethod || c.Scopes != nil || c.Issued.Unix() != info.ClientIDIssuedAt {
				t.Errorf("got %+v of %+v", c, info)
			}
			if diff := cmp.Diff(info.RedirectURIs, c.RedirectURIs); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(info.GrantTypes, c.GrantTypes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIDsAreNoURLsAndUnique(t *testing.T) {
	d, _ := newDirectory(t, client.Config{})
	seen := map[string]bool{}
	for range 100 {
		info := register(t, d, secretBody)
		if seen[info.ClientID] || seen[info.ClientSecret] || strings.HasPrefix(info.ClientID, "http") || len(info.ClientSecret) < 40 {
			t.Fatalf("got %s with the secret %s", info.ClientID, info.ClientSecret)
		}
		seen[info.ClientID], seen[info.ClientSecret] = true, true
	}
}

func TestSecrets(t *testing.T) {
	d, s := newDirectory(t, client.Config{})
	info, other := register(t, d, secretBody), register(t, d, secretBody)
	c, err := d.Get(t.Context(), info.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(info.ClientSecret))
	for _, tc := range []struct {
		rule, secret string
		want         bool
	}{
		{"the secret", info.ClientSecret, true},
		{"nothing", "", false},
		{"the secret of another client", other.ClientSecret, false},
		{"the secret in other case", strings.ToLower(info.ClientSecret), false},
		{"a part of the secret", info.ClientSecret[1:], false},
		{"the secret and more", info.ClientSecret + "\x00", false},
		{"what the store has", string(sum[:]), false},
	} {
		if got, err := c.Secret.Check(t.Context(), tc.secret); err != nil || got != tc.want {
			t.Errorf("%s: %v, %v; want %v", tc.rule, got, err, tc.want)
		}
	}
	for key, err := range s.Inner().Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Inner().Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(r.Value, []byte(info.ClientSecret)) || strings.Contains(key, info.ClientSecret) {
			t.Errorf("the store has the secret in clear: %s", r.Value)
		}
		if encoded := base64.StdEncoding.EncodeToString([]byte(info.ClientSecret)); bytes.Contains(r.Value, []byte(encoded)) {
			t.Errorf("the store has the secret in base64: %s", r.Value)
		}
	}
}

func TestUnknownClients(t *testing.T) {
	d, s := newDirectory(t, client.Config{Configured: []*client.Client{{ID: "ci"}}})
	info := register(t, d, publicBody)
	before := len(s.Calls())
	for _, id := range []string{
		"", "mcp_", "x", "CI", "https://app.example/", "http://app.example/client.json", "mcp_" + strings.Repeat("A", 25), "mcp_" + strings.Repeat("A", 27),
		"MCP_" + strings.TrimPrefix(info.ClientID, "mcp_"), strings.TrimPrefix(info.ClientID, "mcp_"), info.ClientID + "/",
		"mcp_" + strings.Repeat("/", 26), "mcp_" + strings.Repeat("\x00", 26), "mcp_" + strings.Repeat("é", 13), strings.Repeat("mcp_", 10_000),
	} {
		if c, err := d.Get(t.Context(), id); !errors.Is(err, client.ErrUnknown) || c != nil {
			t.Errorf("Get(%q) = %v, %v; want ErrUnknown", id, c, err)
		}
	}
	// What has the form of no id is not looked for, and other ids under a hash.
	hashed := regexp.MustCompile(`^test/added/[A-Z2-7]{52}$`)
	for _, call := range s.Calls()[before:] {
		if call.Method != storetest.Get || !hashed.MatchString(call.Key) {
			t.Errorf("ids that the server cannot have made led to %v", call)
		}
	}
	if calls := len(s.Calls()) - before; calls != 4 {
		t.Errorf("%d calls to the store, want one for each id that an operator could have chosen", calls)
	}
	if _, err := d.Get(t.Context(), "mcp_"+strings.Repeat("A", 26)); !errors.Is(err, client.ErrUnknown) {
		t.Errorf("an id of the right form: %v, want ErrUnknown", err)
	}
}

func TestConfiguredClientsStandBeforeTheStore(t *testing.T) {
	configured := &client.Client{ID: "mcp_" + strings.Repeat("A", 26), Kind: client.Configured, Name: "configured"}
	d, s := newDirectory(t, client.Config{Configured: []*client.Client{configured}})
	s.FailMethods(storetest.Before)
	got, err := d.Get(t.Context(), configured.ID)
	if err != nil || got != configured {
		t.Errorf("got %v, %v", got, err)
	}
	if err := d.Touch(t.Context(), got); err != nil {
		t.Errorf("touching it: %v", err)
	}
}

func TestPolicyOfRegistration(t *testing.T) {
	const mixed = `{"redirect_uris":["https://app.example/cb","https://evil.example/cb"]}`
	for _, tc := range []struct {
		rule   string
		policy client.HostPolicy
		body   string
		code   string // "" when it is permitted
	}{
		{"no policy", client.HostPolicy{}, mixed, ""},
		{"a listed host", client.HostPolicy{Hosts: []string{"app.example"}}, publicBody, ""},
		{"one host that is not listed", client.HostPolicy{Hosts: []string{"app.example"}}, mixed, "invalid_redirect_uri"},
		{"off", client.HostPolicy{Off: true}, publicBody, "access_denied"},
		{"off holds for clients without a redirect URI", client.HostPolicy{Off: true}, machineBody, "access_denied"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			d, s := newDirectory(t, client.Config{Policy: tc.policy})
			info, err := d.Register(t.Context(), metadata(t, tc.body))
			if tc.code == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			wantCode(t, err, tc.code)
			if info != nil || len(s.Calls()) != 0 {
				t.Errorf("got %v, and %d calls to the store", info, len(s.Calls()))
			}
			if tc.code == "invalid_redirect_uri" && !strings.Contains(err.Error(), "redirect_uris[1]") {
				t.Errorf("%v does not name the entry", err)
			}
		})
	}
	d, _ := newDirectory(t, client.Config{Policy: client.HostPolicy{Hosts: []string{"app.example"}}})
	if !d.Known("https://app.example/cb") || d.Known("https://evil.example/cb") {
		t.Error("Known does not follow the list")
	}
}

// Ampersands take six bytes each in the stored form, so that a body within its
// bound becomes a record beyond the store's.
func TestMetadataThatTheStoreCannotHoldIsARefusal(t *testing.T) {
	d, _ := newDirectory(t, client.Config{})
	var uris []string
	for i := range 7 {
		uris = append(uris, fmt.Sprintf(`"https://app.example/%d?%s"`, i, strings.Repeat("&", 2000)))
	}
	body := `{"redirect_uris":[` + strings.Join(uris, ",") + `]}`
	if len(body) > oauth.MaxRegistrationLength {
		t.Fatalf("the body has %d bytes, which the endpoint would refuse", len(body))
	}
	_, err := d.Register(t.Context(), metadata(t, body))
	wantCode(t, err, "invalid_client_metadata")
}

func TestRegistrationsLapse(t *testing.T) {
	for _, tc := range []struct {
		rule, body  string
		expireAfter time.Duration
		uses        []time.Duration // pauses before each use
		pause       time.Duration   // after the last one
		known       bool
	}{
		{"unused, within a day", publicBody, expireAfter, nil, client.UnusedLifetime - time.Second, true},
		{"unused, after a day", publicBody, expireAfter, nil, client.UnusedLifetime, false},
		{"a service account waits longer for its first use", machineBody, expireAfter, nil, expireAfter - time.Second, true},
		{"used once", publicBody, expireAfter, []time.Duration{0}, expireAfter - time.Second, true},
		{"used twice on one day", publicBody, expireAfter, []time.Duration{0, 23 * time.Hour}, expireAfter - time.Second, true},
		{"used long ago", publicBody, expireAfter, []time.Duration{0}, expireAfter + 24*time.Hour, false},
		{"used again and again", publicBody, expireAfter, slices.Repeat([]time.Duration{20 * time.Hour, 29 * 24 * time.Hour}, 5), 29 * 24 * time.Hour, true},
		{"a lifetime of a day and a half", publicBody, 36 * time.Hour, []time.Duration{0}, 36*time.Hour - time.Second, true},
		{"a lifetime of hours, in use", publicBody, 12 * time.Hour, slices.Repeat([]time.Duration{11 * time.Hour}, 9), 11 * time.Hour, true},
		{"a lifetime of hours, used long ago", publicBody, 12 * time.Hour, slices.Repeat([]time.Duration{11 * time.Hour}, 9), 15 * time.Hour, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, _ := newDirectory(t, client.Config{ExpireAfter: tc.expireAfter, Trusted: true})
				id := register(t, d, tc.body).ClientID
				for _, pause := range tc.uses {
					time.Sleep(pause)
					c, err := d.Get(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					if err := d.Touch(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(tc.pause)
				_, err := d.Get(t.Context(), id)
				if tc.known && err != nil || !tc.known && !errors.Is(err, client.ErrUnknown) {
					t.Errorf("got %v, want it to be known: %v", err, tc.known)
				}
			})
		})
	}
}

func TestTouchWritesAboutOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDirectory(t, client.Config{})
		id := register(t, d, publicBody).ClientID
		before := len(s.Calls())
		for range 30 * 24 * 4 {
			time.Sleep(15 * time.Minute)
			c, err := d.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Touch(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		writes := 0
		for _, call := range s.Calls()[before:] {
			if call.Method != storetest.Get {
				writes++
			}
		}
		if writes < 25 || writes > 31 {
			t.Errorf("%d writes in 30 days of use", writes)
		}
	})
}

func TestTouchBringsNoClientBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDirectory(t, client.Config{})
		c, err := d.Get(t.Context(), register(t, d, publicBody).ClientID)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(client.UnusedLifetime)
		if err := d.Touch(t.Context(), c); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("touching it: %v, want ErrUnknown", err)
		}
		for key := range s.Inner().Keys(t.Context(), "") {
			t.Errorf("%s is there", key)
		}
	})
}

func TestAStoreThatFailsIsNoRefusal(t *testing.T) {
	d, s := newDirectory(t, client.Config{})
	info := register(t, d, publicBody)
	c, err := d.Get(t.Context(), info.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	s.FailMethods(storetest.Before)
	_, getErr := d.Get(t.Context(), info.ClientID)
	_, registerErr := d.Register(t.Context(), metadata(t, publicBody))
	for name, err := range map[string]error{"Get": getErr, "Register": registerErr, "Touch": d.Touch(t.Context(), c)} {
		if _, refusal := errors.AsType[*oauth.Error](err); refusal || errors.Is(err, client.ErrUnknown) || !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("%s: got %v, want the store's error: clients answer refusals by registering again", name, err)
		}
	}
}

func TestARecordThatCannotBeReadIsNoUnknownClient(t *testing.T) {
	for _, tc := range []struct{ rule, value, says string }{
		{"damaged", `{"v":1`, "cannot be read"},
		{"of a newer program", `{"v":2}`, "version 2; this program reads version 1"},
	} {
		d, s := newDirectory(t, client.Config{})
		id := register(t, d, publicBody).ClientID
		for key := range s.Inner().Keys(t.Context(), "") {
			if err := s.Inner().Put(t.Context(), key, store.Record{Value: []byte(tc.value)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Get(t.Context(), id); err == nil || errors.Is(err, client.ErrUnknown) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want an error that says %q", tc.rule, err, tc.says)
		}
	}
}

func TestRegistrationsAtOnceAreAllKept(t *testing.T) {
	d, _ := newDirectory(t, client.Config{})
	ids := make([]string, 50)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if info, err := d.Register(t.Context(), metadata(t, publicBody)); err == nil {
				ids[i] = info.ClientID
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if _, err := d.Get(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
