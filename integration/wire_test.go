package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// dialTLS opens a connection that speaks the given protocol ("http/1.1" or "h2"), for requests that no HTTP library
// would send.
func (g *gateway) dialTLS(t testing.TB, protocol string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", g.address(), g.tlsConfig(protocol))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// rawHTTP1 sends bytes as they are, says that there are no more, and returns all answers. What the server refuses to
// answer, closing the connection, has none.
func (g *gateway) rawHTTP1(t testing.TB, request string) []*answer {
	t.Helper()
	conn := g.dialTLS(t, "http/1.1")
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err == nil {
		_ = conn.CloseWrite() // the server may have closed the connection already
	}
	method, _, _ := strings.Cut(request, " ")
	return readAnswers(conn, method)
}

// readAnswers reads responses until the connection ends or goes silent.
func readAnswers(conn net.Conn, method string) []*answer {
	var out []*answer
	for r := bufio.NewReader(conn); ; {
		a, err := readAnswer(r, method)
		if err != nil {
			return out
		}
		out = append(out, a)
	}
}

// readAnswer reads one response, and leaves out those that only announce it.
func readAnswer(r *bufio.Reader, method string) (*answer, error) {
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return &answer{resp.StatusCode, resp.Header, string(body)}, nil
		}
	}
}

// errRefusedH2 says that the server has reset a stream or closed the connection instead of answering.
var errRefusedH2 = errors.New("reset or closed without an answer")

// h2Request is a request in frames: the header fields as they are, in their order, a body, and trailers.
type h2Request struct {
	fields   [][2]string
	body     string
	trailers [][2]string
}

// rawHTTP2 sends a request in frames of its own making and returns the status of the answer.
func (g *gateway) rawHTTP2(t testing.TB, req h2Request) (status int, err error) {
	t.Helper()
	conn := g.dialTLS(t, "h2")
	defer conn.Close()
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := writeH2(conn, fr, req); err != nil {
		return 0, errRefusedH2 // the server closed the connection while we were writing
	}
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			return 0, errRefusedH2
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status, err = strconv.Atoi(f.PseudoValue("status")); err != nil || status >= 200 {
				return status, err
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return 0, errRefusedH2
		}
	}
}

func writeH2(conn io.Writer, fr *http2.Framer, req h2Request) error {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	if err := fr.WriteSettings(); err != nil {
		return err
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	write := func(fields [][2]string, end bool) error {
		block.Reset()
		for _, f := range fields {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return err
			}
		}
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	if err := write(req.fields, req.body == "" && req.trailers == nil); err != nil {
		return err
	}
	if req.body != "" {
		if err := fr.WriteData(1, req.trailers == nil, []byte(req.body)); err != nil {
			return err
		}
	}
	if req.trailers != nil {
		return write(req.trailers, true)
	}
	return nil
}

// h2Fields are the header fields of an ordinary request and what is added to it.
func (g *gateway) h2Fields(method, path string, more ...[2]string) [][2]string {
	return append([][2]string{
		{":method", method}, {":scheme", "https"}, {":authority", fmt.Sprintf("localhost:%d", g.port)}, {":path", path},
	}, more...)
}
