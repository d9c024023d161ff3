package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

const (
	format  = "mcp_auth state"
	version = 1

	// maxLine bounds a line: a value in base64, a key in which each byte may be
	// escaped, and what stands around them.
	maxLine = (store.MaxValueLength+2)/3*4 + 6*store.MaxKeyLength + 256
)

type header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Created time.Time `json:"created"`
}

type line struct {
	Key     string `json:"key"`
	Expires int64  `json:"expires,omitempty"` // Unix milliseconds
	Value   []byte `json:"value"`
}

type trailer struct {
	Records int    `json:"records"`
	SHA256  []byte `json:"sha256"`
}

func lineOf(key string, r store.Record) line {
	l := line{Key: key, Value: r.Value}
	if !r.Expires.IsZero() {
		l.Expires = r.Expires.UnixMilli()
	}
	return l
}

func (l line) record() store.Record {
	r := store.Record{Value: l.Value}
	if l.Expires != 0 {
		r.Expires = time.UnixMilli(l.Expires)
	}
	return r
}

// Errors of files that are not as Export writes them.
var (
	ErrFormat = errors.New("this is no export of the state")
	ErrNewer  = errors.New("a newer version of this program has written the file; import it with that version")
	ErrCut    = errors.New("the file ends before its last line: it was cut, or the export broke off. Export once more")
	ErrSum    = errors.New("the file was changed after the export: its checksum is another one. Copy it once more, in binary mode, or export once more")
	errLong   = errors.New("the line is too long for a record")
	errJSON   = errors.New("the line is no record of an export")
)

// lines reads a file line by line.
type lines struct {
	in  *bufio.Reader
	sum hash.Hash
	n   int // of the line at hand
}

func newLines(r io.Reader) *lines {
	return &lines{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
}

// next returns the next line without its end, or io.EOF behind the last one.
func (l *lines) next() ([]byte, error) {
	l.n++
	var text []byte
	for {
		part, err := l.in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > maxLine:
			return nil, errLong
		case err == nil:
			return text, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(text) > 0:
			return text, nil
		default:
			return nil, err
		}
	}
}

// scan reads a file and calls each for every record in it, with the number of its
// line. It returns no error when the file is complete and as it was written. An
// error of each ends it.
func scan(r io.Reader, each func(n int, l line) error) error {
	in := newLines(r)
	if err := in.header(); err != nil {
		return in.at(err)
	}
	for records := 0; ; records++ {
		text, err := in.next()
		switch {
		case errors.Is(err, io.EOF):
			return ErrCut
		case err != nil:
			return in.at(err)
		}
		if !bytes.HasPrefix(text, []byte(`{"key":`)) {
			return in.at(in.end(text, records))
		}
		in.sum.Write(text)
		var l line
		if err := parse(text, &l); err != nil {
			return in.at(err)
		}
		if err := l.check(); err != nil {
			return in.at(err)
		}
		if err := each(in.n, l); err != nil {
			return err
		}
	}
}

// at says in which line an error is.
func (l *lines) at(err error) error {
	if err == nil || errors.Is(err, ErrCut) || errors.Is(err, ErrSum) {
		return err
	}
	return fmt.Errorf("line %d: %w", l.n, err)
}

func (l *lines) header() error {
	text, err := l.next()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	l.sum.Write(text)
	// Of a later version, only these two are sure to be there.
	var h header
	if json.Unmarshal(text, &h) != nil || h.Format != format || h.Version < 1 {
		return ErrFormat
	}
	if h.Version > version {
		return ErrNewer
	}
	return parse(text, &h)
}

// end checks the last line.
func (l *lines) end(text []byte, records int) error {
	var t trailer
	if err := parse(text, &t); err != nil {
		if !bytes.HasSuffix(text, []byte("\n")) {
			return ErrCut // within a line
		}
		return err
	}
	if t.Records != records || !bytes.Equal(t.SHA256, l.sum.Sum(nil)) {
		return ErrSum
	}
	if _, err := l.next(); err == nil || !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the last line of the export; remove it")
	}
	return nil
}

// parse reads a line that has exactly the fields of v. Its errors do not repeat
// the line, which may be a secret.
func parse(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if len(text) > 0 && text[len(text)-1] != '\n' {
			return ErrCut
		}
		return errJSON
	}
	if len(bytes.TrimSpace(text[d.InputOffset():])) != 0 {
		return errJSON
	}
	return nil
}

// check holds a record to what stores accept.
func (l line) check() error {
	if err := store.CheckKey(l.Key); err != nil {
		return err
	}
	if l.Expires < 0 || l.Expires > maxExpires {
		return errors.New("the expiry is out of range")
	}
	return store.CheckRecord(l.record(), time.Time{})
}

// maxExpires is the end of the year 9999.
const maxExpires = 253_402_300_799_999

// writer writes a file.
type writer struct {
	out     *bufio.Writer
	encoder *json.Encoder
	sum     hash.Hash
	records int
}

func newWriter(w io.Writer, now time.Time) (*writer, error) {
	out := &writer{out: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	out.encoder = json.NewEncoder(io.MultiWriter(out.out, out.sum))
	out.encoder.SetEscapeHTML(false)
	return out, out.encoder.Encode(header{format, version, now.UTC().Truncate(time.Second)})
}

func (w *writer) add(key string, r store.Record) error {
	w.records++
	return w.encoder.Encode(lineOf(key, r))
}

// end writes the last line. Without it the file is not complete.
func (w *writer) end() error {
	sum := base64.StdEncoding.EncodeToString(w.sum.Sum(nil))
	fmt.Fprintf(w.out, `{"records":%d,"sha256":"%s"}`+"\n", w.records, sum)
	return w.out.Flush()
}
