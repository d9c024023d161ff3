package client

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// documentVersion is the schema version of copies of metadata documents.
const documentVersion = 1

// documentCopy is the last good metadata document of a client that somebody has
// allowed something, so that its tokens can be refreshed and revoked while the
// document cannot be fetched, after a restart and on other nodes as well.
type documentCopy struct {
	Version  int       `json:"v"`
	Fresh    time.Time `json:"fresh"`    // until when it need not be fetched
	Document []byte    `json:"document"` // as it came
}

func decodeCopy(data []byte) (*documentCopy, error) {
	rec := &documentCopy{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("stored metadata document cannot be read: %w", err)
	}
	if rec.Version != documentVersion {
		return nil, fmt.Errorf("stored metadata document has version %d; this program reads version %d", rec.Version, documentVersion)
	}
	return rec, nil
}

// keyText is a key of the store that tells nothing of what it stands for.
func keyText(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		// The length keeps "a", "bc" and "ab", "c" apart.
		fmt.Fprintf(h, "%d %s", len(part), part)
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil))
}

// keyTextLength is the length of what keyText returns.
const keyTextLength = 52

func (d *Directory) documentKey(id string) string { return d.documents + keyText(id) }

// touchDocument keeps a copy of the document of a client that is in use. It is
// written when there is none or the document has changed, and else about once a
// day. What could not be fetched again does not live longer for being used.
func (d *Directory) touchDocument(ctx context.Context, c *Client) error {
	doc := c.document
	kept := doc.kept.Load()
	if doc.stale && kept != 0 || time.Until(time.Unix(0, kept)) >= d.cfg.ExpireAfter {
		return nil
	}
	data, err := json.Marshal(documentCopy{
		Version: documentVersion, Fresh: doc.fresh.UTC().Truncate(time.Second), Document: doc.body,
	})
	if err != nil {
		return err
	}
	expires := d.prolonged()
	if err := d.store.Put(ctx, d.documentKey(c.ID), store.Record{Value: data, Expires: expires}); err != nil {
		return err
	}
	doc.kept.Store(expires.UnixNano())
	return nil
}

// DocumentVersion is the schema version of copies of metadata documents.
const DocumentVersion = documentVersion

// CheckDocument returns an error for a copy of a metadata document that this
// package could not have written at a key, of which name is what follows
// "document/".
func CheckDocument(name string, value []byte) error {
	rec, err := decodeCopy(value)
	if err != nil {
		return err
	}
	var doc struct {
		ID string `json:"client_id"`
	}
	if json.Unmarshal(rec.Document, &doc) != nil || keyText(doc.ID) != name {
		return errors.New("the key is not that of the stored metadata document")
	}
	_, err = newDocument(doc.ID, rec.Document)
	return err
}
