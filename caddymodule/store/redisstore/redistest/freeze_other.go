//go:build !unix

package redistest

// Freeze skips the test, as a process cannot be stopped here.
func (s *Server) Freeze() { s.t.Skip("processes cannot be frozen on this system") }

// Thaw does nothing, as nothing has been frozen.
func (s *Server) Thaw() {}
