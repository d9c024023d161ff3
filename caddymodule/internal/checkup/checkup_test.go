package checkup_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/checkup"
)

const token = "a-good-token"

// door is a front door that a test can damage.
type door struct {
	*httptest.Server
	resource, server map[string]any // the metadata
	challenge        string
	// mcp answers calls with a good token; nil for an MCP server.
	mcp http.HandlerFunc
	// first sees each request before anything else, and may answer it.
	first func(http.ResponseWriter, *http.Request) bool

	registered int
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{first: func(http.ResponseWriter, *http.Request) bool { return false }}
	d.Server = httptest.NewTLSServer(d)
	t.Cleanup(d.Close)
	d.challenge = fmt.Sprintf(`Bearer resource_metadata="%s/.well-known/oauth-protected-resource/mcp"`, d.URL)
	d.resource = map[string]any{"resource": d.URL + "/mcp", "authorization_servers": []string{d.URL}}
	d.server = map[string]any{
		"issuer": d.URL, "token_endpoint": d.URL + "/token", "registration_endpoint": d.URL + "/register",
		"code_challenge_methods_supported": []string{"S256"}, "authorization_response_iss_parameter_supported": true,
		"client_id_metadata_document_supported": true,
	}
	return d
}

// ServeHTTP implements http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.first(w, r) {
		return
	}
	document := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/.well-known/oauth-protected-resource/mcp":
		document(d.resource)
	case "/.well-known/oauth-authorization-server":
		document(d.server)
	case "/register":
		d.registered++
		w.WriteHeader(http.StatusCreated)
	case "/mcp":
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.Header().Set("WWW-Authenticate", d.challenge)
			w.WriteHeader(http.StatusUnauthorized)
		case d.mcp != nil:
			d.mcp(w, r)
		default:
			w.Header().Set("Access-Control-Allow-Origin", "http://localhost:6274")
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: message\r\ndata: {\"result\":{\"protocolVersion\":\"2025-11-25\",\"serverInfo\":{\"name\":\"bugs\",\"version\":\"3\"}}}\r\n\r\n")
		}
	default:
		http.NotFound(w, r)
	}
}

// check runs a checkup of the door.
func (d *door) check(t *testing.T, change ...func(*checkup.Options)) []checkup.Finding {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(d.Certificate())
	opts := checkup.Options{Address: d.URL + "/mcp", Token: token, Roots: roots}
	for _, f := range change {
		f(&opts)
	}
	var out []checkup.Finding
	if err := checkup.Run(t.Context(), opts, func(f checkup.Finding) { out = append(out, f) }); err != nil {
		t.Fatal(err)
	}
	return out
}

func find(findings []checkup.Finding, name string) checkup.Finding {
	i := slices.IndexFunc(findings, func(f checkup.Finding) bool { return f.Name == name })
	if i < 0 {
		return checkup.Finding{}
	}
	return findings[i]
}

func TestAGoodServerHasNoFindings(t *testing.T) {
	d := newDoor(t)
	findings := d.check(t, func(o *checkup.Options) { o.Register = true })
	var names []string
	for _, f := range findings {
		names = append(names, f.Name)
		if f.Level != checkup.Good {
			t.Errorf("%s: %s %s", f.Name, f.Level, f.Text)
		}
	}
	want := []string{"DNS", "TLS", "401 challenge", "Resource", "Issuer", "Registration", "Backend", "CORS"}
	if !slices.Equal(names, want) {
		t.Errorf("looked at %q", names)
	}
	if d.registered != 1 {
		t.Errorf("%d clients were registered", d.registered)
	}
	if text := find(findings, "Backend").Text; text != "bugs 3, MCP 2025-11-25" {
		t.Errorf("the MCP server is introduced as %q", text)
	}
}

func TestWhatKeepsClientsOutIsFound(t *testing.T) {
	answer := func(status int, header, value, body string) func(d *door) {
		return func(d *door) {
			d.first = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/mcp" {
					return false
				}
				w.Header().Set(header, value)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
				return true
			}
		}
	}
	mcp := func(status int, body string) func(d *door) {
		return func(d *door) {
			d.mcp = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = io.WriteString(w, body) }
		}
	}
	for _, c := range []struct {
		rule   string
		damage func(d *door)
		name   string
		level  checkup.Level
		says   string // a part of the text or of what mends it
	}{
		{"no authentication", answer(200, "X", "", ""), "401 challenge", checkup.Problem, "everybody gets in"},
		{"a sign-in page", answer(302, "Location", "https://id.example/", ""), "401 challenge", checkup.Problem, "https://id.example/"},
		{"another path", answer(404, "X", "", ""), "401 challenge", checkup.Problem, "resource /mcp"},
		{"a 403", answer(403, "X", "", ""), "401 challenge", checkup.Problem, "403 Forbidden"},
		{"no challenge", answer(401, "X", "", ""), "401 challenge", checkup.Problem, "WWW-Authenticate"},
		{"a challenge of another kind", answer(401, "WWW-Authenticate", `Basic realm="x"`, ""), "401 challenge", checkup.Problem, "Basic"},
		{"metadata of another address", func(d *door) { d.resource["resource"] = d.URL + "/" }, "Resource", checkup.Problem, "compare"},
		{"metadata that is missing", func(d *door) { d.challenge = fmt.Sprintf("Bearer resource_metadata=%q", d.URL+"/nothing") }, "Resource", checkup.Problem, "404"},
		{"an issuer by another name", func(d *door) { d.server["issuer"] = d.URL + "/" }, "Issuer", checkup.Problem, "calls itself"},
		{"no PKCE", func(d *door) { delete(d.server, "code_challenge_methods_supported") }, "Issuer", checkup.Problem, "S256"},
		{"no iss", func(d *door) { delete(d.server, "authorization_response_iss_parameter_supported") }, "Issuer", checkup.Warning, "iss"},
		{"no registration", func(d *door) {
			delete(d.server, "registration_endpoint")
			delete(d.server, "client_id_metadata_document_supported")
		}, "Registration", checkup.Warning, "beforehand"},
		{"an MCP server that is down", mcp(502, ""), "Backend", checkup.Problem, "running"},
		{"an MCP server with a token of its own", mcp(502, `{"error":"upstream_unauthorized"}`), "Backend", checkup.Problem, "token of its own"},
		{"an MCP server that checks Host", mcp(403, "invalid Host header"), "Backend", checkup.Problem, "header_up Host"},
		{"a token without scopes", mcp(403, `{"error":"insufficient_scope"}`), "Backend", checkup.Problem, "scopes"},
		{"no page may call", mcp(200, `{"result":{}}`), "CORS", checkup.Warning, "cors_origins http://localhost:6274"},
		{"static tokens only", func(d *door) { delete(d.resource, "authorization_servers") }, "Issuer", checkup.Skipped, "static tokens"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := newDoor(t)
			c.damage(d)
			findings := d.check(t)
			f := find(findings, c.name)
			if f.Level != c.level || !strings.Contains(f.Text+" "+f.Fix, c.says) {
				t.Errorf("found %+v", f)
			}
			if f.Level == checkup.Problem && findings[len(findings)-1] != f {
				t.Errorf("it went on to %s", findings[len(findings)-1].Name)
			}
		})
	}
}

func TestCertificatesThatClientsDoNotTrust(t *testing.T) {
	d := newDoor(t)
	d.Config.ErrorLog = nil
	f := find(d.check(t, func(o *checkup.Options) { o.Roots = nil }), "TLS")
	if f.Level != checkup.Problem || !strings.Contains(f.Fix, "--ca") {
		t.Errorf("found %+v", f)
	}
}

func TestNobodyAnswers(t *testing.T) {
	d := newDoor(t)
	d.Close()
	if f := find(d.check(t), "TLS"); f.Level != checkup.Problem || !strings.Contains(f.Fix, "firewall") {
		t.Errorf("found %+v", f)
	}
}

func TestAddressesThatClientsRefuse(t *testing.T) {
	for address, says := range map[string]string{
		"http://mcp.example.com/mcp":    "https://mcp.example.com/mcp",
		"ftp://mcp.example.com/":        "https://",
		"https://me@mcp.example.com/":   "user name",
		"https:///mcp":                  "https://mcp.example.com/mcp",
		"https://mcp.example.com/mcp#x": "fragment",
	} {
		err := checkup.Run(t.Context(), checkup.Options{Address: address}, func(checkup.Finding) { t.Errorf("%s was looked at", address) })
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestACheckupCanBeEnded(t *testing.T) {
	d := newDoor(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := checkup.Run(ctx, checkup.Options{Address: d.URL}, func(checkup.Finding) { cancel() })
	if err == nil {
		t.Error("it went on")
	}
}
