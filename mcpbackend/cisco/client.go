// Package cisco is a client of Cisco's Bug API v2.0: it keeps an access token, asks, and explains refusals.
//
// Every error that [Client.Bugs] returns is fit to be shown to a user: one or two sentences that say what to do, and
// never the address asked, the token or the secret.
package cisco

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

// Where Cisco serves the API and its tokens, unless the configuration says otherwise.
const (
	DefaultAPIBase  = "https://apix.cisco.com/bug/v2.0"
	DefaultTokenURL = "https://id.cisco.com/oauth2/default/v1/token"
)

const (
	// callTimeout covers one search with its token request and its retries.
	callTimeout = 60 * time.Second
	// maxRetryAfter is the longest pause that the API can ask for and get: longer ones are the user's to wait.
	maxRetryAfter = 5 * time.Second
	// maxPage bounds an answer of the API. Ten bugs with long descriptions take some tens of kilobytes.
	maxPage = 4 << 20
)

// Config says whose credentials to use, and where. The credentials come from Cisco's API console, of an application
// that has the Bug API.
type Config struct {
	ClientID     string
	ClientSecret string
	APIBase      string // default [DefaultAPIBase]; https, or http to the own machine
	TokenURL     string // default [DefaultTokenURL]; the same rule

	// Transport carries the requests. Default: a clone of [http.DefaultTransport].
	Transport http.RoundTripper
}

// A Client asks Cisco's Bug API. It is safe for concurrent use.
type Client struct {
	base   string
	http   *http.Client
	tokens *tokenSource
}

// New checks cfg and returns a client. It does not touch the network.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.ClientID == "" && cfg.ClientSecret == "":
		return nil, errors.New("no Cisco credentials: set CISCO_CLIENT_ID and CISCO_CLIENT_SECRET")
	case cfg.ClientSecret == "":
		return nil, errors.New("CISCO_CLIENT_ID is set but CISCO_CLIENT_SECRET is not: set both, or neither to use the sample data")
	case cfg.ClientID == "":
		return nil, errors.New("CISCO_CLIENT_SECRET is set but CISCO_CLIENT_ID is not: set both, or neither to use the sample data")
	}
	base, err := endpoint("CISCO_API_BASE", cfg.APIBase, DefaultAPIBase)
	if err != nil {
		return nil, err
	}
	tokenURL, err := endpoint("CISCO_TOKEN_URL", cfg.TokenURL, DefaultTokenURL)
	if err != nil {
		return nil, err
	}
	transport := cfg.Transport
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	hc := &http.Client{
		Transport: transport,
		// A redirect would carry the token or the secret to a place nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{
		base:   strings.TrimRight(base, "/"),
		http:   hc,
		tokens: newTokenSource(hc, tokenURL, cfg.ClientID, cfg.ClientSecret),
	}, nil
}

// endpoint returns value, or def when it is empty, after checking that credentials may be sent there.
func endpoint(name, value, def string) (string, error) {
	if value == "" {
		return def, nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%s is not a plain address: write it like %s, or unset it", name, def)
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return value, nil
	}
	return "", fmt.Errorf("%s must begin with https:// (http:// is for this machine only), because credentials are sent there", name)
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Bugs runs one search. It fails with an [*Error], whose text can be shown as it is.
func (c *Client) Bugs(ctx context.Context, q bugs.Query) (bugs.Page, error) {
	address, err := c.address(q)
	if err != nil {
		return bugs.Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := c.get(ctx, address)
	if err != nil {
		return bugs.Page{}, err
	}
	return res.page(q)
}

// get asks until there is an answer worth returning: once more with a fresh token after a 401, because a token can
// be revoked before it expires, and once more after a short pause that a 429 asked for.
func (c *Client) get(ctx context.Context, address string) (answer, error) {
	freshToken, paused := false, false
	for {
		token, err := c.tokens.get(ctx)
		if err != nil {
			return answer{}, err
		}
		res, err := c.once(ctx, address, token)
		switch {
		case err != nil:
			return answer{}, err
		case res.status == http.StatusUnauthorized:
			c.tokens.drop(ctx, token)
			if !freshToken {
				freshToken = true
				continue
			}
		case res.status == http.StatusTooManyRequests && !paused && res.retryAfter >= 0 && res.retryAfter <= maxRetryAfter:
			paused = true
			if err := sleep(ctx, res.retryAfter); err != nil {
				return answer{}, transportError("Cisco's API", err)
			}
			continue
		}
		if res.status != http.StatusOK {
			return answer{}, refusal(res, token)
		}
		return res, nil
	}
}

// An answer is one response of the API, read to its end.
type answer struct {
	status     int
	retryAfter time.Duration // negative when the response did not say
	body       []byte
}

func (c *Client) once(ctx context.Context, address, token string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, transportError("Cisco's API", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, transportError("Cisco's API", err)
	}
	defer res.Body.Close()
	body, err := readBounded(res.Body, maxPage)
	if err != nil {
		return answer{}, transportError("Cisco's API", err)
	}
	return answer{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), time.Now()), body}, nil
}

// page decodes a successful answer. The pagination record is missing from lookups by id, so its absence means one
// page.
func (a answer) page(q bugs.Query) (bugs.Page, error) {
	var wire struct {
		Record struct {
			PageIndex    bugs.Text `json:"page_index"`
			LastIndex    bugs.Text `json:"last_index"`
			TotalRecords bugs.Text `json:"total_records"`
		} `json:"pagination_response_record"`
		Bugs []bugs.Bug `json:"bugs"`
	}
	if err := json.Unmarshal(a.body, &wire); err != nil {
		return bugs.Page{}, &Error{Message: "Cisco's API sent an answer that could not be read. Try again later.", cause: err}
	}
	p := bugs.Page{
		Bugs:  wire.Bugs,
		Index: number(wire.Record.PageIndex, max(q.Filter.Page, 1)),
		Total: number(wire.Record.TotalRecords, len(wire.Bugs)),
	}
	p.Last = number(wire.Record.LastIndex, max((p.Total+bugs.PageSize-1)/bugs.PageSize, 1))
	return p, nil
}

func number(t bugs.Text, def int) int {
	n, err := strconv.Atoi(string(t))
	if err != nil || n < 0 {
		return def
	}
	return n
}

// errTooLong is the cause of an [*Error] for an answer over the bound.
var errTooLong = errors.New("answer over the size bound")

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, errTooLong
	}
	return b, err
}

// retryAfter reads a Retry-After header (RFC 9110 §10.2.3), which is a number of seconds or a date. It returns a
// negative duration when there is none to obey.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return -1
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
