package policy

import (
	"bytes"
	"encoding/json"
	"strings"
)

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
	case f.read:
		f.mode = broken
	default:
		f.mode = opaque
	}
	return n
}

// str goes on in a string.
func (f *Filter) str(p []byte) int {
	n := 0
	for n < len(p) && f.inString {
		switch {
		case f.escaped:
			f.escaped = false
			n++
		case p[n] == '"', p[n] == '\\':
			f.inString, f.escaped = p[n] != '"', p[n] == '\\'
			n++
		default:
			n += max(1, plain(p[n:]))
		}
	}
	f.emit(p[:n])
	if f.capturing != nothing {
		f.remember(p[:n])
	}
	return n
}

// remember keeps a string that is needed in full, and looks at it at its end.
func (f *Filter) remember(p []byte) {
	limit := maxKey
	if f.capturing == aName {
		limit = maxName
	}
	if f.captured = append(f.captured, p[:min(len(p), max(0, limit+1-len(f.captured)))]...); f.inString {
		return
	}
	fits := len(f.captured) <= limit
	switch {
	case f.capturing == aName:
		name, ok := unquote(f.captured)
		f.refused = f.refused || !fits || !ok || !f.shows(name)
	case fits:
		f.member = f.memberOf(f.captured)
	}
	f.capturing, f.captured = nothing, f.captured[:0]
}

// unquote decodes a string that has lost its first quote.
func unquote(raw []byte) (s string, ok bool) {
	if !bytes.Contains(raw, []byte(`\`)) {
		return string(raw[:len(raw)-1]), true
	}
	err := json.Unmarshal(append([]byte{'"'}, raw...), &s)
	return s, err == nil
}

// memberOf is what the object on top has at the key. Clients exist that do not
// tell cases apart.
func (f *Filter) memberOf(raw []byte) member {
	key, ok := unquote(raw)
	switch top := f.top(); {
	case !ok:
	case top == messageObject && strings.EqualFold(key, "result"):
		return resultMember
	case top == resultObject && strings.EqualFold(key, "tools"):
		return toolsMember
	case top == toolObject && strings.EqualFold(key, "name"):
		return nameMember
	}
	return someMember
}

func (f *Filter) top() role {
	if len(f.stack) == 0 {
		return someArray
	}
	return f.stack[len(f.stack)-1]
}

// token takes what is between strings: one mark, or all up to the next one.
func (f *Filter) token(p []byte) int {
	n := bytes.IndexAny(p, `"{}[],:`)
	if n < 0 {
		n = len(p)
	}
	if n > 0 {
		f.other(p[:n])
		return n
	}
	switch p[0] {
	case '"':
		f.quote()
	case '{', '[':
		f.open(p[0] == '[')
	case '}', ']':
		f.closing(p[:1])
		return 1
	case ',':
		if f.top() == toolsArray {
			f.hold(true)
		}
		f.wantsKey, f.member = !f.top().isArray(), someMember
	case ':':
		f.wantsKey = false
	}
	f.emit(p[:1])
	return 1
}

// other takes numbers, literals and white space.
func (f *Filter) other(p []byte) {
	if len(bytes.TrimLeft(p, " \t\r\n")) > 0 {
		if f.wantsKey {
			f.breakOff()
			return
		}
		f.noTool()
	}
	f.emit(p)
}

// quote begins a string.
func (f *Filter) quote() {
	f.inString, f.captured = true, f.captured[:0]
	switch top := f.top(); {
	case f.wantsKey && (top == messageObject || top == resultObject || top == toolObject):
		f.capturing = aKey
	case f.wantsKey:
	case top == toolObject && f.member == nameMember:
		f.capturing = aName
	default:
		f.noTool()
	}
	f.wantsKey = false
}

// noTool lets an element of the list go that is no object: it is no tool.
func (f *Filter) noTool() {
	if f.top() == toolsArray {
		f.release(true)
		f.emitted = true
	}
}

// open goes into an object or array.
func (f *Filter) open(array bool) {
	if f.wantsKey || len(f.stack) == maxNested {
		f.breakOff()
		return
	}
	next := someObject
	if array {
		next = someArray
	}
	switch top := f.top(); {
	case len(f.stack) == 0 && array:
		next = batchArray
	case len(f.stack) == 0, top == batchArray && !array:
		next = messageObject
	case f.member == resultMember && !array:
		next = resultObject
	case f.member == toolsMember && array:
		next = toolsArray
		f.emitted = false
	case top == toolsArray && !array:
		next = toolObject
		if !f.holding {
			f.hold(false)
		}
	case top == toolsArray:
		f.noTool()
	}
	f.stack = append(f.stack, next)
	f.wantsKey, f.member = !array, someMember
}

// closing goes out of an object or array, of which p is the end.
func (f *Filter) closing(p []byte) {
	top := f.top()
	if len(f.stack) == 0 || top.isArray() != (p[0] == ']') {
		f.breakOff()
		return
	}
	if top == toolsArray {
		f.release(true) // a comma with nothing behind it
	}
	f.emit(p)
	f.stack = f.stack[:len(f.stack)-1]
	f.wantsKey, f.member = false, someMember
	if top == toolObject {
		f.release(!f.refused)
	}
	if len(f.stack) == 0 {
		f.mode, f.read = undecided, true
	}
}

// breakOff ends a message that cannot be read.
func (f *Filter) breakOff() {
	f.release(false)
	f.mode = broken
}
