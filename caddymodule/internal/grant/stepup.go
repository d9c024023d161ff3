package grant

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// stepUp is a call that was refused because the access token lacks scopes which
// the user could allow. Some clients answer that with a refresh, which gives them
// the same scopes again and leads nowhere. The refusal of one refresh makes them
// ask the user instead.
type stepUp struct {
	Scopes string    `json:"scopes"` // that the call needs
	Time   time.Time `json:"time"`
	Due    bool      `json:"due,omitempty"` // the next refresh is refused
}

const (
	// stepUpDue is how long a refresh is refused after the call. Clients that do
	// it refresh at once; a refresh that comes later has other reasons.
	stepUpDue = 2 * time.Minute

	// stepUpPause is how long the same call is not followed by another refusal,
	// so that nobody has to sign in all the time who does not want to allow it.
	stepUpPause = 10 * time.Minute

	// maxStepUps bounds how many refusals there are within the pause.
	maxStepUps = 4
)

// errNoStepUp leaves the grant as it is.
var errNoStepUp = errors.New("no refusal is due")

// StepUp makes the next refresh of a grant fail once, with invalid_grant and
// without using anything up, because its client needs further scopes. It does so
// once in a while only, and not when a refresh gives the scopes.
func (s *Service) StepUp(ctx context.Context, id string, needed oauth.Scopes) error {
	key, ok := s.keyOf(id)
	if !ok {
		return nil
	}
	_, err := s.change(ctx, key, errNoStepUp, func(g *Grant, now time.Time) error {
		g.StepUps = slices.DeleteFunc(g.StepUps, func(u stepUp) bool { return now.Sub(u.Time) > stepUpPause })
		known := slices.ContainsFunc(g.StepUps, func(u stepUp) bool { return u.Scopes == needed.String() })
		if !g.Active(now) || needed.Within(g.Scopes) || known || len(g.StepUps) >= maxStepUps {
			return errNoStepUp
		}
		g.StepUps = append(g.StepUps, stepUp{Scopes: needed.String(), Time: now, Due: true})
		return nil
	})
	if errors.Is(err, errNoStepUp) {
		return nil
	}
	return err
}

// takeStepUp reports whether a refresh is to be refused, and that it was.
func (g *Grant) takeStepUp(now time.Time) bool {
	taken := false
	for i := range g.StepUps {
		u := &g.StepUps[i]
		taken = taken || u.Due && now.Sub(u.Time) <= stepUpDue
		u.Due = false
	}
	return taken
}
