package gate

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// However a stream is cut into writes, the same bytes go out; and but for the
// address in a first endpoint event they are those that came in.
func FuzzEndpointRewriter(f *testing.F) {
	f.Add("event: endpoint\ndata: /messages\n\nevent: message\ndata: 1\n\n", "/x", 3)
	f.Add("event: endpoint\r\ndata: http://localhost/messages\r\n\r\n", "/x", 1)
	f.Add(": ping\n\nevent:endpoint\rdata:/m\r\r", "", 2)
	f.Add(strings.Repeat(": ping\n\n", 1100)+"event: endpoint\ndata: /m\n\n", "/x", 100)
	f.Add(":"+strings.Repeat("x", maxFirstEvent-3)+"\n\nevent: endpoint\ndata: /m\n\n", "/x", 5)
	f.Add("\n\n\n\ndata: x\nevent: endpoint\n\n", "/x", 4)
	f.Fuzz(func(t *testing.T, stream, prefix string, size int) {
		size = max(1, size)
		if seen := rewriteAll(&endpointRewriter{found: func(address string) { _ = sessionsOf(address) }}, stream, size); seen != stream {
			t.Errorf("%q that is only looked at becomes %q", stream, seen)
		}
		whole := rewriteAll(&endpointRewriter{prefix: prefix, rewrites: true}, stream, len(stream))
		cut := rewriteAll(&endpointRewriter{prefix: prefix, rewrites: true}, stream, size)
		if whole != cut {
			t.Errorf("in writes of %d bytes %q becomes %q, at once %q", size, stream, cut, whole)
		}
		if !strings.Contains(stream, "endpoint") && whole != stream {
			t.Errorf("%q becomes %q", stream, whole)
		}
	})
}

func rewriteAll(e *endpointRewriter, stream string, size int) string {
	var out strings.Builder
	for rest := []byte(stream); len(rest) > 0; {
		n := min(size, len(rest))
		if e.done {
			out.Write(rest[:n])
		} else {
			out.Write(e.feed(slices.Clone(rest[:n])))
		}
		rest = rest[n:]
	}
	if !e.done {
		out.Write(e.rest())
	}
	return out.String()
}

// bracketed is a name as qs of Express 4 reads it where it begins with brackets.
var bracketed = regexp.MustCompile(`^\[([^\[\]]*)\]`)

// Whatever session a server finds in a query is one of those that are checked.
func FuzzSessionsOf(f *testing.F) {
	for _, q := range []string{"sessionId=1", "a=b&SESSION_ID=%31;sessionid=2", "session%49d=1", "sessionId[]=1", "[sessionId]x=1", "%5Bsession%5FID%5D[0]=1", "sessionId&=&;", "%zz=1&sessionId=%zz"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		found := sessionsOf(raw)
		values, _ := url.ParseQuery(raw)
		for name, all := range values {
			if m := bracketed.FindStringSubmatch(name); m != nil {
				name = m[1]
			}
			if !strings.EqualFold(name, "sessionId") && !strings.EqualFold(name, "session_id") {
				continue
			}
			for _, value := range all {
				if value != "" && !slices.Contains(found, value) {
					t.Errorf("of %q a server takes %q, and %q are checked", raw, value, found)
				}
			}
		}
	})
}

// The upstream never finds a token under a name that it reads as access_token,
// and finds everything else as it was.
func FuzzStripQuery(f *testing.F) {
	for _, q := range []string{"", "access_token=x", "a=b&access%5Ftoken=c&d", "token=1&%zz", "a;access_token=1", "&&=&"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		out := stripQuery(raw, true)
		before, _ := url.ParseQuery(raw)
		after, _ := url.ParseQuery(out)
		for _, name := range []string{"access_token", "token"} {
			if after.Has(name) {
				t.Errorf("%q keeps %s in %q", raw, name, out)
			}
			delete(before, name)
		}
		for name, values := range before {
			if !slices.Equal(after[name], values) {
				t.Errorf("%q loses %q of %q in %q", raw, name, values, out)
			}
		}
		if stripQuery(out, true) != out {
			t.Errorf("%q is not done after once: %q", raw, out)
		}
	})
}

// No cookie of ours gets by, and no other is lost.
func FuzzStripCookies(f *testing.F) {
	for _, line := range []string{"", "a=b", "__Host-mcp_session=x; a=b", " mcp_session =x;;", `a="b;mcp_session=c"`, "mcp_session"} {
		f.Add(line, "c=d")
	}
	own := []string{"__Host-mcp_session", "mcp_session"}
	f.Fuzz(func(t *testing.T, first, second string) {
		if !httpguts.ValidHeaderFieldValue(first) || !httpguts.ValidHeaderFieldValue(second) {
			return // the server refuses such a request
		}
		r := &http.Request{Header: http.Header{"Cookie": {first, second}}}
		before := r.Cookies()
		stripCookies(r.Header, own)
		after := r.Cookies()
		before = slices.DeleteFunc(before, func(c *http.Cookie) bool { return slices.Contains(own, c.Name) })
		if !slices.EqualFunc(before, after, func(a, b *http.Cookie) bool { return a.Name == b.Name && a.Value == b.Value }) {
			t.Errorf("%q and %q become %q", first, second, r.Header["Cookie"])
		}
		for _, line := range r.Header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				if name, _, _ := strings.Cut(pair, "="); slices.Contains(own, strings.TrimSpace(name)) {
					t.Errorf("%q and %q keep %q", first, second, pair)
				}
			}
		}
	})
}
