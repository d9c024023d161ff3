package token

// Len is how many entries the set holds, expired ones included.
func (r *Revocations) Len() int { return r.set.ItemCount() }
