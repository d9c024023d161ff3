package policy

import "strings"

// Bounds of what a Filter holds.
const (
	maxTool   = 1 << 20 // bytes of one tool; a larger one is left out
	maxName   = 4 << 10 // bytes of its name, with escapes; the same
	maxKey    = 64      // bytes of a key, with escapes, that can be one of ours
	maxNested = 10000   // as deep as encoding/json goes
)

// Filter takes tools out of JSON-RPC answers on their way to the client. A list
// of tools is known by its shape, an array result.tools, since the request may
// have come on another connection. Of such an array it holds one element at a
// time and leaves out those that are not to be shown; every other byte goes out
// as it came, and at once. Answers of any length pass.
//
// What is not JSON in the first place passes. JSON that turns out to be broken is
// cut off there.
type Filter struct {
	shows func(tool string) bool
	out   []byte // what can go out

	mode     mode
	read     bool // a whole message
	stack    []role
	member   member // whose value is next, in the object on top
	wantsKey bool   // a key is next, in the object on top

	inString  bool
	escaped   bool // the last byte was a backslash
	capturing capture
	captured  []byte

	// The element of the list that is being looked at.
	holding bool
	tooBig  bool
	comma   bool   // held begins with the comma before the element
	emitted bool   // an element of this list went out
	refused bool   // the element has a name that is not shown
	held    []byte // with what is around the lines of an event stream
	around  []byte // only that, which stays when the element goes
}

// mode is how the bytes of a message are taken.
type mode int

const (
	undecided mode = iota // before a message
	opaque                // it is no JSON
	reading
	broken
)

// role is what an object or array is to us.
type role byte

const (
	someObject role = iota
	someArray
	batchArray
	messageObject
	resultObject
	toolsArray
	toolObject
)

func (r role) isArray() bool { return r == someArray || r == batchArray || r == toolsArray }

// member is a member of an object that leads to the list.
type member byte

const (
	someMember member = iota
	resultMember
	toolsMember
	nameMember
)

// capture is what a string is remembered for.
type capture byte

const (
	nothing capture = iota
	aKey
	aName
)

// NewFilter returns a filter of one JSON document that shows the tools for which
// shows reports true.
func NewFilter(shows func(tool string) bool) *Filter { return &Filter{shows: shows} }

// Feed takes the next bytes and returns those that can go out. They are good
// until the next call.
func (f *Filter) Feed(p []byte) []byte {
	f.begin()
	f.text(p)
	return f.out
}

// Rest ends the document and returns what is left of it.
func (f *Filter) Rest() []byte {
	f.begin()
	f.end()
	return f.out
}

// idleRoom is how many bytes of room an idle stream may keep.
const idleRoom = 4 << 10

// begin makes room for what goes out.
func (f *Filter) begin() {
	if f.out = f.out[:0]; cap(f.out) > idleRoom {
		f.out = nil
	}
	if !f.holding && cap(f.held) > idleRoom {
		f.held, f.around = nil, nil
	}
}

// end is the end of a message. An element that is not complete is not shown.
func (f *Filter) end() {
	f.release(false)
	f.mode, f.read, f.stack = undecided, false, f.stack[:0]
	f.member, f.wantsKey = someMember, false
	f.inString, f.escaped, f.capturing = false, false, nothing
}

// line takes bytes that are not part of the message, but around its lines.
func (f *Filter) line(p []byte) {
	if f.holds(p) {
		f.held, f.around = append(f.held, p...), append(f.around, p...)
		return
	}
	f.out = append(f.out, p...)
}

// emit lets bytes of the message go out, or holds them.
func (f *Filter) emit(p []byte) {
	switch {
	case f.holds(p):
		f.held = append(f.held, p...)
	case !f.holding:
		f.out = append(f.out, p...)
	}
}

// holds reports whether bytes that come next are to be held. Those of an element
// that is too big are not: nothing of it will go out.
func (f *Filter) holds(p []byte) bool {
	if f.holding && !f.tooBig && len(f.held)+len(p) > maxTool {
		f.out = append(f.out, f.around...)
		f.tooBig, f.held, f.around = true, nil, nil
	}
	return f.holding && !f.tooBig
}

// hold begins with an element of the list.
func (f *Filter) hold(comma bool) {
	f.holding, f.comma, f.refused = true, comma, false
	f.held, f.around = f.held[:0], f.around[:0]
}

// release ends with it.
func (f *Filter) release(show bool) {
	if !f.holding {
		return
	}
	held := f.around
	if show && !f.tooBig {
		held = f.held
		if f.comma && !f.emitted {
			held = held[1:] // nothing is before the element any more
		}
		f.emitted = true
	}
	f.out = append(f.out, held...)
	f.holding, f.tooBig = false, false
}

// text takes bytes of a message.
func (f *Filter) text(p []byte) {
	for len(p) > 0 {
		var n int
		switch {
		case f.mode == broken:
			return
		case f.mode == opaque:
			n = len(p)
			f.emit(p)
		case f.mode == undecided:
			n = f.first(p)
		case f.inString:
			n = f.str(p)
		default:
			n = f.token(p)
		}
		p = p[n:]
	}
}

// first looks for the beginning of a message. A byte order mark is no part of it.
func (f *Filter) first(p []byte) int {
	n := 0
	for n < len(p) && strings.IndexByte(" \t\r\n\xef\xbb\xbf", p[n]) >= 0 {
		n++
	}
	f.emit(p[:n])
	if n == len(p) {
		return n
	}
	switch {
	case p[n] == '{' || p[n] == '[':
		f.mode, f.member = reading, someMember
	case f.read, strings.IndexByte("\x00\xfe\xff", p[n]) >= 0:
		f.mode = broken // or JSON in UTF-16 or UTF-32, which some clients read
	default:
		f.mode = opaque
	}
	return n
}
