package client

import (
	"time"

	"golang.org/x/time/rate"
)

// Registration is open to everyone, so what nobody has used yet must not fill
// the store, whoever sends how much. Each node lets budgetBytes of it be kept for
// UnusedLifetime. When more comes, registrations are kept for crowdedLifetime
// only, which is enough to sign in at once; and when budgetBytes have come within
// crowdedLifetime, no more is taken for a while. So no more than four times
// budgetBytes is ever kept: each of the two allowances when it is full, and what
// it regains until the first of it lapses.
const (
	budgetBytes     = 8 << 20
	crowdedLifetime = 15 * time.Minute

	// recordOverhead is what a store needs for a record beside its value.
	recordOverhead = 256
)

// Budget is what one node may still keep of unused registrations. It belongs to
// the state that outlives reloads of the configuration. It is safe for concurrent
// use.
type Budget struct{ day, crowded *rate.Limiter }

// NewBudget returns a full budget.
func NewBudget() *Budget {
	per := func(d time.Duration) *rate.Limiter {
		return rate.NewLimiter(rate.Limit(budgetBytes/d.Seconds()), budgetBytes)
	}
	return &Budget{day: per(UnusedLifetime), crowded: per(crowdedLifetime)}
}

// spend takes a record of so many bytes from the budget and returns how long it
// may be kept, or zero and for how long to wait.
func (b *Budget) spend(now time.Time, length int) (lifetime, wait time.Duration) {
	size := length + recordOverhead
	if b.day.AllowN(now, size) {
		return UnusedLifetime, 0
	}
	if b.crowded.AllowN(now, size) {
		return crowdedLifetime, 0
	}
	missing := float64(size) - b.crowded.TokensAt(now)
	return 0, max(time.Duration(missing/float64(b.crowded.Limit())*float64(time.Second)), time.Second)
}
