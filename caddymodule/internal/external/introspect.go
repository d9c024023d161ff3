// This file implements RFC 7662 (Token Introspection), as a client of it.

package external

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Introspection is where an authorization server tells about its tokens, and how
// we prove to it who we are.
type Introspection struct {
	Endpoint, ClientID, ClientSecret string
}

// Bounds of introspection.
const (
	// goodTime is how long an answer counts. A token that is revoked meanwhile
	// works that much longer.
	goodTime = time.Minute

	// badTime is the same for tokens that are not active.
	badTime = 5 * time.Second

	// askTimeout is how long an answer may take, and waiting for a turn.
	askTimeout = 5 * time.Second

	// restTime is how long nobody is asked after the endpoint could not be
	// reached.
	restTime = 2 * time.Second

	maxAsking    = 32 // requests at a time
	maxAnswer    = 64 << 10
	maxBadTokens = 8192
)

// introspector asks about opaque tokens.
type introspector struct {
	server *server
	client *http.Client
	log    *zap.Logger
	good   *bounded.Cache
	bad    *bounded.Cache // the reason
	flight singleflight.Group
	slots  chan struct{}
	resume atomic.Int64 // when the endpoint may be tried again, in Unix milliseconds
}

func newIntrospector(s Server, log *zap.Logger) *introspector {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: askTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: maxAsking, IdleConnTimeout: time.Minute, DisableCompression: true,
		MaxResponseHeaderBytes: 16 << 10,
	}
	return &introspector{
		server: &server{Server: s}, log: log,
		client: &http.Client{
			Transport: transport,
			// Our secret and somebody's token go to where the operator said.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		good: bounded.NewCache(token.CacheEntries), bad: bounded.NewCache(maxBadTokens), slots: make(chan struct{}, maxAsking),
	}
}

// remembered is what the issuer said about a token a moment ago; false for
// nothing.
func (i *introspector) remembered(raw string) (good *verified, known bool, err error) {
	if found, ok := i.good.Get(raw); ok {
		good = found.(*verified)
		if good.claims.Expires != 0 && time.Now().Unix() >= good.claims.Expires {
			return nil, true, token.ErrExpired
		}
		return good, true, nil
	}
	if reason, ok := i.bad.Get(raw); ok {
		return nil, true, reason.(error)
	}
	return nil, false, nil
}

// ask returns what the issuer says about a token, or has said a moment ago.
func (i *introspector) ask(ctx context.Context, raw string, prepare func(*token.Claims)) (*verified, error) {
	if good, known, err := i.remembered(raw); known {
		return good, err
	}
	raw = strings.Clone(raw) // it may be a piece of the whole header
	flight := i.flight.DoChan(raw, func() (any, error) {
		if good, known, err := i.remembered(raw); known {
			return good, err // somebody was faster
		}
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		good, lifetime, err := i.askNow(within, raw)
		switch {
		case err == nil:
			prepare(good.claims)
			i.good.Set(raw, good, lifetime)
		case !errors.Is(err, token.ErrUnavailable):
			i.bad.Set(raw, err, badTime)
		}
		return good, err
	})
	select {
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	case got := <-flight:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.(*verified), nil
	}
}

// askNow asks the issuer, and returns for how long its answer counts.
func (i *introspector) askNow(ctx context.Context, raw string) (*verified, time.Duration, error) {
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-ctx.Done():
		return nil, 0, unavailable(errors.New("too many tokens are being asked about"))
	}
	data, err := i.post(ctx, raw)
	if err != nil {
		return nil, 0, unavailable(err)
	}
	claims, err := parse(data)
	if err != nil {
		return nil, 0, unavailable(errors.New("the introspection endpoint does not answer in JSON"))
	}
	return i.judge(claims, time.Now())
}

// post makes the request (section 2.1), with our credentials in the header. The
// lines in the log say nothing of the token.
func (i *introspector) post(ctx context.Context, raw string) ([]byte, error) {
	if time.Now().UnixMilli() < i.resume.Load() {
		return nil, errors.New("the introspection endpoint could not be reached a moment ago")
	}
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}.Encode()
	to := i.server.Introspection
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Endpoint, strings.NewReader(form))
	if err != nil {
		return nil, errors.New("the address of the introspection endpoint is none")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "caddy-mcp-auth")
	// RFC 6749 section 2.3.1 encodes both parts before they are put together.
	req.SetBasicAuth(url.QueryEscape(to.ClientID), url.QueryEscape(to.ClientSecret))
	resp, err := i.client.Do(req)
	if err != nil {
		i.resume.Store(time.Now().Add(restTime).UnixMilli())
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		i.log.Warn("the introspection endpoint cannot be reached", zap.String("issuer", i.server.Issuer), zap.Error(err))
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		// Even a 401 is about us and says nothing of the token.
		i.log.Warn("the introspection endpoint does not answer; a 401 is about the client_id and client_secret of introspection",
			zap.String("issuer", i.server.Issuer), zap.Int("status", resp.StatusCode))
		return nil, fmt.Errorf("the introspection endpoint answers %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, errors.New("the answer of the introspection endpoint did not arrive whole")
	}
	if len(data) > maxAnswer {
		return nil, errors.New("the answer of the introspection endpoint is too long")
	}
	return data, nil
}

// judge decides by the answer (section 2.2). Members that may be missing there
// have to be right when they are there, and aud may not be missing.
func (i *introspector) judge(c wire, now time.Time) (*verified, time.Duration, error) {
	if string(c["active"]) != "true" {
		return nil, 0, malformed("the issuer says that it is not active")
	}
	if c.has("iss") && text(c["iss"]) != i.server.Issuer {
		return nil, 0, malformed("the issuer says that it is of another one")
	}
	if c.has("token_type") && !slices.Contains([]string{"bearer", "access_token"}, strings.ToLower(text(c["token_type"]))) {
		return nil, 0, malformed("it is no bearer token")
	}
	aud, err := c.audience()
	if err != nil {
		return nil, 0, err
	}
	if err := c.checkKind(false); err != nil {
		return nil, 0, err
	}
	expires, issued, err := c.checkTimes(now, false)
	if err != nil {
		return nil, 0, err
	}
	claims, err := c.claims(i.server.Issuer)
	if err != nil {
		return nil, 0, err
	}
	claims.Expires, claims.IssuedAt = expires, issued
	lifetime := goodTime
	if expires != 0 {
		lifetime = min(lifetime, time.Until(time.Unix(expires, 0)))
	}
	return &verified{claims: claims, server: i.server, audience: aud}, lifetime, nil
}
