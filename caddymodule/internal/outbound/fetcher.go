package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
)

// Reach says which addresses a fetch may get to.
type Reach int

// The reaches.
const (
	// Public is the Internet without the addresses of special use (RFC 6890).
	Public Reach = iota

	// Loopback is this machine and nothing else, over http as well. It is for
	// tests.
	Loopback

	// Anywhere is for addresses that the operator has written down.
	Anywhere
)

// Bounds of a fetch.
const (
	MaxLength = 10 << 10 // bytes of a body

	// MaxOperatorLength is the same for addresses that the operator has written
	// down: large providers publish long sets of keys, with certificates.
	MaxOperatorLength = 256 << 10

	// PauseTime is how long an address is left alone after a failure. It is no
	// cache of failures: it keeps a flood of requests from becoming a flood of
	// fetches.
	PauseTime = 15 * time.Second

	timeout         = 5 * time.Second // in all
	maxHeaderLength = 16 << 10
)

// ErrGone says that the server has withdrawn the document for good (RFC 9110
// section 15.5.11).
var ErrGone = errors.New("the document is gone")

// Document is what a fetch brought.
type Document struct {
	Body  []byte
	Fresh time.Duration // for which it need not be fetched again
	Value any           // what the caller's reader made of it
}

// Reader makes a value of a document or refuses it, which counts as a failed
// fetch. Callers that ask for the same address have the same reader.
type Reader func(body []byte) (any, error)

// Options are what tests change about a fetcher.
type Options struct {
	Timeout  time.Duration  // for a fetch; 0 for the default
	Roots    *x509.CertPool // nil for the system's
	Resolver *net.Resolver  // nil for the system's

	// Check replaces the check of dialled addresses when it is not nil.
	Check func(Reach, netip.Addr) error

	// Transport replaces the network when it is not nil.
	Transport http.RoundTripper
}

// Fetcher fetches documents. It belongs to the state that outlives reloads of the
// configuration. It is safe for concurrent use.
type Fetcher struct {
	timeout time.Duration
	limits  *limits
	slots   chan struct{}
	pauses  *bounded.Cache
	flights singleflight.Group
	clients map[Reach]*http.Client
}

// New returns a fetcher with the defaults.
func New() *Fetcher { return NewWith(Options{}) }

// NewWith returns a fetcher for tests.
func NewWith(o Options) *Fetcher {
	f := &Fetcher{
		timeout: timeout, limits: newLimits(), slots: make(chan struct{}, slots),
		pauses: bounded.NewCache(entries), clients: make(map[Reach]*http.Client),
	}
	if o.Timeout > 0 {
		f.timeout = o.Timeout
	}
	if o.Check == nil {
		o.Check = check
	}
	for _, reach := range []Reach{Public, Loopback, Anywhere} {
		f.clients[reach] = f.newClient(reach, o)
	}
	return f
}

// check decides at the moment of dialling: a name that resolves to something else
// than a moment ago gains nothing.
func check(reach Reach, addr netip.Addr) error {
	switch reach {
	case Loopback:
		return checkLoopback(addr)
	case Anywhere:
		return nil
	default:
		return checkPublic(addr)
	}
}

// newClient makes a client that goes straight to where the address leads: no
// proxy of the environment, no redirects, no cookies, no connection kept open.
func (f *Fetcher) newClient(reach Reach, o Options) *http.Client {
	dialer := &net.Dialer{Timeout: f.timeout, Resolver: o.Resolver}
	dialer.Control = func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if err := o.Check(reach, to.Addr()); err != nil {
			return err
		}
		if reach == Public {
			return f.limits.address(to.Addr())
		}
		return nil
	}
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{
			DialContext:       dialer.DialContext,
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: maxHeaderLength,
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Get fetches the JSON document at an address that the caller has checked. Many
// that ask for one address at the same time share one fetch, and after a failure
// there is a pause. What failed is for the log and not for strangers.
func (f *Fetcher) Get(ctx context.Context, reach Reach, address string, reader Reader) (*Document, error) {
	key := fmt.Sprint(int(reach), " ", address)
	if _, paused := f.pauses.Get(key); paused {
		return nil, errPaused
	}
	// The fetch goes on when the first who asked for it has left.
	flight := f.flights.DoChan(key, func() (any, error) {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.timeout)
		defer cancel()
		doc, err := f.fetch(within, reach, address)
		if err == nil {
			doc.Value, err = reader(doc.Body)
		}
		if err != nil && !errors.Is(err, errBusy) {
			f.pauses.Set(key, true, PauseTime)
		}
		return doc, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-flight:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.(*Document), nil
	}
}

// fetch makes one request within the limits. Those are for strangers: what the
// operator wrote down does not wait behind them.
func (f *Fetcher) fetch(ctx context.Context, reach Reach, address string) (*Document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if reach != Anywhere {
		if err := f.limits.host(strings.ToLower(req.URL.Hostname())); err != nil {
			return nil, err
		}
		select {
		case f.slots <- struct{}{}:
			defer func() { <-f.slots }()
		case <-ctx.Done():
			return nil, errBusy
		}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "caddy-mcp-auth")
	resp, err := f.clients[reach].Do(req)
	if err != nil {
		return nil, withoutAddress(err)
	}
	defer resp.Body.Close()
	if reach == Anywhere {
		return read(resp, MaxOperatorLength)
	}
	return read(resp, MaxLength)
}

// withoutAddress drops the address, which the log has anyway.
func withoutAddress(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

// read takes an answer that is exactly what was asked for.
func read(resp *http.Response, maxLength int64) (*Document, error) {
	if resp.StatusCode == http.StatusGone {
		return nil, ErrGone
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, errors.New("the document is compressed, which was not asked for")
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")) {
		return nil, errors.New("the Content-Type is not that of JSON")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxLength+1))
	if err != nil {
		return nil, fmt.Errorf("the document did not arrive whole: %w", err)
	}
	if int64(len(body)) > maxLength {
		return nil, fmt.Errorf("the document is longer than %d bytes", maxLength)
	}
	return &Document{Body: body, Fresh: freshness(resp.Header, time.Now())}, nil
}
