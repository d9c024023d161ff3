package gate

import (
	"errors"
	"net/http"
	"slices"
)

// Reasons to refuse a request whose upstream is called with a token that a login
// provider has given for the caller.
var (
	ErrSignIn      = errors.New("the user has to sign in at the provider again")
	ErrOtherSignIn = errors.New("the caller does not sign in at the provider that the upstream needs")
)

// RefuseSignIn answers when the user has to sign in at the provider again: as if
// the token had been revoked, which the caller has done.
func (g *Gate) RefuseSignIn(w http.ResponseWriter, r *http.Request, pass Pass) *Refused {
	i := slices.IndexFunc(g.resources, func(res *guarded) bool { return res.Resource == pass.Resource })
	return g.refuse(w, r, unauthorized(g.resources[i].invalid, ErrSignIn))
}

// RefuseOtherSignIn answers when the caller can have no token of the provider. A
// challenge would make clients ask for nothing, over and over.
func (g *Gate) RefuseOtherSignIn(w http.ResponseWriter, r *http.Request) *Refused {
	return g.refuse(w, r, refusal{status: http.StatusForbidden, body: otherSignIn, reason: ErrOtherSignIn})
}

// RefuseUnavailable answers when nobody can tell at the moment.
func (g *Gate) RefuseUnavailable(w http.ResponseWriter, r *http.Request, reason error) *Refused {
	return g.unavailable(w, r, reason)
}

var otherSignIn = refusalBody{"sign_in_required", "this MCP server is for people who sign in at its identity provider"}
