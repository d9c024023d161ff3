package cisco_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/cisco"
)

// roundTripper answers without a network, which the fake clock of synctest needs.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

var search = bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"}

func newFake(t *testing.T, token, api roundTripper) *cisco.Client {
	t.Helper()
	c, err := cisco.New(cisco.Config{ClientID: "a", ClientSecret: "b", Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			return token(r)
		}
		return api(r)
	})})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokenLifetime(t *testing.T) {
	for _, tc := range []struct {
		name, expiresIn string
		used, renewed   time.Duration // still used after, fetched anew after
	}{
		{"an hour: renewed a minute early", `3600`, 58 * time.Minute, 59 * time.Minute},
		{"a minute: renewed six seconds early", `60`, 53 * time.Second, 54 * time.Second},
		{"ten seconds: used for nine", `10`, 8 * time.Second, 9 * time.Second},
		{"one second: used for most of it", `1`, 800 * time.Millisecond, 900 * time.Millisecond},
		{"a quoted number is read", `"60"`, 53 * time.Second, 54 * time.Second},
		{"missing: five minutes are assumed", `null`, 4 * time.Minute, 5 * time.Minute},
		{"negative: five minutes are assumed", `-1`, 4 * time.Minute, 5 * time.Minute},
		{"absurd: a day at most", `1e300`, 23 * time.Hour, 24 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fetched := 0
				c := newFake(t, func(*http.Request) (*http.Response, error) {
					fetched++
					return answer(200, fmt.Sprintf(`{"access_token":"t","expires_in":%s}`, tc.expiresIn)), nil
				}, func(*http.Request) (*http.Response, error) { return answer(200, `{}`), nil })
				ask := func() {
					t.Helper()
					if _, err := c.Bugs(t.Context(), search); err != nil {
						t.Fatal(err)
					}
				}
				ask()
				time.Sleep(tc.used)
				ask()
				if fetched != 1 {
					t.Errorf("fetched %d times within %v, want once", fetched, tc.used)
				}
				time.Sleep(tc.renewed - tc.used)
				ask()
				if fetched != 2 {
					t.Errorf("fetched %d times after %v, want twice", fetched, tc.renewed)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tc := range []struct {
		name, header string
		pause        time.Duration // before the retry; negative: no retry
	}{
		{"seconds are waited for", "3", 3 * time.Second},
		{"zero retries at once", "0", 0},
		{"five seconds are the most", "5", 5 * time.Second},
		{"six are too long", "6", -1},
		{"a date is read", "Sat, 01 Jan 2000 00:00:04 GMT", 4 * time.Second},
		{"a date in the past retries at once", "Fri, 31 Dec 1999 00:00:00 GMT", 0},
		{"a date far away is too long", "Sun, 02 Jan 2000 00:00:00 GMT", -1},
		{"nonsense is no permission", "soon", -1},
		{"a negative number is nonsense", "-1", -1},
		{"an absurd number is too long", "99999999999999999999", -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the clock starts at midnight UTC of 2000-01-01
				calls := 0
				c := newFake(t, issueToken, func(*http.Request) (*http.Response, error) {
					calls++
					if calls == 1 {
						return answer(429, "", "Retry-After", tc.header), nil
					}
					return answer(200, `{}`), nil
				})
				start := time.Now()
				_, err := c.Bugs(t.Context(), search)
				if tc.pause < 0 {
					if calls != 1 || err == nil || !strings.Contains(err.Error(), "too many requests") {
						t.Errorf("%d calls, error %v; want one and a refusal", calls, err)
					}
					return
				}
				if err != nil || calls != 2 || time.Since(start) != tc.pause {
					t.Errorf("%d calls, error %v, after %v; want two after %v", calls, err, time.Since(start), tc.pause)
				}
			})
		})
	}
}

func issueToken(*http.Request) (*http.Response, error) {
	return answer(200, `{"access_token":"t","expires_in":3600}`), nil
}

func TestSecond429IsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := newFake(t, issueToken, func(*http.Request) (*http.Response, error) {
			calls++
			return answer(429, "", "Retry-After", "1"), nil
		})
		if _, err := c.Bugs(t.Context(), search); err == nil || calls != 2 {
			t.Errorf("%d calls, error %v; want two and a refusal", calls, err)
		}
	})
}

// hang answers nothing until the caller gives up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestSilenceEndsAfterAMinute(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		token, api roundTripper
	}{
		{"of the API", "Cisco's API did not answer within 60 seconds. Try again, or narrow the search.", issueToken, hang},
		{"of the token endpoint", "Cisco's sign-in service did not answer within 60 seconds. Try again, or narrow the search.", hang, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := newFake(t, tc.token, tc.api).Bugs(t.Context(), search)
				if err == nil || err.Error() != tc.want || time.Since(start) != time.Minute {
					t.Errorf("error %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

func TestCancelledCallerLeavesWhileAnotherFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t, hang, nil)
		first, stopFirst := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.Bugs(first, search)
			done <- err
		}()
		synctest.Wait() // the first caller is fetching
		second, stopSecond := context.WithTimeout(t.Context(), time.Second)
		defer stopSecond()
		start := time.Now()
		if _, err := c.Bugs(second, search); err == nil || time.Since(start) != time.Second {
			t.Errorf("the second caller left after %v with %v", time.Since(start), err)
		}
		stopFirst()
		if err := <-done; err == nil || err.Error() != "The search was cancelled." {
			t.Errorf("the first caller got %v", err)
		}
	})
}
