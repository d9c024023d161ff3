package policy

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Message is what decides about one JSON-RPC message of a client.
type Message struct {
	// Method is the method of a request or notification; "" for an answer of
	// the client.
	Method string

	// Name and URI are what the params call so; "" without.
	Name, URI string

	// ID is the id of a request as it stands in the body; nil without.
	ID []byte
}

// Fault is why a request cannot be read without doubt, or cannot be taken as it
// is. Its text is ours and never repeats what the client has sent.
type Fault struct {
	Code int // of JSON-RPC 2.0, section 5.1, or of MCP
	Text string
	ID   []byte // of the request, where it is known
}

// Error implements error.
func (f *Fault) Error() string { return f.Text }

// Codes of faults.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeInvalidParams  = -32602
	CodeHeaderMismatch = -32020 // MCP 2026-07-28, basic, section "Error Codes"
)

// Bounds of what is read.
const (
	maxDepth  = 512
	maxBatch  = 256 // messages
	maxMethod = 256 // bytes
	maxID     = 256 // bytes, of those that are repeated in answers
)

// Parse reads the body of a request: one message, or a batch of them as MCP
// 2025-03-26 has it. It accepts only what every parser of JSON reads alike as
// far as the method and the name are concerned: no member of them may be there
// twice or in another case, and nothing may follow. The error is a *Fault. The
// messages refer to the body.
func Parse(body []byte) ([]Message, error) {
	s := scanner{data: body}
	if !utf8.Valid(body) {
		return nil, s.fail("the body is not UTF-8")
	}
	s.space()
	var out []Message
	var err error
	if s.peek() == '[' {
		out, err = s.batch()
	} else {
		out = make([]Message, 1)
		err = s.message(&out[0])
	}
	if err != nil {
		return nil, err
	}
	if s.space(); s.pos < len(s.data) {
		return nil, s.fail("something follows the message")
	}
	return out, nil
}

func (s *scanner) batch() ([]Message, error) {
	var out []Message
	err := s.array(func() error {
		if len(out) == maxBatch {
			return invalid("the batch has too many messages")
		}
		out = append(out, Message{})
		return s.message(&out[len(out)-1])
	})
	if err == nil && len(out) == 0 {
		err = invalid("the batch is empty")
	}
	return out, err
}

func invalid(text string) *Fault { return &Fault{Code: CodeInvalidRequest, Text: text} }

// The members that are looked at, and the others of JSON-RPC 2.0.
var (
	messageMembers = []string{"method", "params", "id", "jsonrpc", "result", "error"}
	paramsMembers  = []string{"name", "uri"}
)

// found is what a member turned out to be.
type found int

const (
	absent found = iota
	text
	other // than a string
)

// message reads one message.
func (s *scanner) message(m *Message) error {
	if s.peek() != '{' {
		return s.unexpected("a message is not an object")
	}
	var method, name found
	seen := 0
	err := s.members(messageMembers, &seen, func(member string) (err error) {
		switch member {
		case "method":
			method, m.Method, err = s.text()
		case "params":
			name, err = s.params(m)
		case "id":
			m.ID, err = s.id()
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil || method == absent {
		return err
	}
	if err := checkRequest(m, method, name); err != nil {
		err.ID = m.ID
		return err
	}
	return nil
}

// checkRequest refuses requests whose method or tool could be taken for another
// one.
func checkRequest(m *Message, method, name found) *Fault {
	switch {
	case method != text:
		return invalid("the method is not a string")
	case m.Method == "" || len(m.Method) > maxMethod || strings.ContainsFunc(m.Method, func(r rune) bool { return r <= ' ' || r > '~' }):
		return invalid("the method is not a name in printable ASCII")
	case m.Method != MethodCall && strings.EqualFold(m.Method, MethodCall):
		return invalid("the method is " + MethodCall + " in another case")
	case m.Method == MethodCall && (name != text || m.Name == ""):
		return &Fault{Code: CodeInvalidParams, Text: "the call names no tool"}
	}
	return nil
}

// params reads the name and the URI of the params. Params that are a list have
// neither.
func (s *scanner) params(m *Message) (name found, err error) {
	if s.peek() != '{' {
		return absent, s.skip()
	}
	seen := 0
	err = s.members(paramsMembers, &seen, func(member string) (err error) {
		switch member {
		case "name":
			name, m.Name, err = s.text()
		case "uri":
			_, m.URI, err = s.text()
		default:
			err = s.skip()
		}
		return err
	})
	return name, err
}

// members reads an object. each is called with the name of the member where the
// value begins, which is "" for what is not one of the known names. Seen are
// those that were there.
func (s *scanner) members(known []string, seen *int, each func(member string) error) error {
	return s.object(func(key []byte) error {
		if string(key) == "__proto__" {
			// Once it is copied, JavaScript finds the members of it in the object.
			return invalid("a member is called __proto__")
		}
		member := ""
		for i, name := range known {
			if string(key) == name {
				if *seen&(1<<i) != 0 {
					return invalid("the member " + name + " is there twice")
				}
				*seen |= 1 << i
				member = name
				break
			}
			// encoding/json and others take a member in any case for the one
			// that they look for.
			if bytes.EqualFold(key, []byte(name)) {
				return invalid("the member " + name + " is there in another case")
			}
		}
		return each(member)
	})
}
