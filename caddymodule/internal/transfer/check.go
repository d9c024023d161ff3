package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Finding is something in a store that is not as it should be.
type Finding struct {
	// Key is that of the record, the part of it that stands for an issuer, or
	// empty when the store as a whole is meant.
	Key string `json:"key,omitempty"`

	// Problem says what is wrong and what to do. It holds no secrets.
	Problem string `json:"problem"`
}

// Report is the outcome of a check.
type Report struct {
	Summary
	Findings []Finding `json:"findings"`

	// Omitted is how many more there are than Findings holds.
	Omitted int `json:"omitted,omitempty"`
}

// maxFindings bounds a report.
const maxFindings = 1000

// deep is implemented by stores that can look below their records.
type deep interface {
	// Check reads everything and returns how many records there are.
	Check(ctx context.Context) (int, error)
}

// Check reads every record of a store and reports what is wrong. It changes
// nothing, and may run beside others that use the store. It needs some 50 bytes
// of memory for each record. An error means that it could not be finished.
func (c Checker) Check(ctx context.Context, s store.Store) (Report, error) {
	w := checking{
		Checker: c, store: s, report: Report{Findings: []Finding{}},
		issuers: issuers{}, folders: map[string]struct{}{}, seed: maphash.MakeSeed(), seen: map[uint64]int64{},
	}
	if d, ok := s.(deep); ok {
		if _, err := d.Check(ctx); err != nil {
			if ctx.Err() != nil {
				return w.report, err
			}
			w.find("", fmt.Errorf("%w; restore a backup", err))
		}
	}
	for _, step := range []func(context.Context) error{w.readRecords, w.readFolders, w.findUnlisted} {
		if err := step(ctx); err != nil {
			return w.report, err
		}
	}
	for _, err := range w.issuers.problems() {
		w.find("", err)
	}
	slices.SortStableFunc(w.report.Findings, func(a, b Finding) int { return strings.Compare(a.Key, b.Key) })
	return w.report, nil
}

// checking is a check under way.
type checking struct {
	Checker
	store      store.Store
	report     Report
	unreadable int
	issuers    issuers
	folders    map[string]struct{}

	// seen has the expiry of each record by the hash of its key, until the
	// record is found in its folder.
	seed maphash.Seed
	seen map[uint64]int64
}

func (w *checking) find(key string, err error) {
	if len(w.report.Findings) == maxFindings {
		w.report.Omitted++
		return
	}
	w.report.Findings = append(w.report.Findings, Finding{Key: key, Problem: err.Error()})
}

func (w *checking) hash(key string) uint64 { return maphash.String(w.seed, key) }

// maxUnreadable is how many records may fail to be read before the store is held
// to be unreachable and not damaged.
const maxUnreadable = 100

func (w *checking) readRecords(ctx context.Context) error {
	for key, err := range w.store.Keys(ctx, "") {
		if err != nil {
			return fmt.Errorf("listing the records: %w", err)
		}
		if _, again := w.seen[w.hash(key)]; again {
			continue
		}
		r, err := w.store.Get(ctx, key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			if w.unreadable++; ctx.Err() != nil || errors.Is(err, store.ErrClosed) || w.unreadable > maxUnreadable {
				return fmt.Errorf("reading the record %s: %w", key, err)
			}
			w.find(key, fmt.Errorf("the record cannot be read: %w; restore a backup", err))
			continue
		}
		w.seen[w.hash(key)] = lineOf(key, r).Expires
		for folder := store.Folder(key); ; folder = store.Folder(strings.TrimSuffix(folder, "/")) {
			w.folders[folder] = struct{}{}
			if folder == "" {
				break
			}
		}
		issuer, k, _ := split(key)
		w.report.count(k, r.Value)
		w.issuers.note(issuer, k)
		if err := w.record(key, r.Value); err != nil {
			w.find(key, err)
		}
	}
	return nil
}

// readFolders looks for entries of folders without a record, or with another
// expiry than it.
func (w *checking) readFolders(ctx context.Context) error {
	for folder := range w.folders {
		for e, err := range w.store.List(ctx, folder) {
			if err != nil {
				return fmt.Errorf("listing the folder %s: %w", folder, err)
			}
			expires, known := w.seen[w.hash(e.Key)]
			delete(w.seen, w.hash(e.Key))
			if known && expires == lineOf("", store.Record{Expires: e.Expires}).Expires {
				continue
			}
			if len(w.report.Findings) == maxFindings {
				return nil // to look twice at even more would take for ever
			}
			if err := w.disagreement(ctx, e); err != nil {
				w.find(e.Key, err)
			}
		}
	}
	return nil
}

// settle is how long something that others are just writing may look wrong.
const settle = 200 * time.Millisecond

var errIndex = errors.New("export the store and import the export into an empty one, or restore a backup")

// disagreement reads a record whose entry does not fit it. Others may be writing
// it, so it looks twice.
func (w *checking) disagreement(ctx context.Context, e store.Entry) error {
	folder := store.Folder(e.Key)
	for try := 0; ; try++ {
		r, err := w.store.Get(ctx, e.Key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("the record cannot be read: %w; restore a backup", err)
		}
		current, listed, listErr := w.entry(ctx, folder, e.Key)
		switch {
		case listErr != nil:
			return fmt.Errorf("the folder cannot be read: %w", listErr)
		case listed == r.Exists() && (!listed || lineOf("", r).Expires == lineOf("", store.Record{Expires: current.Expires}).Expires):
			return nil
		case try == 0:
			time.Sleep(settle)
			continue
		case !listed:
			return fmt.Errorf("the record is missing in its folder; %w", errIndex)
		case !r.Exists():
			return fmt.Errorf("the folder has an entry without a record; %w", errIndex)
		default:
			return fmt.Errorf("the folder has another expiry than the record; %w", errIndex)
		}
	}
}

// entry looks for a key in its folder.
func (w *checking) entry(ctx context.Context, folder, key string) (store.Entry, bool, error) {
	for e, err := range w.store.List(ctx, folder) {
		if err != nil || e.Key == key {
			return e, err == nil, err
		}
	}
	return store.Entry{}, false, nil
}

// findUnlisted looks for records that are not in their folders.
func (w *checking) findUnlisted(ctx context.Context) error {
	if len(w.seen) == 0 || len(w.report.Findings) == maxFindings {
		return nil
	}
	for key, err := range w.store.Keys(ctx, "") {
		if err != nil {
			return fmt.Errorf("listing the records: %w", err)
		}
		if _, ok := w.seen[w.hash(key)]; !ok {
			continue
		}
		delete(w.seen, w.hash(key))
		if err := w.disagreement(ctx, store.Entry{Key: key}); err != nil {
			w.find(key, err)
		}
	}
	return nil
}

// issuers has, for each issuer, the kinds of its records.
type issuers map[string]map[kind]bool

func (i issuers) note(issuer string, k kind) {
	if k == kindUnknown {
		return
	}
	if i[issuer] == nil {
		i[issuer] = make(map[kind]bool)
	}
	i[issuer][k] = true
}

// problems are the issuers that have records and no signing keys.
func (i issuers) problems() []error {
	var out []error
	for _, issuer := range slices.Sorted(maps.Keys(i)) {
		if !i[issuer][kindKeys] {
			out = append(out, fmt.Errorf("the issuer %s has records and no signing keys; restore a backup: "+
				"new keys make all of its tokens and sign-ins invalid", issuer))
		}
	}
	return out
}
