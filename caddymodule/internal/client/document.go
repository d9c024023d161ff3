// This file implements how an authorization server comes to know the client
// behind a metadata document: draft-ietf-oauth-client-id-metadata-document
// section 4 (Client Information Discovery).

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// ErrDocument is the ErrUnknown of clients with a metadata document. What it
// wraps beside that is for the log: a stranger would learn from it what this
// server can reach.
var ErrDocument = fmt.Errorf("%w: its metadata document cannot be used", ErrUnknown)

// DocumentPolicy says which metadata documents are looked at.
type DocumentPolicy struct {
	HostPolicy // of the documents' hosts

	// Loopback lets documents on this machine through, over http as well. It is
	// for tests.
	Loopback bool
}

// source is where clients with a document may come from.
type source int

const (
	fromMemory source = iota // without fetching anything
	knownOnly                // the document is fetched if there is a copy of it
	anybody
)

// webEntries is how many documents, and how many sets of keys, are remembered.
const webEntries = 1024

// staleTime is how long a document that cannot be fetched again still counts
// when there is no copy in the store, such as while a person looks at the page
// of consent.
const staleTime = time.Hour

// Web is what a node knows of documents and keys on the web. It belongs to the
// state that outlives reloads of the configuration.
type Web struct {
	fetcher   *outbound.Fetcher
	documents *bounded.Cache
	keys      *bounded.Cache
}

// NewWeb returns an empty memory.
func NewWeb() *Web { return NewWebWith(outbound.New()) }

// NewWebWith returns a memory with a fetcher of a test.
func NewWebWith(f *outbound.Fetcher) *Web {
	return &Web{fetcher: f, documents: bounded.NewCache(webEntries), keys: bounded.NewCache(webEntries)}
}

// document is a checked metadata document.
type document struct {
	body   []byte
	client *Client // shared between requests, so nobody changes it
	fresh  time.Time
	until  time.Time // how long it may be remembered
	stale  bool      // it could not be fetched again

	// kept is when the copy in the store lapses, in Unix nanoseconds; zero for
	// none.
	kept atomic.Int64
}

// newDocument reads a document that was fetched from the URL id.
func newDocument(id string, body []byte) (*document, error) {
	m, err := oauth.DecodeClientDocument(body, id)
	if err != nil {
		return nil, err
	}
	doc := &document{body: body}
	doc.client = &Client{
		ID: id, Kind: Described, Name: m.ClientName, RedirectURIs: m.RedirectURIs, GrantTypes: m.GrantTypes,
		AuthMethod: m.TokenEndpointAuthMethod, JWKSURI: m.JWKSURI, document: doc,
	}
	if m.JWKS != nil {
		if doc.client.Keys, err = ParseKeys(m.JWKS); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// described returns the client with a metadata document.
func (d *Directory) described(ctx context.Context, id string, from source, may func() bool) (*Client, error) {
	if err := d.checkDocument(id); err != nil {
		return nil, d.refused(id, err)
	}
	key := d.webKey(id)
	found, cached := d.cfg.Web.documents.Get(key)
	var last *document
	if cached {
		last = found.(*document)
	} else {
		var err error
		if last, err = d.copyOf(ctx, id); err != nil {
			return nil, err
		}
	}
	if last != nil && (from == fromMemory || time.Now().Before(last.fresh)) {
		if !cached {
			d.remember(key, last)
		}
		return last.client, nil
	}
	if from == fromMemory || last == nil && from == knownOnly {
		return nil, ErrDocument
	}
	if last == nil && may != nil && !may() {
		return nil, d.refused(id, errors.New("somebody asks for too many documents"))
	}
	return d.fetchDocument(ctx, id, key, last)
}

// checkDocument refuses ids before anything is fetched for them.
func (d *Directory) checkDocument(id string) error {
	if d.cfg.Documents.Off {
		return errors.New("metadata documents are off")
	}
	if err := oauth.CheckClientIDURL(id, d.cfg.Documents.Loopback); err != nil {
		return fmt.Errorf("the URL %w", err)
	}
	if oauth.IsLoopbackURL(id) {
		return nil // the switch for tests is on, and it is permission enough
	}
	if !d.cfg.Documents.Permits(id) {
		return errors.New("the host is not listed in metadata_documents")
	}
	return nil
}

// refused notes why a document was refused.
func (d *Directory) refused(id string, cause error) error {
	shown := strings.ToValidUTF8(id[:min(len(id), oauth.MaxClientIDLength)], "")
	d.cfg.Log.Info("a client metadata document was refused", zap.String("client_id", shown), zap.Error(cause))
	return fmt.Errorf("%w: %w", ErrDocument, cause)
}

// reach is what a URL of a document or in one may get to.
func (d *Directory) reach(uri string) outbound.Reach {
	if d.cfg.Documents.Loopback && oauth.IsLoopbackURL(uri) {
		return outbound.Loopback
	}
	return outbound.Public
}

// webKey keeps what was found under different rules apart.
func (d *Directory) webKey(uri string) string { return fmt.Sprint(int(d.reach(uri)), " ", uri) }

// fetchDocument fetches a document. When that fails the last good one stays,
// unless its owner says that it is gone for good.
func (d *Directory) fetchDocument(ctx context.Context, id, key string, last *document) (*Client, error) {
	got, err := d.cfg.Web.fetcher.Get(ctx, d.reach(id), id, func(body []byte) (any, error) { return newDocument(id, body) })
	if last == nil {
		d.cfg.Discovered(err)
	}
	switch {
	case errors.Is(err, outbound.ErrGone) && last != nil:
		if err := d.forget(ctx, id, key); err != nil {
			return nil, err
		}
		return nil, d.refused(id, err)
	case err != nil && last == nil:
		return nil, d.refused(id, err)
	case err != nil:
		d.cfg.Log.Info("a client metadata document cannot be fetched; its last copy is used",
			zap.String("client_id", id), zap.Error(err))
		last = last.spared()
		d.remember(key, last)
		return last.client, nil
	}
	doc := got.Value.(*document).with(got.Fresh, last)
	d.remember(key, doc)
	return doc.client, nil
}

// with returns the document as it was fetched now, in place of the last one.
// Those who shared a fetch each make one of their own.
func (doc *document) with(fresh time.Duration, last *document) *document {
	now := time.Now()
	out := doc.clone()
	out.fresh, out.until = now.Add(fresh), now.Add(fresh+staleTime)
	if last != nil && string(last.body) == string(doc.body) {
		out.kept.Store(last.kept.Load())
	}
	return out
}

// spared returns the document for the time until the next try to fetch it.
func (doc *document) spared() *document {
	out := doc.clone()
	out.fresh, out.stale = time.Now().Add(outbound.PauseTime), true
	return out
}

func (doc *document) clone() *document {
	c := *doc.client
	out := &document{body: doc.body, client: &c, fresh: doc.fresh, until: doc.until, stale: doc.stale}
	out.kept.Store(doc.kept.Load())
	c.document = out
	return out
}

func (d *Directory) remember(key string, doc *document) {
	d.cfg.Web.documents.Set(key, doc, time.Until(doc.until))
}

// forget drops what is known of a client that is no more.
func (d *Directory) forget(ctx context.Context, id, key string) error {
	d.cfg.Web.documents.Set(key, nil, 0)
	return d.store.Delete(ctx, d.documentKey(id))
}

// copyOf returns the copy of a document in the store, or nil.
func (d *Directory) copyOf(ctx context.Context, id string) (*document, error) {
	stored, err := d.store.Get(ctx, d.documentKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rec, err := decodeCopy(stored.Value)
	if err != nil {
		return nil, err
	}
	doc, err := newDocument(id, rec.Document)
	if err != nil {
		// The rules may have become stricter since; so it is no good copy.
		_ = d.refused(id, fmt.Errorf("the copy in the store: %w", err))
		return nil, nil
	}
	// It was written for a while ahead, but clocks differ.
	now := time.Now()
	if doc.fresh = rec.Fresh; doc.fresh.After(now.Add(outbound.MaxFresh)) {
		doc.fresh = now
	}
	doc.until = now.Add(staleTime)
	if doc.fresh.After(now) {
		doc.until = doc.fresh.Add(staleTime)
	}
	doc.kept.Store(stored.Expires.UnixNano())
	return doc, nil
}
