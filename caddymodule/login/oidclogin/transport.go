package oidclogin

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// exchangeTimeout bounds one exchange with the provider, in which somebody waits
// at a browser.
const exchangeTimeout = 10 * time.Second

// maxBody bounds every answer of the provider in bytes.
const maxBody = 1 << 20

var (
	errTooLong  = errors.New("the answer of the provider is too long")
	errRedirect = errors.New("the provider redirects to another place")
)

// newClient returns a client that trusts a provider no further than is needed.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &http.Client{Transport: limited{transport}, Timeout: exchangeTimeout, CheckRedirect: checkRedirect}
}

// checkRedirect follows a few redirects of documents within the origin of the
// provider. A POST holds our secret and is never repeated elsewhere.
func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > 3 || first.Method != http.MethodGet || r.URL.Scheme != first.URL.Scheme || r.URL.Host != first.URL.Host {
		return errRedirect
	}
	return nil
}

// limited cuts off answers without an end.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxBody}
	return resp, nil
}

type limitedBody struct {
	io.ReadCloser
	left int
}

// Read fails for a body that is too long, as a part of one could mean something
// else than the whole.
func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLong
	}
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
