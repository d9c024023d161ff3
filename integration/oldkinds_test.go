package integration

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// How testdata/kinds-v1 is made again, or a folder for another version of a record:
//
//	go test -run TestWriteOldKinds ./integration -old-caddy <Caddy of that version> -old-store testdata/kinds-v1
//
// It takes Node for the OpenID provider. What is in there was made for https://mcp.test, which nobody has.

// oldKinds is what people and programs hold of a store in which each kind of record is.
type oldKinds struct {
	Provider     string // the OpenID provider that people sign in at
	Client       oldGrant
	Cookies      string // of the browser that has agreed to it
	Revoked      string // an access token of a grant that was revoked
	Added        oldClient
	Removed      string // an access token of a client that was removed
	Document     oldGrant
	Device       oldGrant
	Lent         oldGrant // for the upstream that gets tokens of the provider
	LentToken    string   // such a token
	MadeToken    string
	Session      string // of an MCP server, of the client
	FactorKey    string // of bob
	RecoveryCode string
}

type oldGrant struct{ ClientID, Access, Refresh string }

func keep(gr *grant) oldGrant { return oldGrant{gr.clientID, gr.access, gr.refresh} }

// kindsGateway runs in front of an upstream with everything switched on that makes records. What nodes count together is
// not among it, as that is in Redis only.
func kindsGateway(t *testing.T, upstream, binary, file, provider, more string, env ...string) *gateway {
	t.Helper()
	return startGateway(t, gatewayConfig{issuer: oldIssuer, binary: binary, env: append(env, "OIDC_SECRET="+providerSecret), site: "mcp_auth " + upstream + ` {
		issuer ` + oldIssuer + `
		` + userLine + `
		user bob ` + userHash + `
		store file ` + file + `
		access_token_lifetime 36500d
		refresh_token_lifetime 36500d
		session_lifetime 36500d
		device_authorization
		registration {
			expire_after 36500d
			metadata_documents_on_loopback
		}
		login oidc acme {
			issuer ` + provider + `
			client_id mcp
			client_secret {env.OIDC_SECRET}
		}
		resource /mcp
		resource /lent {
			upstream_credential login acme
		}
		` + more + `
	}`})
}

// TestOldKinds opens a store of an earlier version that has every kind of record. Each is still good for what it was.
func TestOldKinds(t *testing.T) {
	t.Parallel()
	openStores(t, "testdata/kinds-*", func(t *testing.T, file string, s *oldKinds) {
		postpone(t, file)
		rec := startRecorder(t)
		// The signing key is older than an hour, so another one takes its place.
		g := kindsGateway(t, rec.address, "", file, s.Provider, "signing_key_lifetime 1h")
		wantKinds(t, g)
		t.Run("grants", func(t *testing.T) { s.checkGrants(t, g) })
		t.Run("tokens of the provider", func(t *testing.T) { s.checkLent(t, g, rec) })
		t.Run("sessions", func(t *testing.T) { s.checkSessions(t, g) })
		t.Run("factors", func(t *testing.T) { s.checkFactors(t, g) })
		t.Run("what was added and made by command", func(t *testing.T) { s.checkCommands(t, g) })
		t.Run("what has ended", func(t *testing.T) { s.checkEnded(t, g) })
	})
}

// postpone lets records that have ended since the store was written go on for a day, as docs/storage.md has the layout.
func postpone(t *testing.T, file string) {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	soon, later := time.Now().Add(time.Hour), binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(24*time.Hour).UnixMilli()))
	err = db.Update(func(tx *bbolt.Tx) error {
		records, expiry := tx.Bucket([]byte("records")), tx.Bucket([]byte("expiry"))
		ended := map[string][]byte{}
		err := records.ForEach(func(key, value []byte) error {
			if at := binary.BigEndian.Uint64(value); at != 0 && time.UnixMilli(int64(at)).Before(soon) {
				ended[string(key)] = append([]byte(nil), value...)
			}
			return nil
		})
		for key, value := range ended {
			if err == nil {
				err = expiry.Delete(append(value[:8:8], key...))
			}
			if err == nil {
				err = expiry.Put(append(later[:8:8], key...), nil)
			}
			if err == nil {
				err = records.Put([]byte(key), append(later[:8:8], value[8:]...))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wantKinds looks for each kind of record in an export, and has the records read by an import and by a check.
func wantKinds(t *testing.T, g *gateway) {
	t.Helper()
	dir := t.TempDir()
	exported := filepath.Join(dir, "export")
	g.command(t, "store", "export", "--output", exported)
	data, err := os.ReadFile(exported)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		var record struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if parts := strings.Split(record.Key, "/"); len(parts) > 1 {
			kinds[parts[1]] = true
		}
		if value, err := base64.StdEncoding.DecodeString(record.Value); err != nil || strings.Contains(string(value), providerSecret) {
			t.Errorf("%s cannot be read or has a secret: %v", record.Key, err)
		}
	}
	want := map[string]bool{}
	for _, kind := range []string{
		"keys", "client", "added", "document", "assertion", "apitoken", "mcpsession", "grant", "delegation", "device", "factor", "session", "signin", "revoked",
	} {
		want[kind] = true
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("the kinds of records (-want +got):\n%s", diff)
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte("http://localhost:1 {\nmcp_auth {\nstore file "+filepath.Join(dir, "state.db")+"\n}\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"import", exported}, {"check"}} {
		stdout, stderr, err := g.caddy(append(append([]string{"mcp-auth", "store"}, args...), "--config", config)...)
		if err != nil {
			t.Errorf("store %s: %v: %s%s", args[0], err, stdout, stderr)
		}
	}
}

func (s *oldKinds) checkGrants(t *testing.T, g *gateway) {
	for what, old := range map[string]oldGrant{"a client that registered": s.Client, "a client with a document": s.Document, "a device": s.Device} {
		wantStatus(t, "the access token of "+what, g.call(t, g.client, "/mcp", old.Access), http.StatusOK)
		gr := &grant{g: g, clientID: old.ClientID, refresh: old.Refresh}
		gr.renew(t)
		wantStatus(t, "the next access token of "+what, g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	}
}

func (s *oldKinds) checkLent(t *testing.T, g *gateway, rec *recorder) {
	wantStatus(t, "a call", g.call(t, g.client, "/lent", s.Lent.Access), http.StatusOK)
	if token := rec.borrowed(t, g); token != s.LentToken {
		t.Errorf("the upstream gets %s, which is not the token of the provider", token)
	}
}

func (s *oldKinds) checkSessions(t *testing.T, g *gateway) {
	if p := g.visitorWith(t, s.Cookies).get(g.origin + "/account"); p.status != http.StatusOK || p.form("grant") == nil {
		t.Errorf("the browser is not signed in any more, or its apps are gone: %v", p)
	}
	wantStatus(t, "the session of an MCP server", inSession(t, g, http.MethodPost, "/mcp", s.Client.Access, s.Session), http.StatusOK)
	wantNoSession(t, "somebody else's", inSession(t, g, http.MethodPost, "/mcp", s.MadeToken, s.Session))
}

func (s *oldKinds) checkFactors(t *testing.T, g *gateway) {
	for field, value := range map[string]string{"code": codeOf(t, s.FactorKey, 0), "recovery": s.RecoveryCode} {
		p := g.newVisitorNamed(t, "bob").get(g.origin + "/account").signIn()
		if p.form("/login/code") == nil {
			t.Fatalf("after the password comes %s", p)
		}
		if p = p.submit(field, url.Values{field: {value}}); p.form("/logout") == nil {
			t.Errorf("after the %s comes %s", field, p)
		}
	}
}

func (s *oldKinds) checkCommands(t *testing.T, g *gateway) {
	machine := g.postForm(t, "/token", s.Added.signed(url.Values{"grant_type": {"client_credentials"}}))
	wantStatus(t, "a client that was added", machine, http.StatusOK)
	wantStatus(t, "its token", g.call(t, g.client, "/mcp", machine.field(t, "access_token")), http.StatusOK)
	wantStatus(t, "a token that was made", g.call(t, g.client, "/mcp", s.MadeToken), http.StatusOK)
}

func (s *oldKinds) checkEnded(t *testing.T, g *gateway) {
	wantStatus(t, "a token of a grant that was revoked", g.call(t, g.client, "/mcp", s.Revoked), http.StatusUnauthorized)
	wantStatus(t, "a token of a client that was removed", g.call(t, g.client, "/mcp", s.Removed), http.StatusUnauthorized)
}

// TestWriteOldKinds makes the data of TestOldKinds with an old program.
func TestWriteOldKinds(t *testing.T) {
	if *oldCaddy == "" || *oldStore == "" {
		t.Skip("this is no test but makes the data of one")
	}
	file := filepath.Join(t.TempDir(), "state.db")
	idp, company, docs, rec := newOpenIDProvider(t), newEnterpriseProvider(t), newDocumentServer(t), startRecorder(t)
	g := kindsGateway(t, rec.address, *oldCaddy, file, idp.issuer(), `
		login oidc company {
			issuer `+company.URL+`
			client_id mcp
			identity_assertions
		}
		client agent {
			secret agent-secret-of-the-test
			grant_types urn:ietf:params:oauth:grant-type:jwt-bearer
		}`, docs.trust()...)
	s := oldKinds{Provider: idp.issuer()}
	s.makeGrants(t, g, docs)
	s.makeByCommand(t, g)

	idp.callback, idp.seconds = g.origin+"/callback", "3153600000"
	idp.start()
	lent := idp.connect(t, g, g.newVisitor(t), "carol", url.Values{"resource": {g.origin + "/lent"}})
	s.Lent = keep(lent)
	wantStatus(t, "a call", g.call(t, g.client, "/lent", lent.access), http.StatusOK)
	s.LentToken = rec.borrowed(t, g)

	wantStatus(t, "an assertion", g.postForm(t, "/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "client_id": {"agent"}, "client_secret": {"agent-secret-of-the-test"},
		"assertion": {company.assertion(map[string]any{"aud": g.origin, "resource": g.origin + "/mcp"})},
	}), http.StatusOK)

	g.forgetSecrets()
	g.proc.stop()
	keepStore(t, *oldStore, file, s)
}

func (s *oldKinds) makeGrants(t *testing.T, g *gateway, docs *documentServer) {
	alice := g.newGrant(t, nil)
	s.Client, s.Cookies, s.Session = keep(alice), sessionCookie(t, alice.visitor), "a-session-of-alice"
	begin(t, g, alice.access, s.Session)
	ended := g.newGrantFor(t, alice.visitor, nil)
	s.Revoked = ended.access
	ended.revoke(t)
	byDocument, _ := g.newGrantByDocument(t, docs.publishClient(t, "/client.json", "Journey"))
	s.Document = keep(byDocument)

	d := g.newDevice(t)
	d.enter(alice.visitor, d.userCode).submit("allow", nil)
	onDevice := &grant{g: g, clientID: d.clientID}
	onDevice.take(t, d.poll(t, g))
	s.Device = keep(onDevice)
	g.newDevice(t) // for which nobody decides
	key, recovery := g.newVisitorNamed(t, "bob").enrol()
	s.FactorKey, s.RecoveryCode = key, recovery[0]
}

func (s *oldKinds) makeByCommand(t *testing.T, g *gateway) {
	s.MadeToken = makeToken(t, g, "nightly", "--expires", "never")
	add := func(id string) oldClient {
		return oldClient{id, strings.TrimSpace(g.command(t, "client", "add", id))}
	}
	s.Added = add("robot")
	removed := add("removed")
	tokens := g.postForm(t, "/token", removed.signed(url.Values{"grant_type": {"client_credentials"}}))
	wantStatus(t, "a client that is about to be removed", tokens, http.StatusOK)
	s.Removed = tokens.field(t, "access_token")
	g.command(t, "client", "remove", removed.ID)
}
