package policy

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Headers that mirror what is in the body (MCP 2026-07-28, Streamable HTTP,
// section "Standard Request Headers").
const (
	HeaderMethod = "Mcp-Method"
	HeaderName   = "Mcp-Name"
)

// CheckHeaders refuses a request whose headers say something else than its
// messages: what decides by the one would let through the other. Clients send
// them with every revision of the protocol. Without them there is nothing to
// compare; a server that needs them refuses that itself.
func CheckHeaders(h http.Header, messages []Message) *Fault {
	methods, names := h[HeaderMethod], h[HeaderName]
	for i := range messages {
		m := &messages[i]
		if len(methods) > 0 && (len(methods) > 1 || methods[0] != m.Method) {
			return mismatch(HeaderMethod, m)
		}
		if len(names) == 0 {
			continue
		}
		name, ok := m.mirrored()
		if !ok && len(names) == 1 {
			continue // a revision to come may define what it is for there
		}
		if value, valid := decodeHeader(names[0]); len(names) > 1 || !valid || value != name {
			return mismatch(HeaderName, m)
		}
	}
	return nil
}

func mismatch(header string, m *Message) *Fault {
	return &Fault{Code: CodeHeaderMismatch, Text: "the header " + header + " does not say what the body says", ID: m.ID}
}

// mirrored is what the name header repeats.
func (m *Message) mirrored() (string, bool) {
	switch m.Method {
	case MethodCall, "prompts/get":
		return m.Name, true
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return m.URI, true
	}
	return "", false
}

// decodeHeader reads a value that may be in Base64 (section "Value Encoding").
func decodeHeader(value string) (string, bool) {
	encoded, ok := strings.CutPrefix(value, "=?base64?")
	if !ok {
		return value, true
	}
	if encoded, ok = strings.CutSuffix(encoded, "?="); !ok {
		return value, true
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return string(decoded), err == nil && utf8.Valid(decoded)
}
