package respond

import (
	"errors"
	"io"
	"net/http"
)

// ErrTooLong says that a request body is longer than its endpoint reads.
var ErrTooLong = errors.New("request body is too long")

// ReadBody reads a request body of at most limit bytes. One that is announced to
// be longer is refused before it has been sent. After an error the connection is
// closed, so that nobody waits for the rest.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		CloseUnread(w, r)
		return nil, ErrTooLong
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = ErrTooLong
	}
	if err != nil {
		CloseUnread(w, r)
		return nil, err
	}
	return body, nil
}

// CloseUnread makes the server close the connection of a request whose body will
// not be read. The answer would otherwise wait for the body, and a client that
// sends it slowly would hold the connection for as long as it likes.
func CloseUnread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}
