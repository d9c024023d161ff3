package gate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
)

var ownCookies = []string{"__Host-mcp_session", "__Host-mcp_browser", "mcp_session", "mcp_browser"}

func TestHeadersThatSayWhoIsCallingAreTakenAway(t *testing.T) {
	d := newDoor(t)
	for _, name := range []string{
		"Authorization", "authorization", "Proxy-Authorization", "X-Forwarded-Access-Token", "Origin",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Prefix", "X-Forwarded-Anything", "X-Real-Ip", "Forwarded",
		"X-Mcp-Subject", "X-Mcp-User", "X_mcp_subject", "x.mcp.subject", "X_Mcp-User", "X-Mcp_User", "Remote-User", "Remote_User", "remote.user",
		"X-Auth-Request-User", "X-Authenticated-Userid", "X-Remote-User", "X-Webauth-User", "X-Pomerium-Jwt-Assertion", "Ssl-Client-Cert",
		"X-User", "X-Original-Url", "X-Rewrite-Url", "Cf-Access-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Ms-Client-Principal-Name",
		"Connection", "Upgrade", "Http2-Settings", "Keep-Alive", "Proxy-Connection", "Trailer",
		"X-Who", "x_who", "X.Who", "X-WHO", // of the configuration
		"X-Forwarded-Proto", "X_Forwarded_For", "X-Forwarded_Host", "X.Forwarded.Proto",
	} {
		r := request("POST", "/mcp")
		r.Header[name] = []string{"evil"} // as it stands, also where servers would write it in another way
		r.Header.Set("Accept", "application/json")
		d.Strip(r)
		if len(r.Header) != 1 || r.Header.Get("Accept") == "" {
			t.Errorf("%s: headers are %v", name, r.Header)
		}
	}
}

func TestOtherHeadersPass(t *testing.T) {
	d := newDoor(t)
	for _, name := range []string{
		"Accept", "Content-Type", "User-Agent", "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-City",
		"Last-Event-Id", "Traceparent", "X-Api-Key", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Host", "Te", "Cache-Control", "X-Mcpx", "Remotely",
	} {
		r := request("POST", "/mcp", name, "value")
		d.Strip(r)
		if r.Header.Get(name) != "value" {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestOnlyOurCookiesAreTakenAway(t *testing.T) {
	d := newDoor(t)
	for _, c := range []struct{ in, out []string }{
		{[]string{"a=b"}, []string{"a=b"}},
		{[]string{"__Host-mcp_session=x"}, nil},
		{[]string{"a=b; __Host-mcp_session=x; c=d"}, []string{"a=b; c=d"}},
		{[]string{"a=b;__Host-mcp_session=x;c=d"}, []string{"a=b; c=d"}},
		{[]string{"__Host-mcp_session=x; __Host-mcp_session=y", "mcp_browser=z"}, nil},
		{[]string{"a=b", "mcp_session=x"}, []string{"a=b"}},
		{[]string{" __Host-mcp_session = x ; a=b"}, []string{"a=b"}},
		{[]string{"__Host-mcp_session"}, nil},
		{[]string{"__Host-mcp_sessions=x; x__Host-mcp_session=y"}, []string{"__Host-mcp_sessions=x; x__Host-mcp_session=y"}},
		{[]string{`a="b; c"; d=e=f`}, []string{`a="b; c"; d=e=f`}},
	} {
		r := request("POST", "/mcp")
		r.Header["Cookie"] = c.in
		d.Strip(r)
		if got := r.Header["Cookie"]; !slices.Equal(got, c.out) {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.out)
		}
	}
}

func TestTokensInTheQueryAreTakenAway(t *testing.T) {
	for _, c := range []struct {
		in, out string
		allowed bool // query tokens
	}{
		{"", "", false}, {"a=b", "a=b", false}, {"a=%20&b=+&c", "a=%20&b=+&c", false}, {"&&a=b&", "&&a=b&", false},
		{"access_token=x", "", false}, {"a=b&access_token=x&c=d", "a=b&c=d", false}, {"access_token", "", false},
		{"access%5Ftoken=x&a=%41", "a=%41", false}, {"access_token=x&access_token=y", "", false}, {"a=1;access_token=x&b=2", "b=2", false},
		{"token=x", "token=x", false}, {"token=x&a=b", "a=b", true}, {"t%6fken=x&a=b", "a=b", true}, {"mytoken=x", "mytoken=x", true},
		{"a=access_token", "a=access_token", true}, {"%zz=token", "%zz=token", true}, {"sessionId=1&Access_Token=x", "sessionId=1&Access_Token=x", false},
	} {
		d := newDoor(t, func(cfg *gate.Config) { cfg.QueryToken = c.allowed })
		r := request("GET", "/mcp")
		r.URL.RawQuery = c.in
		d.Strip(r)
		if r.URL.RawQuery != c.out {
			t.Errorf("%q becomes %q, want %q", c.in, r.URL.RawQuery, c.out)
		}
	}
}

// proxied is a server behind the gate that looks at a request as a proxy does:
// at its headers, and at its trailers once the body has been read.
func (d *door) proxied(t *testing.T, copied bool) (srv *httptest.Server, seen chan string) {
	t.Helper()
	seen = make(chan string, 1)
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if copied {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, nil))
		}
		d.Strip(r)
		out := *r
		data, err := io.ReadAll(out.Body)
		seen <- fmt.Sprintf("%s|%v|%v|%v|%v", data, err, r.Header["Trailer"], r.Trailer, out.Trailer)
	}))
	t.Cleanup(srv.Close)
	return srv, seen
}

const withoutTrailers = "hello|<nil>|[]|map[]|map[]"

func TestTrailersOfHTTP1AreDropped(t *testing.T) {
	for _, copied := range []bool{false, true} {
		for _, announce := range []string{"", "Trailer: X-Mcp-Subject, X_mcp_subject\r\n"} {
			srv, seen := newDoor(t).proxied(t, copied)
			srv.Start()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%s\r\n"+
				"5\r\nhello\r\n0\r\nX-Mcp-Subject: evil\r\nX_mcp_subject: evil\r\nAuthorization: Bearer evil\r\n\r\n", announce)
			if got := <-seen; got != withoutTrailers {
				t.Errorf("announced %q, copied %v: the proxy sees %s", announce, copied, got)
			}
		}
	}
}

func TestTrailersOfHTTP2AreDropped(t *testing.T) {
	for _, copied := range []bool{false, true} {
		for _, announced := range []bool{false, true} {
			srv, seen := newDoor(t).proxied(t, copied)
			srv.EnableHTTP2 = true
			srv.StartTLS()
			postHTTP2(t, srv, announced)
			if got := <-seen; got != withoutTrailers {
				t.Errorf("announced %v, copied %v: the proxy sees %s", announced, copied, got)
			}
		}
	}
}

// postHTTP2 sends a body with trailers frame by frame, because net/http would not
// send any that are not announced.
func postHTTP2(t *testing.T, srv *httptest.Server, announced bool) {
	t.Helper()
	config := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	block := func(pairs ...string) []byte {
		var b bytes.Buffer
		enc := hpack.NewEncoder(&b)
		for i := 0; i < len(pairs); i += 2 {
			if err := enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
				t.Fatal(err)
			}
		}
		return b.Bytes()
	}
	head := []string{":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/mcp"}
	if announced {
		head = append(head, "trailer", "x-mcp-subject, x_mcp_subject")
	}
	framer := http2.NewFramer(conn, conn)
	_, err = io.WriteString(conn, http2.ClientPreface)
	for _, write := range []func() error{
		func() error { return framer.WriteSettings() },
		func() error {
			return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(head...)})
		},
		func() error { return framer.WriteData(1, false, []byte("hello")) },
		func() error {
			return framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, EndHeaders: true, EndStream: true,
				BlockFragment: block("x-mcp-subject", "evil", "x_mcp_subject", "evil"),
			})
		},
	} {
		if err == nil {
			err = write()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The trailers arrive where nothing is stripped, or the tests above would see
// nothing whatever the gate does.
func TestTrailersWouldArrive(t *testing.T) {
	seen := make(chan http.Header, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r.Trailer
	}))
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, io.MultiReader(strings.NewReader("hello")))
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = http.Header{"X-Mcp-Subject": {"evil"}}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := <-seen; got.Get("X-Mcp-Subject") != "evil" {
		t.Errorf("trailers are %v", got)
	}
}
