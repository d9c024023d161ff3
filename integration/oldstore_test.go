package integration

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// How a folder of testdata/ is made again, or made for another version of the store:
//
//	go test -run TestWriteOldStore ./integration -old-caddy <Caddy of that version> -old-store testdata/store-v1
var (
	oldCaddy = flag.String("old-caddy", "", "a Caddy that TestWriteOldStore lets write a store")
	oldStore = flag.String("old-store", "", "the folder that TestWriteOldStore writes")
)

// oldIssuer does not depend on a port, since what is in a store belongs to its issuer.
const oldIssuer = "https://mcp.test"

// oldGateway runs on a store file. Nothing in it expires during the life of this project.
func oldGateway(t *testing.T, binary, file, more string) *gateway {
	t.Helper()
	return startGateway(t, gatewayConfig{issuer: oldIssuer, binary: binary, site: "mcp_auth " + startBackend(t) + ` {
		issuer ` + oldIssuer + `
		` + userLine + `
		store file ` + file + `
		access_token_lifetime 36500d
		refresh_token_lifetime 36500d
		session_lifetime 36500d
		registration {
			expire_after 36500d
			service_accounts open
		}
		` + more + `
	}`})
}

// oldState is what clients and a browser hold of a store.
type oldState struct {
	ClientID         string // public
	Access, Refresh  string
	Replaced         string // the refresh token before the one before Refresh
	Revoked          oldTokens
	Confidential     oldClient
	ConfidentialTook oldTokens
	Service          oldClient
	ServiceAccess    string
	Cookies          string // of a browser that is signed in
}

type oldTokens struct{ Access, Refresh string }

type oldClient struct{ ID, Secret string }

// TestOldStore opens a store that an earlier version has written. Everybody goes on as if nothing had been, and what was
// ended stays ended.
func TestOldStore(t *testing.T) {
	t.Parallel()
	openStores(t, "testdata/store-*", func(t *testing.T, file string, s *oldState) {
		// The signing key is older than an hour, so another one takes its place.
		g := oldGateway(t, "", file, "signing_key_lifetime 1h")
		s.checkEnded(t, g)
		s.checkGrants(t, g)
		s.checkBrowser(t, g)
		g.restart(false)
		s.checkEnded(t, g)
		s.checkBrowser(t, g)
	})
}

// openStores runs a test on a copy of each store in folders of testdata, with what clients hold of it.
func openStores[State any](t *testing.T, folders string, test func(t *testing.T, file string, s *State)) {
	t.Helper()
	found, err := filepath.Glob(folders)
	if err != nil || len(found) == 0 {
		t.Fatalf("there are no stores of earlier versions: %v", err)
	}
	for _, folder := range found {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(file, readGzip(t, filepath.Join(folder, "state.db.gz")), 0o600); err != nil {
				t.Fatal(err)
			}
			s := new(State)
			if err := json.Unmarshal(readGzip(t, filepath.Join(folder, "tokens.json.gz")), s); err != nil {
				t.Fatal(err)
			}
			test(t, file, s)
		})
	}
}

// keepStore writes such a folder.
func keepStore(t *testing.T, folder, file string, s any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeGzip(t, filepath.Join(folder, "state.db.gz"), data)
	writeGzip(t, filepath.Join(folder, "tokens.json.gz"), []byte(jsonOf(t, s)))
}

func (s *oldState) checkEnded(t *testing.T, g *gateway) {
	t.Helper()
	wantStatus(t, "the revoked access token", g.call(t, g.client, "/mcp", s.Revoked.Access), http.StatusUnauthorized)
	wantError(t, "the revoked refresh token", g.refresh(t, s.ClientID, s.Revoked.Refresh), "invalid_grant")
}

func (s *oldState) checkGrants(t *testing.T, g *gateway) {
	t.Helper()
	wantTools(t, "the access token", g.call(t, g.client, "/mcp", s.Access))
	wantTools(t, "the access token of a confidential client", g.call(t, g.client, "/mcp", s.ConfidentialTook.Access))
	wantTools(t, "the access token of a service account", g.call(t, g.client, "/mcp", s.ServiceAccess))

	gr := &grant{g: g, clientID: s.ClientID, refresh: s.Refresh}
	gr.renew(t)
	wantTools(t, "the next access token", g.call(t, g.client, "/mcp", gr.access))
	wantError(t, "a refresh token that was replaced long ago", g.refresh(t, s.ClientID, s.Replaced), "invalid_grant")
	wantStatus(t, "the access token after that", g.call(t, g.client, "/mcp", s.Access), http.StatusUnauthorized)

	renewal := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.ConfidentialTook.Refresh}}
	wantError(t, "a confidential client without its secret",
		g.postForm(t, "/token", with(renewal, "client_id", s.Confidential.ID)), "invalid_client")
	wantStatus(t, "a confidential client", g.postForm(t, "/token", s.Confidential.signed(renewal)), http.StatusOK)
	service := g.postForm(t, "/token", s.Service.signed(url.Values{"grant_type": {"client_credentials"}}))
	wantStatus(t, "a service account", service, http.StatusOK)
	wantTools(t, "the next access token of a service account", g.call(t, g.client, "/mcp", service.field(t, "access_token")))
}

// checkBrowser opens the account page, and agrees to another grant for the registered client.
func (s *oldState) checkBrowser(t *testing.T, g *gateway) {
	t.Helper()
	v := g.visitorWith(t, s.Cookies)
	if p := v.get(g.origin + "/account"); p.status != http.StatusOK || p.form("grant") == nil {
		t.Errorf("the browser is not signed in any more, or its apps are gone: %v", p)
	}
	wantStatus(t, "another code", g.postForm(t, "/token", g.codeFor(t, v, s.ClientID, nil)), http.StatusOK)
}

// visitorWith is a visitor with the cookies of an earlier time, who knows no password.
func (g *gateway) visitorWith(t *testing.T, header string) *visitor {
	t.Helper()
	v := g.newVisitor(t)
	v.password = "that of a session which is forgotten"
	site, errSite := url.Parse(g.origin)
	cookies, err := http.ParseCookie(header)
	if err := errors.Join(errSite, err); err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		c.Path, c.Secure = "/", true
	}
	v.client.Jar.SetCookies(site, cookies)
	return v
}

func (c oldClient) signed(form url.Values) url.Values {
	return with(form, "client_id", c.ID, "client_secret", c.Secret)
}

// TestWriteOldStore makes the data of TestOldStore with an old program.
func TestWriteOldStore(t *testing.T) {
	if *oldCaddy == "" || *oldStore == "" {
		t.Skip("this is no test but makes the data of one")
	}
	file := filepath.Join(t.TempDir(), "state.db")
	g := oldGateway(t, *oldCaddy, file, "")
	v := g.newVisitor(t)
	gr := g.newGrantFor(t, v, nil)
	s := oldState{ClientID: gr.clientID, Replaced: gr.refresh}
	gr.renew(t)
	gr.renew(t)
	s.Access, s.Refresh = gr.access, gr.refresh

	tokens := func(form url.Values) oldTokens {
		a := g.postForm(t, "/token", form)
		wantStatus(t, "asking for tokens", a, http.StatusOK)
		return oldTokens{a.field(t, "access_token"), a.field(t, "refresh_token")}
	}
	s.Revoked = tokens(g.codeFor(t, v, s.ClientID, nil))
	wantStatus(t, "revoking", g.postForm(t, "/revoke", url.Values{"token": {s.Revoked.Refresh}, "client_id": {s.ClientID}}), http.StatusOK)
	register := func(grants ...string) oldClient {
		a := send(t, g.client, http.MethodPost, g.origin+"/register", jsonOf(t, map[string]any{
			"client_name": "Test", "redirect_uris": []string{redirectURI}, "grant_types": grants,
			"token_endpoint_auth_method": "client_secret_post",
		}), "Content-Type", "application/json")
		wantStatus(t, "registering", a, http.StatusCreated)
		return oldClient{a.field(t, "client_id"), a.field(t, "client_secret")}
	}
	s.Confidential = register("authorization_code", "refresh_token")
	s.ConfidentialTook = tokens(s.Confidential.signed(g.codeFor(t, v, s.Confidential.ID, nil)))
	s.Service = register("client_credentials")
	s.ServiceAccess = tokens(s.Service.signed(url.Values{"grant_type": {"client_credentials"}})).Access
	s.Cookies = sessionCookie(t, v)
	g.proc.stop()
	keepStore(t, *oldStore, file, s)
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readGzip(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeGzip(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	packed := gzip.NewWriter(f)
	if _, err := packed.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
