package pages

import (
	"fmt"
	"time"
)

// date returns a day such as "3 Nov 2026" in the language's own order.
func (c *catalogue) date(t time.Time) (string, error) {
	t = t.UTC()
	month, err := c.text(fmt.Sprintf("month.%d", int(t.Month())))
	if err != nil {
		return "", err
	}
	return c.text("date", "day", t.Day(), "month", month, "year", t.Year())
}

const day = 24 * time.Hour

// ago returns how long before now t was, in the largest fitting unit. A time
// in the future, which another node's clock can cause, is "just now".
func (c *catalogue) ago(t, now time.Time) (string, error) {
	d := now.Sub(t)
	switch {
	case d < 10*time.Second:
		return c.text("ago.now")
	case d < time.Minute:
		return c.count("ago.seconds", int(d/time.Second))
	case d < time.Hour:
		return c.count("ago.minutes", int(d/time.Minute))
	case d < day:
		return c.count("ago.hours", int(d/time.Hour))
	case d < 2*day:
		return c.text("ago.yesterday")
	}
	return c.count("ago.days", int(d/day))
}

// idleAfter is when the account page stops saying when an app was last used
// and says for how long it was not, which is a hint to remove it.
const idleAfter = 30 * day

// lastUsed returns the account page's words for when an app last used its
// access.
func (c *catalogue) lastUsed(t, now time.Time) (string, error) {
	if t.IsZero() {
		return c.text("account.unused")
	}
	if d := now.Sub(t); d > idleAfter {
		return c.count("account.idle", int(d/day))
	}
	ago, err := c.ago(t, now)
	if err != nil {
		return "", err
	}
	return c.text("account.last_used", "ago", ago)
}

// span returns a waiting time, rounded up so that it is never too short.
func (c *catalogue) span(d time.Duration) (string, error) {
	up := func(unit time.Duration) int { return int(max(1, (d+unit-1)/unit)) }
	switch {
	case d <= time.Minute:
		return c.count("span.seconds", up(time.Second))
	case d <= time.Hour:
		return c.count("span.minutes", up(time.Minute))
	}
	return c.count("span.hours", up(time.Hour))
}
