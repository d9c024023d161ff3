package policy

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) that is known to be UTF-8, and accepts nothing
// else. It never looks back and makes nothing of what it skips.
type scanner struct {
	data  []byte
	pos   int
	depth int
}

func (s *scanner) fail(text string) *Fault { return &Fault{Code: CodeParse, Text: text} }

// unexpected is the fault of a value of the wrong kind, or of the end of the
// body in its place.
func (s *scanner) unexpected(text string) *Fault {
	if s.peek() == 0 {
		return s.fail("the body ends too early")
	}
	return invalid(text)
}

// peek returns the next byte, or 0 at the end. A NUL byte is no part of JSON
// either.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// take consumes c, which has to be next.
func (s *scanner) take(c byte) error {
	if s.peek() != c {
		return s.fail("the body is not JSON")
	}
	s.pos++
	return nil
}

// enter goes one level down.
func (s *scanner) enter() error {
	if s.depth++; s.depth > maxDepth {
		return s.fail("the body is nested too deep")
	}
	s.pos++
	s.space()
	return nil
}

// leave goes one level up.
func (s *scanner) leave() error {
	s.depth--
	s.pos++
	return nil
}

// object reads an object and calls each with the decoded key of every member
// where its value begins.
func (s *scanner) object(each func(key []byte) error) error {
	return s.elements('}', func() error {
		key, err := s.key()
		if err != nil {
			return err
		}
		return each(key)
	})
}

// array reads an array and calls each where an element begins.
func (s *scanner) array(each func() error) error { return s.elements(']', each) }

// elements reads what stands between a bracket and the one that closes it, and
// calls each where an element begins.
func (s *scanner) elements(closing byte, each func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.peek() == closing {
		return s.leave()
	}
	for {
		if err := each(); err != nil {
			return err
		}
		if s.space(); s.peek() == closing {
			return s.leave()
		}
		if err := s.take(','); err != nil {
			return err
		}
		s.space()
	}
}

// key reads the decoded name of a member and goes to its value.
func (s *scanner) key() ([]byte, error) {
	raw, escaped, err := s.str()
	if err != nil {
		return nil, err
	}
	if escaped {
		if raw, err = s.decode(raw); err != nil {
			return nil, err
		}
	}
	s.space()
	if err := s.take(':'); err != nil {
		return nil, err
	}
	s.space()
	return raw, nil
}

// text reads a value that is looked at. Only a string has a text.
func (s *scanner) text() (found, string, error) {
	if s.peek() != '"' {
		return other, "", s.skip()
	}
	raw, escaped, err := s.str()
	if err == nil && escaped {
		raw, err = s.decode(raw)
	}
	if err != nil {
		return other, "", err
	}
	return text, string(raw), nil
}

// id reads the id of a message. What is no string or number, or too long to be
// repeated, counts as none.
func (s *scanner) id() ([]byte, error) {
	from, kind := s.pos, s.peek()
	if err := s.skip(); err != nil {
		return nil, err
	}
	raw := s.data[from:s.pos]
	if len(raw) > maxID || kind != '"' && kind != '-' && (kind < '0' || kind > '9') {
		return nil, nil
	}
	return raw, nil
}

// plain returns how many bytes at the front of b stand for themselves in a
// string, give or take the last seven. It looks at eight of them at a time.
func plain(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quotes, slashes := x^ones*'"', x^ones*'\\'
		if ((x-ones*' ')&^x|(quotes-ones)&^quotes|(slashes-ones)&^slashes)&tops != 0 {
			break
		}
	}
	return n
}

// str reads a string and returns what is between the quotes, and whether there
// are escapes in it.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	if err := s.take('"'); err != nil {
		return nil, false, err
	}
	from := s.pos
	s.pos += plain(s.data[s.pos:])
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[from : s.pos-1], escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return nil, false, err
			}
			s.pos += plain(s.data[s.pos:])
		case c < ' ':
			return nil, false, s.fail("a string has a control character")
		default:
			s.pos++
		}
	}
	return nil, false, s.fail("the body ends too early")
}

// escape goes past one escape.
func (s *scanner) escape() error {
	if s.pos+1 >= len(s.data) {
		return s.fail("the body ends too early")
	}
	switch s.data[s.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
		if _, ok := hex4(s.data[s.pos+2:]); ok {
			s.pos += 6
			return nil
		}
	}
	return s.fail("a string has an escape that is none")
}

// hex4 reads the four digits of \u.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n), err == nil
}

// short are the escapes of one letter.
var short = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// decode replaces the escapes of a string that matters. NUL and halves of
// surrogate pairs are faults there: some parsers end the text at the one, and
// none agree about the other.
func (s *scanner) decode(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(out, raw...), nil
		}
		out = append(out, raw[:i]...)
		if raw[i+1] != 'u' {
			out = append(out, short[raw[i+1]])
			raw = raw[i+2:]
			continue
		}
		r, _ := hex4(raw[i+2:])
		raw = raw[i+6:]
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if bytes.HasPrefix(raw, []byte(`\u`)) {
				low, _ = hex4(raw[2:])
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return nil, s.fail("a name has half of a surrogate pair")
			}
			raw = raw[6:]
		}
		if r == 0 {
			return nil, s.fail("a name has a NUL character")
		}
		out = utf8.AppendRune(out, r)
	}
}

// skip goes past a value of any kind.
func (s *scanner) skip() error {
	switch c := s.peek(); {
	case c == '"':
		_, _, err := s.str()
		return err
	case c == '{':
		return s.skipObject()
	case c == '[':
		return s.array(s.skip)
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 0 && s.pos == len(s.data):
		return s.fail("the body ends too early")
	}
	return s.fail("the body is not JSON")
}

// skipObject is object without a look at the names.
func (s *scanner) skipObject() error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.peek() == '}' {
		return s.leave()
	}
	for {
		if _, _, err := s.str(); err != nil {
			return err
		}
		s.space()
		if err := s.take(':'); err != nil {
			return err
		}
		s.space()
		if err := s.skip(); err != nil {
			return err
		}
		if s.space(); s.peek() == '}' {
			return s.leave()
		}
		if err := s.take(','); err != nil {
			return err
		}
		s.space()
	}
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.fail("the body is not JSON")
	}
	s.pos += len(word)
	return nil
}

// number reads a number (RFC 8259 section 6).
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	ok := true
	if s.peek() == '0' {
		s.pos++
	} else {
		ok = s.digits()
	}
	if ok && s.peek() == '.' {
		s.pos++
		ok = s.digits()
	}
	if c := s.peek(); ok && (c == 'e' || c == 'E') {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		ok = s.digits()
	}
	if !ok {
		return s.fail("a number is none")
	}
	return nil
}

// digits reads digits, of which there has to be one.
func (s *scanner) digits() bool {
	from := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > from
}
