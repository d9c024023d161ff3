package authserver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

const (
	// stepUpEntries bounds how many refused calls are remembered.
	stepUpEntries = 4096

	// stepUpQuiet is how long the same refused call of a grant writes nothing.
	stepUpQuiet = time.Minute

	// stepUpTimeout bounds how long the answer to a refused call waits for the
	// store.
	stepUpTimeout = 2 * time.Second
)

// StepUp notes that a call was refused for scopes that the user of the grant could
// allow its client, so that the next refresh makes the client ask; see
// grant.Service. It is done before the call is answered: the refresh may come to
// another node within milliseconds. When the store fails, clients that refresh
// first end with an error, and work on with what they have.
func (s *Server) StepUp(ctx context.Context, grantID string, needed oauth.Scopes) {
	key := grantID + " " + needed.String()
	if _, ok := s.stepUps.Get(key); ok {
		return
	}
	s.stepUps.Set(key, struct{}{}, stepUpQuiet)
	ctx, cancel := context.WithTimeout(ctx, stepUpTimeout)
	defer cancel()
	if err := s.grants.StepUp(ctx, grantID, needed); err != nil {
		s.stepUps.Set(key, nil, 0)
		s.cfg.Log.Warn("could not note that a client needs further scopes", zap.Error(err))
	}
}

// ClientScopes returns the most that a client can have, or nil for all, also when
// that cannot be told.
func (s *Server) ClientScopes(ctx context.Context, clientID string) oauth.Scopes {
	ctx, cancel := context.WithTimeout(ctx, stepUpTimeout)
	defer cancel()
	c, err := s.clients.Recall(ctx, clientID)
	if err != nil {
		return nil
	}
	return c.Scopes
}
