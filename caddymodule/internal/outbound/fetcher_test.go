package outbound

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// serve runs an https server, and returns its address and a fetcher that trusts
// it.
func serve(t *testing.T, handler http.HandlerFunc, change ...func(*httptest.Server)) (string, *Fetcher) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, NewWith(Options{Timeout: 500 * time.Millisecond, Roots: roots})
}

func jsonHeader(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json") }

func TestAnAnswerIsTakenOnlyAsItWasAskedFor(t *testing.T) {
	document := []byte(`{"a":1}`)
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	_, _ = z.Write(document)
	z.Close()
	answer := func(status int, kind string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}
	}
	for rule, tt := range map[string]struct {
		handler http.HandlerFunc
		good    bool
	}{
		"JSON":                   {answer(200, "application/json", document), true},
		"JSON with a charset":    {answer(200, "Application/JSON; charset=utf-8", document), true},
		"a kind of JSON":         {answer(200, "application/cimd+json", document), true},
		"as long as it may be":   {answer(200, "application/json", bytes.Repeat([]byte(" "), MaxLength)), true},
		"a byte too long":        {answer(200, "application/json", bytes.Repeat([]byte(" "), MaxLength+1)), false},
		"HTML":                   {answer(200, "text/html", document), false},
		"a page that says +json": {answer(200, "text/x+json", document), false},
		"no type":                {answer(200, "", document), false},
		"two types":              {answer(200, "application/json, text/html", document), false},
		"created":                {answer(201, "application/json", document), false},
		"no content":             {answer(204, "application/json", nil), false},
		"partial":                {answer(206, "application/json", document), false},
		"not found":              {answer(404, "application/json", document), false},
		"an error":               {answer(500, "application/json", document), false},
		"compressed all the same": {func(w http.ResponseWriter, _ *http.Request) {
			jsonHeader(w)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(compressed.Bytes())
		}, false},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			jsonHeader(w)
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(document)
		}, false},
		"headers without end": {func(w http.ResponseWriter, _ *http.Request) {
			jsonHeader(w)
			w.Header().Set("X-Filler", strings.Repeat("x", 64<<10))
			_, _ = w.Write(document)
		}, false},
		"a body that drips": {func(w http.ResponseWriter, r *http.Request) {
			jsonHeader(w)
			for range 1000 {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					// To return would end the body well, perhaps before the client
					// has closed its side.
					panic(http.ErrAbortHandler)
				case <-time.After(50 * time.Millisecond):
				}
			}
		}, false},
		"no answer": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			address, f := serve(t, tt.handler)
			doc, err := f.Get(t.Context(), Loopback, address+"/x", func(body []byte) (any, error) { return len(body), nil })
			if (err == nil) != tt.good {
				t.Errorf("got %v, %v", doc, err)
			}
			if err == nil && doc.Value != len(doc.Body) {
				t.Errorf("the reader made %v", doc.Value)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		followed := false
		address, f := serve(t, func(w http.ResponseWriter, r *http.Request) {
			jsonHeader(w)
			if r.URL.Path == "/x" {
				w.Header().Set("Location", "/y")
				w.WriteHeader(status)
				return
			}
			followed = true
			_, _ = w.Write([]byte("{}"))
		})
		if _, err := f.Get(t.Context(), Loopback, address+"/x", accept); err == nil || followed {
			t.Errorf("%d: error %v, followed %v", status, err, followed)
		}
	}
}

func TestTheRequestTellsNothing(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	var got *http.Request
	address, f := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Set-Cookie", "a=b")
		jsonHeader(w)
		_, _ = w.Write([]byte("{}"))
	})
	for _, path := range []string{"/x", "/y"} {
		if _, err := f.Get(t.Context(), Loopback, address+path, accept); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Cookie", "Referer", "Authorization", "Traceparent"} {
			if got.Header.Get(name) != "" {
				t.Errorf("it sends %s", name)
			}
		}
		if got.Method != http.MethodGet || got.Header.Get("Accept-Encoding") != "identity" || got.Header.Get("Accept") != "application/json" {
			t.Errorf("it sends %s with %v", got.Method, got.Header)
		}
	}
}

func TestTheServerProvesWhoItIs(t *testing.T) {
	ok := func(w http.ResponseWriter, _ *http.Request) { jsonHeader(w); _, _ = w.Write([]byte("{}")) }
	address, _ := serve(t, ok)
	if _, err := New().Get(t.Context(), Loopback, address+"/x", accept); err == nil {
		t.Error("a certificate that nobody trusts is taken")
	}
	address, f := serve(t, ok, func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS11 })
	if _, err := f.Get(t.Context(), Loopback, address+"/x", accept); err == nil {
		t.Error("TLS 1.1 is taken")
	}
}

func TestGoneIsToldApart(t *testing.T) {
	address, f := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	if _, err := f.Get(t.Context(), Loopback, address+"/x", accept); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestTheOperatorReachesPrivateAddresses(t *testing.T) {
	address, f := serve(t, func(w http.ResponseWriter, _ *http.Request) { jsonHeader(w); _, _ = w.Write([]byte("{}")) })
	if _, err := f.Get(t.Context(), Anywhere, address+"/x", accept); err != nil {
		t.Error(err)
	}
	if err := check(Anywhere, netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Error(err)
	}
}
