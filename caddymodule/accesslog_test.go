package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// watchedSites are sites with access logs of several kinds: a file of its own, one
// for all names below a domain, and none.
const watchedSites = `
http://own.localhost:%%[1]d {
	log {
		output file %[1]s
	}
	log_skip /quiet
	log_name /named other
	mcp_auth {
		bearer_token dev_token_12345
	}
	handle /fail {
		error "the upstream is away" 502
	}
	handle /gone {
		error "no such thing" 404
	}
	handle /leave {
		redir https://client.example/callback?{query} 302
	}
	handle /jump {
		redir https://client.example/?id={query.id}#access_token=very-secret 302
	}
	handle /break {
		reverse_proxy 127.0.0.1:%%[4]d
	}
	respond "{http.request.orig_uri} {http.request.header.Referer}"
}
http://*.many.localhost:%%[1]d {
	log many {
		output file %[1]s
		hostnames *.many.localhost
	}
	mcp_auth {
		issuer http://a.many.localhost:%%[1]d
		bearer_token dev_token_12345
	}
	respond ok
}
http://empty.localhost:%%[2]d {
	log {
		output file %[1]s
	}
	mcp_auth {
		bearer_token dev_token_12345
	}
}
http://none.localhost:%%[3]d {
	mcp_auth {
		bearer_token dev_token_12345
	}
	handle /fail {
		error "the upstream is away" 502
	}
	respond ok
}
http://handled.localhost:%%[2]d {
	log {
		output file %[1]s
	}
	mcp_auth {
		bearer_token dev_token_12345
	}
	error "the upstream is away" 502
	handle_errors {
		handle /missing {
			root /nowhere
			file_server
		}
		respond "sorry for {http.request.uri}" {err.status_code}
	}
}
`

// newWatched runs these sites. What it returns reads the lines that have a word in
// them, of the access logs and of errors.
func newWatched(t *testing.T) (*machine, func(word string) []map[string]any) {
	t.Helper()
	m := newMachine(t)
	file := filepath.Join(m.dir, "access.log")
	m.mustLoad("mcp_auth {\nstore memory\n"+alice+"}", fmt.Sprintf(watchedSites, file))
	return m, func(word string) []map[string]any {
		t.Helper()
		access, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var lines []map[string]any
		for line := range strings.Lines(string(access) + m.logs()) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			name, _ := fields["logger"].(string)
			if strings.HasPrefix(name, "http.log.") && strings.Contains(line, word) {
				lines = append(lines, fields)
			}
		}
		return lines
	}
}

// awaited returns the lines with a word when there are as many as wanted.
func awaited(t *testing.T, lines func(string) []map[string]any, word string, want int) []map[string]any {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		found := lines(word)
		if len(found) == want {
			return found
		}
		if len(found) > want || time.Now().After(deadline) {
			t.Fatalf("%d lines with %s, want %d: %v", len(found), word, want, found)
		}
	}
}

// A line that is written in place of Caddy's has to be what Caddy would write for
// the same request without a secret.
func TestLinesWithSecretsAreLikeCaddysOwn(t *testing.T) {
	m, lines := newWatched(t)
	for i, tt := range []struct {
		name         string
		host, path   string
		port         int
		token        string
		form         url.Values
		status, want int // lines
	}{
		{"what is let through", "own", "/mcp", 1, "dev_token_12345", nil, 200, 1},
		{"a refused request", "own", "/mcp", 1, "wrong", nil, 401, 1},
		{"a page", "own", "/account", 1, "", nil, 200, 1},
		{"an endpoint that reads a form", "own", "/token", 1, "", url.Values{"grant_type": {"x"}}, 400, 1},
		{"an error of the server, which has a line of its own", "own", "/fail", 1, "dev_token_12345", nil, 502, 2},
		{"an upstream that is away", "own", "/break", 1, "dev_token_12345", nil, 502, 2},
		{"an error of the client", "own", "/gone", 1, "dev_token_12345", nil, 404, 1},
		{"an answer that leads elsewhere", "own", "/leave", 1, "dev_token_12345", nil, 302, 1},
		{"another logger", "own", "/named", 1, "dev_token_12345", nil, 200, 1},
		{"what is not to be logged", "own", "/quiet", 1, "dev_token_12345", nil, 200, 0},
		{"a logger of many hosts", "a.many", "/mcp", 1, "dev_token_12345", nil, 200, 1},
		{"what no handler answers", "empty", "/mcp", 2, "dev_token_12345", nil, 200, 1},
		{"a host of which no log is kept", "none", "/mcp", 3, "dev_token_12345", nil, 200, 0},
		{"an error there", "none", "/fail", 3, "dev_token_12345", nil, 502, 1},
		{"an error that the site handles", "handled", "/mcp", 2, "dev_token_12345", nil, 502, 1},
		{"an error that the site fails to handle", "handled", "/missing", 2, "dev_token_12345", nil, 502, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mark := fmt.Sprintf("mark%02dx", i)
			var both [2][]map[string]any
			for n, query := range []string{"?fine=REDACTED&id=" + mark + "fine", "?code=s3cret88&id=" + mark + "code"} {
				got := m.do(m.request(m.url(tt.host+".localhost", tt.port)+tt.path+query, tt.token, tt.form))
				if got.status != tt.status {
					t.Errorf("got %d %s", got.status, got.body)
				}
				_, id, _ := strings.Cut(query, "id=")
				for _, line := range awaited(t, quietly(lines, tt.want), id, tt.want) {
					if level := line["level"]; tt.host == "handled" && level == "debug" {
						continue
					}
					both[n] = append(both[n], likened(line))
				}
			}
			if text := fmt.Sprint(both[1]); strings.Contains(text, "s3cret88") {
				t.Errorf("the secret is in %s", text)
			}
			if !reflect.DeepEqual(both[0], both[1]) {
				t.Errorf("Caddy's: %v\n    ours: %v", both[0], both[1])
			}
		})
	}
}

// quietly leaves lines for debugging out, which Caddy writes about errors, and
// waits where there is nothing to wait for.
func quietly(lines func(string) []map[string]any, want int) func(string) []map[string]any {
	if want == 0 {
		time.Sleep(200 * time.Millisecond)
	}
	return func(word string) (out []map[string]any) {
		for _, line := range lines(word) {
			if line["level"] != "debug" {
				out = append(out, line)
			}
		}
		return out
	}
}

// errorIDs are what Caddy tells errors apart by.
var errorIDs = regexp.MustCompile(`{id=\w+} |"err_id":"\w+",`)

// likened takes from a line what differs from request to request, and what
// differs on purpose.
func likened(line map[string]any) map[string]any {
	raw, _ := json.Marshal(line)
	text := errorIDs.ReplaceAllString(strings.ReplaceAll(string(raw), "fine", "code"), "")
	out := map[string]any{}
	_ = json.Unmarshal([]byte(text), &out)
	for _, name := range []string{"ts", "duration", "uuid", "err_id", "err_trace"} {
		if _, ok := out[name]; ok {
			out[name] = "some"
		}
	}
	out["request"].(map[string]any)["remote_port"] = "some"
	if h, _ := out["resp_headers"].(map[string]any); h["Set-Cookie"] != nil { // a page is sealed anew each time
		out["size"], h["Content-Length"] = "some", "some"
	}
	return out
}

func TestSecretsOfAddressesStayOutOfLogs(t *testing.T) {
	m, lines := newWatched(t)
	own := m.url("own.localhost", 1)
	r := m.request(own+"/mcp?id=one&token=very-secret", "dev_token_12345", nil)
	r.Header.Set("Referer", own+"/login?continue=very-secret&x=1")
	if got := m.do(r); got.body != "/mcp?id=one&token=very-secret "+r.Header.Get("Referer") {
		t.Errorf("the next handler gets another request: %s", got.body)
	}
	request := awaited(t, lines, "id=one", 1)[0]["request"].(map[string]any)
	if uri, headers := request["uri"], fmt.Sprint(request["headers"]); uri != "/mcp?id=one&token=REDACTED" ||
		!strings.Contains(headers, "/login?continue=REDACTED&x=1") || strings.Contains(headers, "dev_token") {
		t.Errorf("the line has %v and %s", uri, headers)
	}

	// Only the answer has a secret; what was passed on is as little the request's.
	m.get(own+"/jump?id=two", "dev_token_12345")
	line := awaited(t, lines, "id=two", 1)[0]
	if text := fmt.Sprint(line["resp_headers"], line["request"]); !strings.Contains(text, "id=two#access_token=REDACTED") || !strings.Contains(text, "Authorization:[REDACTED]") {
		t.Errorf("the line has %s", text)
	}

	m.get(own+"/mcp?id=three&statement=1", "dev_token_12345")
	if uri := awaited(t, lines, "id=three", 1)[0]["request"].(map[string]any)["uri"]; uri != "/mcp?id=three&statement=1" {
		t.Errorf("more is taken out than secrets: %s", uri)
	}
}

func TestWithoutSecrets(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"/mcp", "/mcp"},
		{"/mcp?", "/mcp?"},
		{"/mcp?code", "/mcp?code"},
		{"/mcp?code=", "/mcp?code="},
		{"/mcp?encode=x&a=token", "/mcp?encode=x&a=token"},
		{"/token/code=x", "/token/code=x"},
		{"/callback?code=SECRET&state=SECRET", "/callback?code=REDACTED&state=REDACTED"},
		{"/callback?x=1&code=SECRET&y=2", "/callback?x=1&code=REDACTED&y=2"},
		{"/mcp?TOKEN=SECRET", "/mcp?TOKEN=REDACTED"},
		{"/mcp?%74oken=SECRET", "/mcp?%74oken=REDACTED"},
		{"/mcp?access_token=SECRET=SECRET", "/mcp?access_token=REDACTED"},
		{"/mcp?token=SECRET?SECRET;SECRET#SECRET&b=c", "/mcp?token=REDACTED&b=c"},
		{"/mcp?a=b;token=SECRET", "/mcp?a=b;token=REDACTED"},
		{"/mcp?a=/login?continue=SECRET", "/mcp?a=/login?continue=REDACTED"},
		{"/mcp??token=SECRET", "/mcp??token=REDACTED"},
		{"https://client.example/#access_token=SECRET", "https://client.example/#access_token=REDACTED"},
		{"https://client.example/?a=b#id_token=SECRET&c=d", "https://client.example/?a=b#id_token=REDACTED&c=d"},
		{"0; url=/callback?code=SECRET", "0; url=/callback?code=REDACTED"},
	} {
		got, changed := withoutSecrets(tt.in)
		if got != tt.want || changed != (tt.in != tt.want) {
			t.Errorf("%s becomes %s, %t, want %s", tt.in, got, changed, tt.want)
		}
	}
}

// Whatever the address, no value of a secret parameter as the web server reads it
// is left, and everything else of the query is.
func FuzzWithoutSecrets(f *testing.F) {
	for _, seed := range []string{"/a?code=b", "/a?x=1&Token=%26&y", "?a;code=b#c", "#state=1", "/?%63ode=x&&&=&code"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		clean, changed := withoutSecrets(address)
		if changed != (clean != address) && !strings.Contains(address, redacted) {
			t.Fatalf("%q becomes %q, %t", address, clean, changed)
		}
		again, _ := withoutSecrets(clean)
		if again != clean {
			t.Fatalf("%q becomes %q, and that %q", address, clean, again)
		}
		_, query, _ := strings.Cut(clean, "?")
		values, _ := url.ParseQuery(query)
		_, original, _ := strings.Cut(address, "?")
		were, _ := url.ParseQuery(original)
		for name, all := range values {
			for i, value := range all {
				switch secret := secretParameters[strings.ToLower(name)]; {
				case secret && value != redacted && value != "":
					t.Fatalf("%q becomes %q with %s=%s", address, clean, name, value)
				case !secret && !strings.ContainsAny(were[name][i], "?#;") && value != were[name][i]:
					t.Fatalf("%q becomes %q, where %s was %q", address, clean, name, were[name][i])
				}
			}
		}
	})
}

func BenchmarkWithoutSecrets(b *testing.B) {
	h := http.Header{"Referer": {"https://mcp.example.com/account?tab=apps"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, secret := withoutSecrets("/mcp?session=0123456789abcdef"); secret {
			b.Fatal("a secret")
		}
		if _, secret := withoutSecretsIn(h, "Referer"); secret {
			b.Fatal("a secret")
		}
	}
}
