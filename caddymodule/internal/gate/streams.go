package gate

import "sync"

// Streams are the open event streams of an issuer, by the grant that they were
// opened with. They live on in the old configuration after a reload, so this
// registry belongs to the state that outlives configurations.
type Streams struct {
	mu      sync.Mutex
	byGrant map[string]map[*Answer]struct{}
}

// NewStreams returns an empty registry.
func NewStreams() *Streams { return &Streams{byGrant: map[string]map[*Answer]struct{}{}} }

func (s *Streams) add(grantID string, a *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byGrant[grantID] == nil {
		s.byGrant[grantID] = map[*Answer]struct{}{}
	}
	s.byGrant[grantID][a] = struct{}{}
}

func (s *Streams) remove(grantID string, a *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byGrant[grantID], a)
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

// Len returns how many streams are open.
func (s *Streams) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, answers := range s.byGrant {
		n += len(answers)
	}
	return n
}
