package gate

import (
	"sync"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Streams are the open event streams of an issuer, by the grant that they were
// opened with. They live on in the old configuration after a reload, so this
// registry belongs to the state that outlives configurations.
type Streams struct {
	mu      sync.Mutex
	byGrant map[string]map[*Answer]struct{}
	all     int
	sse     int // of them, in the HTTP+SSE transport
}

// NewStreams returns an empty registry.
func NewStreams() *Streams { return &Streams{byGrant: map[string]map[*Answer]struct{}{}} }

func (s *Streams) add(a *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grantID := a.claims.GrantID
	if s.byGrant[grantID] == nil {
		s.byGrant[grantID] = map[*Answer]struct{}{}
	}
	s.byGrant[grantID][a] = struct{}{}
	s.count(a, 1)
}

func (s *Streams) count(a *Answer, change int) {
	s.all += change
	if a.sse {
		s.sse += change
	}
}

func (s *Streams) remove(a *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grantID := a.claims.GrantID
	delete(s.byGrant[grantID], a)
	s.count(a, -1)
	if len(s.byGrant[grantID]) == 0 {
		delete(s.byGrant, grantID)
	}
}

// Close ends the streams of a grant that has been revoked.
func (s *Streams) Close(grantID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.byGrant[grantID] {
		a.cancel()
	}
}

// CloseRefused ends the streams whose tokens are refused by now.
func (s *Streams) CloseRefused(refused func(*token.Claims) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for grantID, answers := range s.byGrant {
		for a := range answers {
			if grantID != "" && refused(a.claims) {
				a.cancel()
			}
		}
	}
}

// CloseAll ends all streams.
func (s *Streams) CloseAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answers := range s.byGrant {
		for a := range answers {
			a.cancel()
		}
	}
}

// Len returns how many streams are open: those of the streamable HTTP transport,
// and those of the HTTP+SSE transport before it (MCP 2024-11-05).
func (s *Streams) Len() (streamable, sse int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all - s.sse, s.sse
}
