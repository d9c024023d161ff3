package respond_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

func TestReadBody(t *testing.T) {
	const limit = 8
	broken := errors.New("connection reset")
	unread := iotest.ErrReader(errors.New("the body was read"))
	for _, tc := range []struct {
		rule   string
		body   io.Reader
		length int64 // as announced; -1 for unknown
		want   string
		err    error
	}{
		{"a short body", strings.NewReader("abc"), 3, "abc", nil},
		{"nothing", strings.NewReader(""), 0, "", nil},
		{"the longest body", strings.NewReader("12345678"), 8, "12345678", nil},
		{"the longest body in chunks", strings.NewReader("12345678"), -1, "12345678", nil},
		{"one byte too long in chunks", strings.NewReader("123456789"), -1, "", respond.ErrTooLong},
		{"what is announced to be too long is not waited for", unread, 9, "", respond.ErrTooLong},
		{"a body that breaks off", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), -1, "", broken},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/register", tc.body)
			r.ContentLength = tc.length
			w := httptest.NewRecorder()
			got, err := respond.ReadBody(w, r, limit)
			if string(got) != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
			connection := ""
			if tc.err != nil {
				connection = "close"
			}
			wantHeaders(t, w.Header(), map[string]string{"Connection": connection})
		})
	}
}

func TestCloseUnread(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		major  int
		length int64
		want   string
	}{
		{"a body that was not read", 1, 5, "close"},
		{"a body of unknown length", 1, -1, "close"},
		{"no body", 1, 0, ""},
		{"HTTP/2 ends the stream alone", 2, 5, ""},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
			r.ProtoMajor, r.ContentLength = tc.major, tc.length
			w := httptest.NewRecorder()
			respond.CloseUnread(w, r)
			wantHeaders(t, w.Header(), map[string]string{"Connection": tc.want})
		})
	}
}
