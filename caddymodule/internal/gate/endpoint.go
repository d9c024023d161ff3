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
// passed on untouched, and so are comments before it.
type endpointRewriter struct {
	prefix   string               // that the proxy strips
	rewrites bool                 // the address is made the public one
	found    func(address string) // is told the address as it comes; nil for nobody
	held     []byte
	passed   int // bytes of comments that went out
	done     bool
}

// feed takes the next bytes of the stream and returns those that can go out.
func (e *endpointRewriter) feed(p []byte) []byte {
	// What was held has no end of an event in it, only perhaps the start of one.
	from := max(0, len(e.held)-longestEnd+1)
	e.held = append(e.held, p...)
	var out []byte
	for end := eventEnd(e.held, from); end >= 0; end = eventEnd(e.held, 0) {
		if e.passed+end > maxFirstEvent {
			break
		}
		block := e.held[:end]
		e.held = e.held[end:]
		if !onlyComments(block) {
			out = append(out, e.rewrite(block)...)
			return append(out, e.rest()...)
		}
		out = append(out, block...)
		e.passed += end
	}
	if e.passed+len(e.held) >= maxFirstEvent {
		out = append(out, e.rest()...)
	}
	return out
}

// rest ends the looking and returns what is held back.
func (e *endpointRewriter) rest() []byte {
	held := e.held
	e.held, e.done = nil, true
	return held
}

// eventEnds are the blank lines that end an event.
var eventEnds = [...]string{"\n\n", "\r\n\r\n", "\r\r"}

const longestEnd = len("\r\n\r\n")

// eventEnd is the position after the first blank line at or behind from, or -1.
func eventEnd(b []byte, from int) int {
	best := -1
	for _, sep := range eventEnds {
		if i := bytes.Index(b[from:], []byte(sep)); i >= 0 && (best < 0 || from+i+len(sep) < best) {
			best = from + i + len(sep)
		}
	}
	return best
}

// onlyComments reports whether a block dispatches no event: it is a keep-alive.
func onlyComments(block []byte) bool {
	for line := range bytes.Lines(block) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 && line[0] != ':' {
			return false
		}
	}
	return true
}

// rewrite corrects the data line of an endpoint event, and nothing else, unless it
// is only to look at it.
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
			value = strings.TrimPrefix(value, " ")
			if e.found != nil {
				e.found(value)
			}
			lines[i] = "data: " + e.publicPath(value) + line[len(bare):]
		}
	}
	if !e.rewrites {
		return event
	}
	return []byte(strings.Join(lines, ""))
}

// publicPath turns the address that an upstream gives for its message endpoint
// into one that the client can reach. Absolute URLs name the upstream's own
// host, which the client cannot know. An upstream that knows its public path has
// put the prefix there itself.
func (e *endpointRewriter) publicPath(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	path := address
	if u.Scheme != "" || u.Host != "" {
		// One slash only, or what follows would again be read as a host.
		path = "/" + strings.TrimLeft(u.EscapedPath(), "/")
		if u.RawQuery != "" {
			path += "?" + u.RawQuery
		}
	}
	switch rest, ok := strings.CutPrefix(path, e.prefix); {
	case !strings.HasPrefix(path, "/"):
		return path // relative to the stream's own address, which is public
	case ok && (rest == "" || rest[0] == '/' || rest[0] == '?'):
		return path
	}
	return e.prefix + path
}
