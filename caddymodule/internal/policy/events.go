package policy

import "bytes"

// EventFilter is a Filter for the messages of an event stream (HTML, section
// "Server-sent events"). What is around the messages stays as it is.
type EventFilter struct {
	list  *Filter
	at    lineState
	field []byte // the name of the line's field, so far
	cr    bool   // the last byte was a carriage return
}

// lineState is where in a line the stream is.
type lineState int

const (
	inField lineState = iota
	afterColon
	inData
	inOther
)

// maxField bounds the name of a field in bytes. Longer ones mean nothing.
const maxField = 16

// NewEventFilter returns a filter of an event stream.
func NewEventFilter(shows func(tool string) bool) *EventFilter {
	return &EventFilter{list: NewFilter(shows)}
}

// Feed takes the next bytes and returns those that can go out. They are good
// until the next call.
func (e *EventFilter) Feed(p []byte) []byte {
	e.list.begin()
	for len(p) > 0 {
		n := e.step(p)
		p = p[n:]
	}
	return e.list.out
}

// Rest ends the stream and returns what is left of it.
func (e *EventFilter) Rest() []byte { return e.list.Rest() }

// step takes one end of a line, or what is before it.
func (e *EventFilter) step(p []byte) int {
	n := bytes.IndexAny(p, "\r\n")
	if n == 0 {
		e.endOfLine(p[0])
		return 1
	}
	e.cr = false
	if n < 0 {
		n = len(p)
	}
	switch e.at {
	case inField:
		return e.readField(p[:n])
	case afterColon:
		e.at = inData
		if p[0] == ' ' {
			n = 1
			e.list.line(p[:1])
			return n
		}
		e.list.text(p[:n])
	case inData:
		e.list.text(p[:n])
	case inOther:
		e.list.line(p[:n])
	}
	return n
}

// readField reads the name of the field up to its colon.
func (e *EventFilter) readField(p []byte) int {
	n := len(p)
	if colon := bytes.IndexByte(p, ':'); colon >= 0 {
		n = colon
	}
	e.field = append(e.field, p[:min(n, maxField-len(e.field))]...)
	if n < len(p) {
		e.at = inOther
		// Some readers are not strict about the name, and all skip a byte
		// order mark at the beginning.
		name := bytes.TrimSpace(bytes.TrimPrefix(e.field, []byte("\xef\xbb\xbf")))
		if bytes.EqualFold(name, []byte("data")) {
			e.at = afterColon
		}
		n++
	}
	e.list.line(p[:n])
	return n
}

// endOfLine takes a line feed, a carriage return, or the second half of both. An
// empty line is the end of an event.
func (e *EventFilter) endOfLine(c byte) {
	if c == '\n' && e.cr {
		e.cr = false
		e.list.line([]byte{c})
		return
	}
	e.cr = c == '\r'
	if e.at == inField && len(e.field) == 0 {
		e.list.end()
	}
	e.at, e.field = inField, e.field[:0]
	e.list.line([]byte{c})
}
