package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/internal/freeport"
)

// Hashes of testPassword that are cheap to compute.
const (
	testPassword = "correct horse"
	cheapBcrypt  = "$2a$04$XSNAqqneTIM.O7Ry0qHbUOPGLG937c9Jf3CnLH5dVq2EVx2dhst7q"
	cheapArgon2  = "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MjZP1+1U9JUbDWvDvtLyEsZiNXOKEUxfi6O2oe46uxA"
)

// robot is a client of the configuration that gets tokens without a browser.
const robot = "client robot {\nsecret robot-secret-1234\n}\n"

// machine is a Caddy that runs in the test's process, with what its
// configurations are about. There can be only one at a time.
type machine struct {
	t     *testing.T
	dir   string
	log   string // file of everything that is logged
	ports []any  // for %[1]d and so on in Caddyfiles; nothing listens at the last one
	admin string // address of the admin endpoint; "" for none
	taken int    // how often the metrics were taken before; other tests provision and clean nothing up
	http  *http.Client
}

// withAdmin switches the admin endpoint on.
func (m *machine) withAdmin() *machine {
	m.admin = fmt.Sprintf("127.0.0.1:%d", m.ports[2])
	return m
}

// newMachine makes a machine that runs nothing yet. Names below localhost lead
// to it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), ports: freePorts(t, 4)}
	m.taken, _ = processMetrics.References(metricsKey)
	m.log = filepath.Join(m.dir, "caddy.log")
	m.http = &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		states.Range(func(key, _ any) bool {
			t.Errorf("the store %v is still open after the end", key)
			return true
		})
		if n := m.metricsTaken(); n != 0 {
			t.Errorf("the metrics are still taken %d times after the end", n)
		}
	})
	return m
}

// metricsTaken is how often this machine has taken the metrics.
func (m *machine) metricsTaken() int {
	n, _ := processMetrics.References(metricsKey)
	return n - m.taken
}

// freePorts returns different ports on which nothing listens.
func freePorts(t *testing.T, n int) []any {
	t.Helper()
	var ports []any
	for range n {
		ports = append(ports, freeport.Caddy.Free(t))
	}
	return ports
}

// load runs sites with the global options that all tests need and those of the
// test.
func (m *machine) load(global, sites string) error {
	m.t.Helper()
	admin := "admin off"
	if m.admin != "" {
		admin = "admin " + m.admin
	}
	text := fmt.Sprintf("{\n%s\npersist_config off\ngrace_period 1s\nauto_https off\ndefault_bind 127.0.0.1\n"+
		"log {\noutput file %s\nlevel DEBUG\n}\nstorage file_system %s\n%s\n}\n%s",
		admin, m.log, m.dir, global, sites)
	if strings.Contains(text, "%[") {
		text = fmt.Sprintf(text, m.ports...)
	}
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		m.t.Fatalf("%v in\n%s", err, text)
	}
	err = caddy.Load(raw, true)
	m.settle()
	return err
}

// settle waits until the servers of the last configuration, or of the rejected
// one, have let go of their sockets: Caddy closes them behind the reload, and
// connections that wait there are lost.
func (m *machine) settle() {
	m.t.Helper()
	for _, port := range m.ports[:2] {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		for deadline := time.Now().Add(20 * time.Second); caddy.ListenerUsage("tcp", address) > 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				m.t.Fatalf("two configurations listen at %s", address)
			}
		}
	}
}

func (m *machine) mustLoad(global, sites string) {
	m.t.Helper()
	if err := m.load(global, sites); err != nil {
		m.t.Fatal(err)
	}
}

// logs returns what has been logged so far.
func (m *machine) logs() string {
	m.t.Helper()
	data, err := os.ReadFile(m.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(data)
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// json reads a member of an answer in JSON.
func (r reply) json(t *testing.T, name string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return v[name]
}

func (m *machine) do(r *http.Request) reply {
	m.t.Helper()
	resp, err := m.http.Do(r)
	// A connection that the server of the configuration before has still taken is
	// cut when that server is closed, which is Caddy's way and not ours.
	for tries := 0; tries < 5 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)); tries++ {
		time.Sleep(20 * time.Millisecond)
		if r.Body, err = r.GetBody(); err != nil {
			m.t.Fatal(err)
		}
		resp, err = m.http.Do(r)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		m.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// request makes a request to an address below localhost, with a token if there
// is one. A form makes it a POST.
func (m *machine) request(target, token string, form url.Values) *http.Request {
	m.t.Helper()
	method, body := http.MethodGet, []byte(nil)
	if form != nil {
		method, body = http.MethodPost, []byte(form.Encode())
	}
	r, err := http.NewRequestWithContext(m.t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func (m *machine) get(target, token string) reply {
	m.t.Helper()
	return m.do(m.request(target, token, nil))
}

// status checks the status of a GET with a token.
func (m *machine) status(rule, target, token string, want int) {
	m.t.Helper()
	if got := m.get(target, token); got.status != want {
		m.t.Errorf("%s: GET %s answers %d %s, want %d", rule, target, got.status, got.body, want)
	}
}

// robotToken asks the issuer for a token of the client robot.
func (m *machine) robotToken(issuer, resource string) string {
	m.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}}
	if resource != "" {
		form.Set("resource", resource)
	}
	r := m.request(issuer+"/token", "", form)
	r.SetBasicAuth("robot", "robot-secret-1234")
	answer := m.do(r)
	token, _ := answer.json(m.t, "access_token").(string)
	if answer.status != http.StatusOK || token == "" {
		m.t.Fatalf("POST %s/token answers %d %s", issuer, answer.status, answer.body)
	}
	return token
}

// url returns the address of a path at the n-th port, for a host.
func (m *machine) url(host string, n int) string {
	return fmt.Sprintf("http://%s:%d", host, m.ports[n-1])
}

// signIn signs alice in at the account page and returns her browser.
func (m *machine) signIn(origin string) *http.Client {
	m.t.Helper()
	browser := m.givePassword(origin)
	if !m.signedIn(browser, origin) {
		m.t.Fatal("alice is not signed in")
	}
	return browser
}

// givePassword gives alice's password at the account page, from a browser of its
// own, whatever comes after that.
func (m *machine) givePassword(origin string) *http.Client {
	m.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	browser := *m.http
	browser.Jar = jar
	page := m.browse(&browser, m.request(origin+"/account", "", nil))
	_, rest, _ := strings.Cut(page.body, `name="token" value="`)
	token, _, found := strings.Cut(rest, `"`)
	if !found {
		m.t.Fatalf("there is no form in the page: %s", page.body)
	}
	m.browse(&browser, m.request(origin+"/login", "", url.Values{"token": {token}, "username": {"alice"}, "password": {testPassword}}))
	return &browser
}

func (m *machine) browse(browser *http.Client, r *http.Request) reply {
	m.t.Helper()
	with := *m
	with.http = browser
	return with.do(r)
}

// signedIn reports whether the account page knows the browser's user.
func (m *machine) signedIn(browser *http.Client, origin string) bool {
	m.t.Helper()
	page := m.browse(browser, m.request(origin+"/account", "", nil))
	if page.status != http.StatusOK {
		m.t.Fatalf("the account page answers %d", page.status)
	}
	return strings.Contains(page.body, "alice") && !strings.Contains(page.body, `name="password"`)
}
