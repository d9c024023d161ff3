package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
)

// captured runs fn and returns what it prints.
func captured(t *testing.T, fn func()) (stdout, stderr string) {
	t.Helper()
	capture := func(file **os.File) (end func() string) {
		saved := *file
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		printed := make(chan string, 1)
		go func() {
			data, _ := io.ReadAll(r)
			printed <- string(data)
		}()
		*file = w
		return func() string {
			*file = saved
			w.Close()
			return <-printed
		}
	}
	out, errs := capture(&os.Stdout), capture(&os.Stderr)
	defer func() { stdout, stderr = out(), errs() }()
	fn()
	return
}

// runStore runs "caddy mcp-auth store …" and returns what it prints.
func runStore(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "mcp-auth", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(storeCommand())
	root.SetArgs(append([]string{"store"}, args...))
	stdout, stderr = captured(t, func() { err = root.ExecuteContext(t.Context()) })
	return stdout, stderr, err
}

// mustRunStore runs a command that has to succeed.
func mustRunStore(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := runStore(t, args...)
	if err != nil {
		t.Fatalf("store %s: %v", strings.Join(args, " "), err)
	}
	return stdout, stderr
}

// configFile writes a configuration for the commands.
func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// withFile is a configuration with a file store.
func withFile(t *testing.T, file string) string {
	return configFile(t, "localhost:8443 {\nmcp_auth localhost:3000 {\nstore file "+file+"\n}\n}")
}

func TestAnExportReplacesNoFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "state.db")
	s, err := filestore.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	output := filepath.Join(dir, "backup")
	if err := os.WriteFile(output, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runStore(t, "export", "--config", withFile(t, file), "--output", output); err == nil ||
		!strings.Contains(err.Error(), "exists already; name a new file with --output") {
		t.Errorf("got %v", err)
	}
	if data, _ := os.ReadFile(output); string(data) != "mine" {
		t.Errorf("the file is %q", data)
	}
}

func TestStoreCommandsThatCannotBeDone(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "sub", "state.db")
	withStore := withFile(t, file)
	two := configFile(t, "http://localhost:8080 {\nmcp_auth {\nstore file "+dir+"/a.db\n}\n}\nhttp://localhost:8081 {\nmcp_auth {\nstore memory\n}\n}")
	for rule, tt := range map[string]struct {
		args []string
		want string
	}{
		"no configuration":           {[]string{"check"}, "there is no Caddyfile in the current folder"},
		"a configuration without us": {[]string{"check", "--config", configFile(t, "http://localhost:8080 {\nrespond ok\n}")}, "no mcp_auth directive"},
		"no store yet":               {[]string{"check", "--config", withStore}, "there is no store at " + file},
		"nothing to export":          {[]string{"export", "--config", withStore}, "run the command as the user that Caddy runs as"},
		"no file to import":          {[]string{"import", dir + "/none", "--config", withStore}, "no such file"},
		"something else to import":   {[]string{"import", withStore, "--config", withStore}, "this is no export of the state"},
		"nothing named to import":    {[]string{"import", "--config", withStore}, "accepts 1 arg(s)"},
		"several stores":             {[]string{"check", "--config", two}, "name one of them with --store:\n  file:" + dir + "/a.db\n  memory"},
		"another store":              {[]string{"check", "--config", two, "--store", "redis"}, `there is no store "redis"`},
		"a store in memory": {
			[]string{"export", "--config", two, "--store", "memory"},
			"a memory store is in the running Caddy only. Export from it: caddy mcp-auth store export --address localhost:2019 --store memory",
		},
		"a key that is none": {
			[]string{"check", "--config", configFile(t, "http://localhost:8080 {\nmcp_auth {\nstore file {\nencryption_key short\n}\n}\n}")},
			"an encryption_key is 32 random bytes",
		},
		"a Caddy that does not run": {[]string{"export", "--address", "127.0.0.1:1"}, "asking Caddy at 127.0.0.1:1"},
	} {
		t.Run(rule, func(t *testing.T) {
			stdout, _, err := runStore(t, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || stdout != "" {
				t.Errorf("got %q and the error %v, want %q", stdout, err, tt.want)
			}
		})
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		t.Errorf("the commands made %s", e.Name())
	}
}

func TestTheCheckReportsDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.db")
	s, err := filestore.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	key := "aaaaaaaaaaaaaaaa/session/" + strings.Repeat("a", 16) + "/" + strings.Repeat("a", 52)
	for k, v := range map[string]string{key: `{"v":1,"user":{"sub":"top-secret"`, "foreign": "x"} {
		if err := s.Put(t.Context(), k, store.Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	config := withFile(t, file)
	stdout, _, err := runStore(t, "check", "--config", config)
	if err == nil || err.Error() != "the store is damaged: 3 findings" {
		t.Errorf("got %v", err)
	}
	want := "file:" + file + `
  issuers with keys   0
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
  unknown records     1
the issuer aaaaaaaaaaaaaaaa has records and no signing keys; restore a backup: new keys make all of its tokens and sign-ins invalid
` + key + `: stored session cannot be read: unexpected end of JSON input; it does no harm: the person signs in once more
foreign: the key is of no known kind; a newer version of this program may have written it, or another program
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("it prints (-want +got):\n%s", diff)
	}
	stdout, _, err = runStore(t, "check", "--config", config, "--json")
	var report struct {
		Store string
		transfer.Report
	}
	if err == nil || json.Unmarshal([]byte(stdout), &report) != nil || report.Store != "file:"+file ||
		len(report.Findings) != 3 || report.Records != 2 || report.Sessions != 1 {
		t.Errorf("got the error %v and %s", err, stdout)
	}
}

// The keys of a sealed store stay sealed in the file, and only who has the key can
// import it.
func TestAStoreWithAnEncryptionKeyMovesByCommand(t *testing.T) {
	t.Setenv("STORE_KEY", "ZGV2ZWxvcG1lbnQta2V5LW9mLTMyLWJ5dGVzLTEyMzQ=")
	m := newMachine(t)
	file, copied := filepath.Join(m.dir, "state.db"), filepath.Join(m.dir, "copy.db")
	block := func(file string) string { return "store file " + file + " {\nencryption_key {env.STORE_KEY}\n}\n" }
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\n"+block(file)+robot+"}\nrespond ok\n}")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	config := configFile(t, "http://localhost:8080 {\nmcp_auth {\n"+block(file)+"}\n}")
	export := filepath.Join(m.dir, "export")
	if _, stderr := mustRunStore(t, "export", "--config", config, "--output", export); strings.Contains(stderr, "WARNING") {
		t.Errorf("it warns of sealed keys: %q", stderr)
	}
	if stdout, _ := mustRunStore(t, "check", "--config", config); !strings.Contains(stdout, "issuers with keys   1\n") {
		t.Errorf("it prints %q", stdout)
	}
	without := withFile(t, copied)
	if _, _, err := runStore(t, "import", export, "--config", without); err == nil || !strings.Contains(err.Error(), "there is no encryption_key") {
		t.Errorf("got %v", err)
	}
	mustRunStore(t, "import", export, "--config", configFile(t, "http://localhost:8080 {\nmcp_auth {\n"+block(copied)+"}\n}"))
	if diff := cmp.Diff(fileContents(t, file), fileContents(t, copied)); diff != "" {
		t.Error(diff)
	}
}

func TestTheAdminEndpointForTheStore(t *testing.T) {
	m := newMachine(t).withAdmin()
	address := "http://" + m.admin + adminStorePath
	m.mustLoad("", "http://localhost:%[1]d {\nrespond ok\n}")
	if got := m.get(address, ""); got.status != http.StatusNotFound {
		t.Errorf("without the directive it answers %d %s", got.status, got.body)
	}
	file := filepath.Join(m.dir, "state.db")
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n}\n}\nhttp://localhost:%[2]d {\nmcp_auth {\nstore file "+file+"\n}\n}")
	post := m.request(address, "", nil)
	post.Method = http.MethodPost
	if got := m.do(post); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered %d %s", got.status, got.body)
	}
	for _, query := range []string{"", "?store=other"} {
		if got := m.get(address+query, ""); got.status != http.StatusNotFound || !strings.Contains(got.body, "file:"+file) {
			t.Errorf("%q is answered %d %s", query, got.status, got.body)
		}
	}
	got := m.get(address+"?store=memory", "")
	if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("it answers %d with %v", got.status, got.header)
	}
	if sum, err := transfer.Inspect(strings.NewReader(got.body)); err != nil || sum.Keys != 1 {
		t.Errorf("the export has %+v with the error %v", sum, err)
	}
	if stdout, _ := mustRunStore(t, "export", "--address", m.admin, "--store", "file:"+file); !strings.HasPrefix(stdout, `{"format":`) {
		t.Errorf("it prints %q", stdout)
	}
	if n := references(file); n != 1 {
		t.Errorf("after the exports the store is taken %d times, want once", n)
	}

	// A store that fails in the middle must not look like one that is small.
	states.Range(func(key, v any) bool {
		if key == "memory" {
			v.(*state).store.Close()
		}
		return true
	})
	output := filepath.Join(m.dir, "broken")
	_, _, err := runStore(t, "export", "--address", m.admin, "--store", "memory", "--output", output)
	if err == nil {
		t.Error("an export that broke off is taken for a whole one")
	}
	if _, err := os.Stat(output); !os.IsNotExist(err) {
		t.Errorf("it leaves a file behind: %v", err)
	}
	if logs := m.logs(); !strings.Contains(logs, "an export of the store broke off") {
		t.Error("the log does not tell of it")
	}
}

func TestAnExportThatIsCutIsNoticedByTheCommand(t *testing.T) {
	var to bytes.Buffer
	_, err := copyExport(&to, strings.NewReader(`{"format":"mcp_auth state","version":1,"created":"2026-01-02T03:04:05Z"}`+"\n"))
	if !errors.Is(err, transfer.ErrCut) || !regexp.MustCompile("log may tell more").MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}
