// Package sample answers searches from invented bugs, and keeps invented support cases, so that everything runs
// without credentials and without a network.
package sample

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

//go:embed bugs.json
var bugsJSON []byte

// Bugs is the embedded set of bugs. It is safe for concurrent use.
type Bugs struct {
	all []bugs.Bug
	// today is the date of the latest change in the set. Windows such as "last week" count back from it, so that the
	// set does not grow stale with the calendar.
	today time.Time
}

// NewBugs reads the embedded set.
func NewBugs() (*Bugs, error) {
	var b Bugs
	if err := json.Unmarshal(bugsJSON, &b.all); err != nil {
		return nil, fmt.Errorf("reading the sample bugs: %w", err)
	}
	for _, bug := range b.all {
		modified, err := time.Parse(time.DateOnly, string(bug.LastModifiedDate))
		if err != nil {
			return nil, fmt.Errorf("reading the sample bug %s: %w", bug.BugID, err)
		}
		if modified.After(b.today) {
			b.today = modified
		}
	}
	return &b, nil
}

// Bugs runs one search with the rules of Cisco's API. Searches by product name and series take a part of the name;
// releases match when one of those asked for is listed. It never fails.
func (b *Bugs) Bugs(_ context.Context, q bugs.Query) (bugs.Page, error) {
	var found []bugs.Bug
	for _, bug := range b.all {
		if matches(bug, q) && (q.Kind == bugs.ByID || b.passes(bug, q.Filter)) {
			found = append(found, bug)
		}
	}
	if q.Kind == bugs.ByID {
		return bugs.Page{Bugs: found, Index: 1, Last: 1, Total: len(found)}, nil
	}
	sortBugs(found, q.Filter.SortBy)
	page := max(q.Filter.Page, 1)
	last := max((len(found)+bugs.PageSize-1)/bugs.PageSize, 1)
	p := bugs.Page{Index: page, Last: last, Total: len(found)}
	if page <= last { // compared first, so that the product below cannot overflow
		from := (page - 1) * bugs.PageSize
		p.Bugs = found[from:min(from+bugs.PageSize, len(found))]
	}
	return p, nil
}

func matches(b bugs.Bug, q bugs.Query) bool {
	switch q.Kind {
	case bugs.ByID:
		return slices.ContainsFunc(q.IDs, func(id string) bool { return strings.EqualFold(id, string(b.BugID)) })
	case bugs.ByKeyword:
		return hasWords(string(b.Headline+" "+b.Description), q.Keyword)
	case bugs.ByProduct:
		return strings.EqualFold(string(b.BasePID), q.BasePID)
	case bugs.ByProductRelease:
		return strings.EqualFold(string(b.BasePID), q.BasePID) && hasRelease(b.KnownAffectedReleases+" "+b.KnownFixedReleases, q.Releases)
	case bugs.BySeriesAffected:
		return hasWords(string(b.ProductSeries), q.Series) && hasRelease(b.KnownAffectedReleases, q.Releases)
	case bugs.BySeriesFixed:
		return hasWords(string(b.ProductSeries), q.Series) && hasRelease(b.KnownFixedReleases, q.Releases)
	case bugs.ByNameAffected:
		return hasWords(string(b.Product), q.Name) && hasRelease(b.KnownAffectedReleases, q.Releases)
	case bugs.ByNameFixed:
		return hasWords(string(b.Product), q.Name) && hasRelease(b.KnownFixedReleases, q.Releases)
	}
	return false
}

// hasWords reports whether text holds each word of want, in any order and case.
func hasWords(text, want string) bool {
	text = strings.ToLower(text)
	for word := range strings.FieldsSeq(strings.ToLower(want)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// hasRelease reports whether one of the releases wanted, separated by commas, is in a list separated by spaces.
func hasRelease(list bugs.Text, want string) bool {
	have := strings.Fields(string(list))
	for w := range strings.SplitSeq(want, ",") {
		if slices.Contains(have, strings.TrimSpace(w)) {
			return true
		}
	}
	return false
}

func (b *Bugs) passes(bug bugs.Bug, f bugs.Filter) bool {
	if f.Status != "" && f.Status != string(bug.Status) || f.Severity != "" && f.Severity != string(bug.Severity) {
		return false
	}
	// Dates in this form compare as text.
	switch f.Modified {
	case "1":
		return string(bug.LastModifiedDate) >= b.today.AddDate(0, 0, -7).Format(time.DateOnly)
	case "3":
		return string(bug.LastModifiedDate) >= b.today.AddDate(0, -6, 0).Format(time.DateOnly)
	case "4":
		return string(bug.LastModifiedDate) >= b.today.AddDate(-1, 0, 0).Format(time.DateOnly)
	case "5":
		return true
	default: // "2", which is also the default of Cisco's API
		return string(bug.LastModifiedDate) >= b.today.AddDate(0, 0, -30).Format(time.DateOnly)
	}
}

func sortBugs(list []bugs.Bug, by string) {
	newest := func(a, b bugs.Bug) int { return cmp.Compare(b.LastModifiedDate, a.LastModifiedDate) }
	order := newest
	switch by {
	case "status":
		order = func(a, b bugs.Bug) int { return cmp.Compare(a.Status, b.Status) }
	case "severity":
		order = func(a, b bugs.Bug) int { return cmp.Compare(a.Severity, b.Severity) }
	case "support_case_count":
		// The counts are numbers without leading zeros: the longer one is the greater one.
		order = func(a, b bugs.Bug) int {
			return cmp.Or(cmp.Compare(len(b.SupportCaseCount), len(a.SupportCaseCount)), cmp.Compare(b.SupportCaseCount, a.SupportCaseCount))
		}
	case "modified_date_earliest":
		order = func(a, b bugs.Bug) int { return newest(b, a) }
	}
	// The id decides between equals, so that pages never overlap.
	slices.SortFunc(list, func(a, b bugs.Bug) int { return cmp.Or(order(a, b), cmp.Compare(a.BugID, b.BugID)) })
}
