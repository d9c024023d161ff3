package token

import (
	"fmt"
	"time"
)

// MaxRevoked is the bound on the set.
const MaxRevoked = maxRevoked

// Len is how many entries the set holds, expired ones included.
func (r *Revocations) Len() int { return r.set.ItemCount() }

// Fill puts as many grants into the set as it takes.
func (r *Revocations) Fill() {
	for i := r.set.ItemCount(); i < maxRevoked; i++ {
		r.set.Set(fmt.Sprint("filler", i), struct{}{}, time.Hour)
	}
}

// Forget empties the set.
func (r *Revocations) Forget() { r.set.Flush() }
