package gate

import (
	"bytes"
	"net/url"
	"strings"
)

// maxFirstEvent bounds how much of an event stream is held back to look at its
// first event.
const maxFirstEvent = 8 << 10

// endpointRewriter looks at the first event of a stream. When it is the endpoint
// event of the HTTP+SSE transport (MCP 2024-11-05), the path in it, to which the
// client will post, is made the public one. Everything after the first event is
// passed on untouched.
type endpointRewriter struct {
	prefix string // that the proxy strips
	held   []byte
	done   bool
}

// feed takes the next bytes of the stream and returns those that can go out.
func (e *endpointRewriter) feed(p []byte) []byte {
	e.held = append(e.held, p...)
	end := eventEnd(e.held)
	if end < 0 && len(e.held) < maxFirstEvent {
		return nil
	}
	e.done = true
	held := e.held
	e.held = nil
	if end < 0 {
		return held
	}
	return append(e.rewrite(held[:end]), held[end:]...)
}

// eventEnd is the position after the blank line that ends the first event, or -1.
func eventEnd(b []byte) int {
	best := -1
	for _, sep := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		if i := bytes.Index(b, []byte(sep)); i >= 0 && (best < 0 || i+len(sep) < best) {
			best = i + len(sep)
		}
	}
	return best
}

// rewrite corrects the data line of an endpoint event, and nothing else.
func (e *endpointRewriter) rewrite(event []byte) []byte {
	lines := strings.SplitAfter(string(event), "\n")
	isEndpoint := false
	for _, line := range lines {
		if field, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && field == "event" {
			isEndpoint = strings.TrimPrefix(value, " ") == "endpoint"
		}
	}
	if !isEndpoint {
		return event
	}
	for i, line := range lines {
		bare := strings.TrimRight(line, "\r\n")
		if value, ok := strings.CutPrefix(bare, "data:"); ok {
			lines[i] = "data: " + e.publicPath(strings.TrimPrefix(value, " ")) + line[len(bare):]
		}
	}
	return []byte(strings.Join(lines, ""))
}

// publicPath turns the address that an upstream gives for its message endpoint
// into one that the client can reach. Absolute URLs name the upstream's own
// host, which the client cannot know.
func (e *endpointRewriter) publicPath(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	if u.IsAbs() || u.Host != "" {
		u.Scheme, u.Host, u.User = "", "", nil
	}
	path := u.String()
	if !strings.HasPrefix(path, "/") {
		return path // relative to the stream's own address, which is public
	}
	return e.prefix + path
}
