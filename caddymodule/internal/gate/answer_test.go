package gate_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
)

// through lets a request through the gate to an upstream handler and returns what
// the client sees.
func (d *door) through(r *http.Request, upstream http.HandlerFunc) *http.Response {
	d.t.Helper()
	w := httptest.NewRecorder()
	a, r := d.Answer(w, r, r.URL.Path, gate.Pass{})
	defer a.Close()
	upstream(a, r)
	a.Finish()
	return w.Result()
}

func TestAnAnswerPassesAsItIs(t *testing.T) {
	d := newDoor(t)
	for _, status := range []int{200, 202, 204, 301, 400, 403, 404, 405, 429, 500, 503} {
		resp := d.through(request("POST", "/mcp"), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Mcp-Session-Id", "1")
			w.Header().Set("X-Other", "x")
			w.WriteHeader(status)
			w.WriteHeader(http.StatusTeapot) // a second header is ignored
			fmt.Fprint(w, "answer ")
			fmt.Fprint(w, status)
		})
		want := fmt.Sprint("answer ", status)
		if status == 204 {
			want = string(body(t, resp)) // a recorder keeps it, servers do not
		}
		if resp.StatusCode != status || resp.Header.Get("Mcp-Session-Id") != "1" || resp.Header.Get("X-Other") != "x" || status != 204 && string(body(t, resp)) != want {
			t.Errorf("%d arrives as %d with %v", status, resp.StatusCode, resp.Header)
		}
	}
}

// A client would answer a 401 by signing in again, although its token is good.
func TestA401OfTheUpstreamIsNoAnswerToTheClient(t *testing.T) {
	d := newDoor(t)
	resp := d.through(request("POST", "/mcp"), func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("WWW-Authenticate", `Bearer realm="internal"`)
		h.Set("Content-Length", "8")
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Language", "de")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Etag", `"1"`)
		h.Set("Trailer", "X-T")
		w.WriteHeader(http.StatusUnauthorized)
		if n, err := io.WriteString(w, "internal"); n != 8 || err != nil {
			t.Errorf("the upstream's body is not taken: %d, %v", n, err)
		}
		h.Set("X-T", "late")
	})
	text := string(body(t, resp))
	h := resp.Header
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(text, `"upstream_unauthorized"`) || strings.Contains(text, "internal") {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if h.Get("WWW-Authenticate") != "" || h.Get("Content-Encoding") != "" || h.Get("Content-Language") != "" || h.Get("Etag") != "" ||
		h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") != fmt.Sprint(len(text)) || len(resp.Trailer) != 0 {
		t.Errorf("headers are %v, trailers %v", h, resp.Trailer)
	}
}

func TestTheCORSHeadersAreTheGates(t *testing.T) {
	d := newDoor(t)
	for origin, allowed := range map[string]string{
		"": "", issuer: "", "null": "", "https://evil.example": "",
		"http://localhost:6274": "http://localhost:6274", "HTTP://LOCALHOST:6274": "HTTP://LOCALHOST:6274",
	} {
		r := request("POST", "/mcp")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		for name, write := range map[string]func(http.ResponseWriter){
			"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(200) },
			"Write":       func(w http.ResponseWriter) { _, _ = io.WriteString(w, "x") },
			"Flush":       func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		} {
			resp := d.through(r, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Access-Control-Allow-Origin", "*")
				w.Header().Set("Access-Control-Allow-Credentials", "true")
				w.Header().Set("Access-Control-Allow-Headers", "*")
				w.Header().Set("Vary", "Accept")
				write(w)
			})
			h := resp.Header
			if h.Get("Access-Control-Allow-Origin") != allowed || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Access-Control-Allow-Headers") != "" {
				t.Errorf("Origin %q, %s: %v", origin, name, h)
			}
			if vary := strings.Join(h.Values("Vary"), ", "); vary != "Accept" && (allowed == "" || vary != "Accept, Origin") {
				t.Errorf("Origin %q, %s: Vary is %q", origin, name, vary)
			}
		}
	}
}

// upstreamServer is a server whose answers go through the gate.
func (d *door) upstreamServer(upstream http.HandlerFunc) *httptest.Server {
	d.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, r := d.Answer(w, r, r.URL.Path, gate.Pass{})
		defer a.Close()
		upstream(a, r)
		a.Finish()
	}))
	d.t.(*testing.T).Cleanup(srv.Close)
	return srv
}

func TestEventsArriveWhenTheyAreFlushed(t *testing.T) {
	d := newDoor(t)
	next := make(chan struct{})
	srv := d.upstreamServer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("flushing: %v", err)
			}
			<-next
		}
	})
	resp, err := http.Get(srv.URL + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
	}
}

func TestInterimAnswersAndHEADAndLengthsPass(t *testing.T) {
	d := newDoor(t)
	srv := d.upstreamServer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "hello")
	})
	for method, want := range map[string]string{"GET": "hello", "HEAD": ""} {
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints && h.Get("Link") != "" {
					hints++
				}
				return nil
			},
		})
		r, err := http.NewRequestWithContext(ctx, method, srv.URL+"/mcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(body(t, resp)); resp.StatusCode != http.StatusAccepted || resp.ContentLength != 5 || got != want || hints != 1 {
			t.Errorf("%s: %d with length %d, %q and %d hints", method, resp.StatusCode, resp.ContentLength, got, hints)
		}
		resp.Body.Close()
	}
}

func TestAHandlerCanTakeTheConnection(t *testing.T) {
	d := newDoor(t)
	srv := d.upstreamServer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 299 Taken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	resp, err := http.Get(srv.URL + "/mcp")
	if err != nil || resp.StatusCode != 299 {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestAFlushThatIsNotPossibleIsToldAsSuch(t *testing.T) {
	d := newDoor(t)
	a, _ := d.Answer(struct{ http.ResponseWriter }{httptest.NewRecorder()}, request("GET", "/mcp"), "/mcp", gate.Pass{})
	defer a.Close()
	if err := http.NewResponseController(a).Flush(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("got %v", err)
	}
}

func TestTheEndpointEventNamesThePublicPath(t *testing.T) {
	for _, c := range []struct {
		rule     string
		public   string // path
		upstream string // path after the handlers in between
		event    string
		want     string
	}{
		{"below a prefix", "/x/sse", "/sse", "/messages?sessionId=1", "/x/messages?sessionId=1"},
		{"below a prefix that is there already", "/x/sse", "/sse", "/x/messages?sessionId=1", "/x/messages?sessionId=1"},
		{"below a prefix that only looks alike", "/x/sse", "/sse", "/xmessages", "/x/xmessages"},
		{"an absolute address", "/x/sse", "/sse", "http://localhost:3000/messages?a=b%20c", "/x/messages?a=b%20c"},
		{"an absolute address without a path", "/x/sse", "/sse", "http://localhost:3000", "/x/"},
		{"an absolute address with the prefix", "/x/sse", "/sse", "https://mcp.example.com/x/messages", "/x/messages"},
		{"a relative address", "/x/sse", "/sse", "messages?sessionId=1", "messages?sessionId=1"},
		{"a query alone", "/x/sse", "/sse", "?sessionId=1", "?sessionId=1"},
		{"an absolute address at the root", "/sse", "/sse", "http://localhost:3000/messages", "/messages"},
		{"a path at the root", "/sse", "/sse", "/messages/?session_id=%2F", "/messages/?session_id=%2F"},
		{"another host without a scheme", "/sse", "/sse", "//evil.example/messages", "/messages"},
		{"another host within a path", "/sse", "/sse", "http://localhost//evil.example/messages", "/evil.example/messages"},
		{"a path that was rewritten", "/sse", "/events", "/messages", "/messages"},
		{"no address", "/x/sse", "/sse", "http://[::1", "http://[::1"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := newDoor(t)
			resp := d.through(request("GET", c.public), func(w http.ResponseWriter, r *http.Request) {
				r.URL.Path = c.upstream
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				fmt.Fprintf(w, "event: endpoint\r\ndata: %s\r\n\r\n", c.event)
				fmt.Fprintf(w, "event: message\ndata: /messages\n\n")
			})
			want := "event: endpoint\r\ndata: " + c.want + "\r\n\r\nevent: message\ndata: /messages\n\n"
			if got := string(body(t, resp)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestNothingButTheEndpointEventIsChanged(t *testing.T) {
	const event = "event: endpoint\ndata: /messages\n\n"
	for _, c := range []struct {
		rule        string
		method      string
		contentType string
		status      int
		body        string
	}{
		{"another event", "GET", "text/event-stream", 200, "event: message\ndata: /messages\n\n" + event},
		{"an event without a name", "GET", "text/event-stream", 200, "data: /messages\n\n" + event},
		{"another type", "GET", "application/json", 200, event},
		{"another method", "POST", "text/event-stream", 200, event},
		{"another status", "GET", "text/event-stream", 400, event},
		{"a stream that ends within its first event", "GET", "text/event-stream", 200, "event: endpoint\ndata: /mess"},
		{"a first event without end", "GET", "text/event-stream", 200, "data: " + strings.Repeat("x", 9000) + "\n\n" + event},
		{"an empty stream", "GET", "text/event-stream", 200, ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := newDoor(t)
			resp := d.through(request(c.method, "/x/sse"), func(w http.ResponseWriter, r *http.Request) {
				r.URL.Path = "/sse"
				w.Header().Set("Content-Type", c.contentType)
				w.WriteHeader(c.status)
				for rest := c.body; rest != ""; rest = rest[min(7, len(rest)):] {
					_, _ = io.WriteString(w, rest[:min(7, len(rest))])
				}
			})
			if got := string(body(t, resp)); got != c.body {
				t.Errorf("got %.100q, want %.100q", got, c.body)
			}
		})
	}
	d := newDoor(t)
	resp := d.through(request("GET", "/x/sse"), func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/sse"
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": connected\n\n:\n: again\n\n"+event)
	})
	if got := string(body(t, resp)); got != ": connected\n\n:\n: again\n\nevent: endpoint\ndata: /x/messages\n\n" {
		t.Errorf("after comments: %q", got)
	}
}

func TestTheUpstreamCannotSetTheCookiesOfTheAuthorizationServer(t *testing.T) {
	d := newDoor(t)
	resp := d.through(request("POST", "/mcp"), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "__Host-mcp_session=planted; Path=/; Secure")
		w.Header().Add("Set-Cookie", "theirs=1")
		w.Header().Add("Set-Cookie", " __Host-mcp_browser =planted")
	})
	if got := resp.Header.Values("Set-Cookie"); len(got) != 1 || got[0] != "theirs=1" {
		t.Errorf("cookies are %q", got)
	}
	none := d.through(request("POST", "/mcp"), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "__Host-mcp_session=planted")
	})
	if got, there := none.Header["Set-Cookie"]; there {
		t.Errorf("cookies are %q", got)
	}
}
