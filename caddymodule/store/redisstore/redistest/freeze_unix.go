//go:build unix

package redistest

import "syscall"

// Freeze stops the process, so that it accepts connections and answers nothing.
func (s *Server) Freeze() {
	s.t.Helper()
	if err := s.process.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw() {
	s.t.Helper()
	if err := s.process.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatal(err)
	}
}
