package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
)

// fileContents returns the records in a closed file store.
func fileContents(t *testing.T, file string) map[string]string {
	t.Helper()
	s, err := filestore.Open(file, filestore.WithLockTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := map[string]string{}
	for key, err := range s.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		out[key] = fmt.Sprint(r.Expires, string(r.Value))
	}
	return out
}

// movable is a running Caddy with a user who is signed in and a client with a
// token, over a store in a file that moves.
type movable struct {
	*machine
	file    string
	config  string // of the commands
	origin  string
	browser *http.Client
	token   string
}

// exported is what the commands print of the records of a movable.
const exported = "2 records: the keys of 1 issuer, 0 clients, 0 grants, 1 session, 0 revocations"

func newMovable(t *testing.T) *movable {
	t.Helper()
	m := &movable{machine: newMachine(t).withAdmin()}
	m.file = filepath.Join(m.dir, "a", "state.db")
	m.loadOver(m.file)
	m.origin = m.url("localhost", 1)
	m.browser = m.signIn(m.origin)
	m.token = m.robotToken(m.origin, "")
	m.config = configFile(t, "{\nadmin "+m.admin+"\n}\nlocalhost:8443 {\nmcp_auth localhost:3000 {\nstore file "+m.file+"\n}\n}")
	return m
}

// loadOver loads the site over a file.
func (m *movable) loadOver(file string) {
	m.t.Helper()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore file "+file+"\nuser alice "+cheapBcrypt+"\n"+robot+"}\nrespond ok\n}")
}

func TestARunningCaddyExportsItsState(t *testing.T) {
	m := newMovable(t)
	live := filepath.Join(m.dir, "live export")
	_, _, err := runStore(t, "export", "--config", m.config, "--output", live)
	if !errors.Is(err, filestore.ErrLocked) || !strings.HasSuffix(err.Error(),
		"export from it while it runs: caddy mcp-auth store export --address "+m.admin+" --output '"+live+"'") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(live); !os.IsNotExist(err) {
		t.Errorf("a failed export leaves a file behind: %v", err)
	}
	_, stderr := mustRunStore(t, "export", "--address", m.admin, "--output", live)
	if lines := m.audited(); len(lines) == 0 || lines[len(lines)-1]["event"] != "store.export" || lines[len(lines)-1]["ip"] != "127.0.0.1" {
		t.Errorf("the audit log ends without the export: %v", lines)
	}
	if !strings.HasPrefix(stderr, "exported "+exported+"\nWARNING: the signing keys in the export are not sealed") {
		t.Errorf("it prints %q", stderr)
	}
	if info, err := os.Stat(live); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	for _, args := range [][]string{{"check", "--config", m.config}, {"import", live, "--config", m.config, "--overwrite"}} {
		if _, _, err := runStore(t, args...); !errors.Is(err, filestore.ErrLocked) {
			t.Errorf("%v: got %v, want ErrLocked", args, err)
		}
	}
}

// TestTheStateMovesByCommand exports from a running Caddy and from a stopped one,
// imports elsewhere, and finds everybody still signed in there.
func TestTheStateMovesByCommand(t *testing.T) {
	m := newMovable(t)
	live, second := filepath.Join(m.dir, "live"), filepath.Join(m.dir, "b", "state.db")
	mustRunStore(t, "export", "--address", m.admin, "--output", live)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := mustRunStore(t, "export", "--config", m.config)
	data, err := os.ReadFile(live)
	if err != nil || !strings.HasPrefix(stderr, "exported "+exported+"\n") {
		t.Errorf("it prints %q; %v", stderr, err)
	}
	records := func(file string) string { return strings.Join(strings.Split(file, "\n")[1:3], "\n") }
	if diff := cmp.Diff(records(string(data)), records(stdout)); diff != "" {
		t.Errorf("the exports differ (-running +stopped):\n%s", diff)
	}

	target := withFile(t, second)
	stdout, _ = mustRunStore(t, "import", live, "--config", target)
	if want := "imported " + exported + " into file:" + second + "\n"; stdout != want {
		t.Errorf("it prints %q, want %q", stdout, want)
	}
	if diff := cmp.Diff(fileContents(t, m.file), fileContents(t, second)); diff != "" {
		t.Error(diff)
	}
	stdout, _ = mustRunStore(t, "check", "--config", target)
	if diff := cmp.Diff("file:"+second+movedCheck, stdout); diff != "" {
		t.Errorf("the check prints (-want +got):\n%s", diff)
	}
	m.loadOver(second)
	if !m.signedIn(m.browser, m.origin) {
		t.Error("alice is no more signed in")
	}
	m.status("a token of before", m.origin+"/mcp", m.token, http.StatusOK)
}

// movedCheck is what a check prints of the records of a movable.
const movedCheck = `
  issuers with keys   1 (1 not sealed)
  clients             0
  added clients       0
  metadata documents  0
  used assertions     0
  bearer tokens       0
  MCP sessions        0
  grants              0
  users with factors  0
  provider tokens     0
  sessions            1
  revocations         0
  unknown records     0
no damage found
`
