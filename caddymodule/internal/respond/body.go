package respond

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

// ErrTooLong says that a request body is longer than its endpoint reads.
var ErrTooLong = errors.New("request body is too long")

// announced bounds the room, in bytes, that is made for a body before it comes.
const announced = 64 << 10

// ReadBody reads a request body of at most limit bytes. One that is announced to
// be longer is refused before it has been sent. After an error the connection is
// closed, so that nobody waits for the rest.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		CloseUnread(w, r)
		return nil, ErrTooLong
	}
	// Room for as much as was announced, but not on the word of a client alone.
	body := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+min(max(r.ContentLength, 0), announced)))
	_, err := body.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err == nil && int64(body.Len()) > limit {
		err = ErrTooLong
	}
	if err != nil {
		CloseUnread(w, r)
		return nil, err
	}
	return body.Bytes(), nil
}

// Unread answers a request whose body nobody reads, in a way in which the answer
// arrives and the connection is free soon.
func Unread(w http.ResponseWriter, r *http.Request, answer func()) {
	CloseUnread(w, r)
	answer()
	linger(w, r)
}

// How long, and how much, linger reads of a body that nobody wants.
const (
	lingerTime   = 500 * time.Millisecond
	lingerLength = 1 << 20
)

// linger is called after the answer to a request whose body was left unread. It
// sends the answer off and then takes in some of what the client is still
// sending: closing a connection on which data arrives makes the system reset it,
// and the client would see a network fault instead of the answer.
func linger(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Header.Get("Expect") != "" {
		return
	}
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return
	}
	// The deadline is set when the time is over, as the server moves it with
	// each read.
	over := time.AfterFunc(lingerTime, func() { _ = rc.SetReadDeadline(time.Now()) })
	defer over.Stop()
	_, _ = io.CopyN(io.Discard, r.Body, lingerLength)
}

// CloseUnread makes the server close the connection of a request whose body will
// not be read. The answer would otherwise wait for the body, and a client that
// sends it slowly would hold the connection for as long as it likes.
func CloseUnread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		// Reading goes on in linger after the answer has been written. Where
		// that cannot be had, the answer is sent all the same.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
}
