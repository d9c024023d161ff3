package gate

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// maxBody bounds the body of a request to a resource with rules, in bytes. It is
// what MCP servers take at most: the TypeScript SDK has this limit.
const maxBody = 4 << 20

// bodyFault is why the messages of a request cannot be had.
type bodyFault struct {
	*policy.Fault
	status int
	read   bool // nothing of the body is left
}

func unread(status int, text string) *bodyFault {
	return &bodyFault{Fault: &policy.Fault{Code: policy.CodeInvalidRequest, Text: text}, status: status}
}

// readMessages reads the messages of a request, and leaves the request as the
// upstream shall get it. Only POST carries messages.
func readMessages(w http.ResponseWriter, r *http.Request) ([]policy.Message, *bodyFault) {
	if fault := checkForm(r); fault != nil {
		return nil, fault
	}
	if r.Method != http.MethodPost {
		return nil, emptyBody(r)
	}
	body, err := respond.ReadBody(w, r, maxBody)
	switch {
	case errors.Is(err, respond.ErrTooLong):
		return nil, unread(http.StatusRequestEntityTooLarge, "the body is longer than 4 MiB")
	case err != nil:
		return nil, unread(http.StatusBadRequest, "the body did not arrive whole")
	}
	messages, err := policy.Parse(body)
	fault, ok := errors.AsType[*policy.Fault](err)
	if !ok {
		fault = policy.CheckHeaders(r.Header, messages)
	}
	if fault != nil {
		return nil, &bodyFault{Fault: fault, status: http.StatusBadRequest, read: true}
	}
	// What was chunked gets a length, and trailers end here.
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil, nil
	return messages, nil
}

// ofBodies are the headers that say something of a body. Servers that turn names
// into variables take other spellings for them as well.
var ofBodies = []string{policy.HeaderMethod, policy.HeaderName, "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding"}

// checkForm refuses requests that say of their body, or beside it, what others
// could understand differently.
func checkForm(r *http.Request) *bodyFault {
	for name := range r.Header {
		if !strings.ContainsAny(name, "_.") {
			continue
		}
		if n := normalName(name); slices.Contains(ofBodies, n) {
			return unread(http.StatusBadRequest, "the header "+n+" is spelled in another way")
		}
	}
	if encoding := r.Header["Content-Encoding"]; len(encoding) > 1 || len(encoding) == 1 && !strings.EqualFold(encoding[0], "identity") {
		return unread(http.StatusUnsupportedMediaType, "the body is compressed; send it as it is")
	}
	if r.Method == http.MethodPost && !isJSON(r.Header["Content-Type"]) {
		return unread(http.StatusUnsupportedMediaType, "the Content-Type is not application/json in UTF-8")
	}
	return nil
}

// isJSON reports whether a body is JSON in UTF-8.
func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	if contentType[0] == "application/json" {
		return true
	}
	kind, params, err := mime.ParseMediaType(contentType[0])
	charset, named := params["charset"]
	return err == nil && kind == "application/json" && (!named || strings.EqualFold(charset, "utf-8"))
}

// emptyBody refuses a body where none belongs: an upstream may look into it.
func emptyBody(r *http.Request) *bodyFault {
	refused := unread(http.StatusBadRequest, "only POST has a body here")
	switch {
	case r.ContentLength > 0:
		return refused
	case r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody:
		return nil
	}
	// Nothing was said about its length. It has to end at once.
	if n, err := io.ReadAtLeast(r.Body, make([]byte, 1), 1); n > 0 || !errors.Is(err, io.EOF) {
		return refused
	}
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = http.NoBody, 0, nil, nil
	return nil
}
