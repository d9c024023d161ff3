package policy

import (
	"bytes"
	"encoding/json"
	"strings"
)

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
