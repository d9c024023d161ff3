//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filestore

import (
	"errors"
	"os"
	"syscall"
)

// letGo closes a file whose memory map nobody can remove any more. The map
// keeps the file open for the kernel, and with it the lock, so the lock has to
// be taken off by hand.
func letGo(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}
