// This file implements how long an answer may be kept: RFC 9111 (HTTP Caching)
// section 4.2, within bounds of ours.

package outbound

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An answer is kept for at least a minute, whatever its headers say: one
// authorization looks at it several times. And it is kept for at most a day, so
// that a change gets around.
const (
	MinFresh = time.Minute
	MaxFresh = 24 * time.Hour

	// unsaidFresh is for answers that say nothing.
	unsaidFresh = 5 * time.Minute
)

// freshness returns how long an answer that came at the moment now stays fresh.
func freshness(h http.Header, now time.Time) time.Duration {
	return min(max(claimedFreshness(h, now), MinFresh), MaxFresh)
}

// claimedFreshness is what the headers say. What cannot be understood counts as
// stale (section 4.2.1).
func claimedFreshness(h http.Header, now time.Time) time.Duration {
	age, found := time.Duration(0), false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			// The first of several counts; s-maxage is for caches that many share.
			if !found {
				age, found = seconds(strings.Trim(value, `"`)), true
			}
		}
	}
	if found {
		return age - min(seconds(h.Get("Age")), MaxFresh)
	}
	if values := h.Values("Expires"); len(values) > 0 {
		expires, err := http.ParseTime(values[0])
		if err != nil {
			return 0
		}
		// Both dates are the server's, whose clock may be wrong (section 4.2.1).
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			now = date
		}
		return expires.Sub(now)
	}
	return unsaidFresh
}

// seconds reads a number of seconds (section 1.2.2). A number that is too large
// for us means a long time.
func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		if strings.Trim(s, "0123456789") == "" && s != "" {
			return MaxFresh
		}
		return 0
	}
	return time.Duration(n) * time.Second
}
