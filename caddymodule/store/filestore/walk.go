package filestore

import (
	"bytes"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// keysPage is how many records a walk reads in one transaction. A transaction
// must not stay open while the caller's loop runs: a writer that has to grow
// the memory map waits for it, and the loop may itself be waiting for a writer.
const keysPage = 512

// walk goes through the records whose keys start with prefix, in their order.
type walk struct {
	prefix []byte

	// shallow leaves out what has a slash behind the prefix, by going to the
	// end of such a folder in one step.
	shallow bool
}

// page reads one page from a key on and returns where the next one begins, which
// is nil after the last one.
func (w walk) page(c *bbolt.Cursor, from []byte) (page []store.Entry, next []byte, err error) {
	now := time.Now()
	k, v := c.Seek(from)
	for read := 0; k != nil && bytes.HasPrefix(k, w.prefix); read++ {
		if read == keysPage {
			return page, bytes.Clone(k), nil
		}
		if end := w.subfolderEnd(k); end != nil {
			k, v = c.Seek(end)
			continue
		}
		expires, _, err := decode(v)
		if err != nil {
			return page, nil, err
		}
		if !expires.passed(now) {
			page = append(page, store.Entry{Key: string(k), Expires: expires.time()})
		}
		k, v = c.Next()
	}
	return page, nil, nil
}

// subfolderEnd returns the first key that can follow the folder that k lies in
// below the prefix, or nil when k is to be looked at.
func (w walk) subfolderEnd(k []byte) []byte {
	if !w.shallow {
		return nil
	}
	slash := bytes.IndexByte(k[len(w.prefix):], '/')
	if slash < 0 {
		return nil
	}
	end := bytes.Clone(k[:len(w.prefix)+slash+1])
	end[len(end)-1]++ // the byte after a slash
	return end
}
