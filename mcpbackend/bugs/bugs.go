// Package bugs is the vocabulary that Cisco's API, the sample data and the tools share: a bug, a search and a page.
package bugs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// PageSize is the number of bugs on one page. Cisco's API fixes it; the sample data follows.
const PageSize = 10

// A Bug is one record of Cisco's Bug API v2.0, in its spelling.
type Bug struct {
	ID                    Text `json:"id,omitempty"`
	BugID                 Text `json:"bug_id"`
	Headline              Text `json:"headline"`
	Description           Text `json:"description,omitempty"`
	Severity              Text `json:"severity"`
	Status                Text `json:"status"`
	Product               Text `json:"product"`
	BasePID               Text `json:"base_pid,omitempty"`
	ProductSeries         Text `json:"product_series,omitempty"`
	KnownAffectedReleases Text `json:"known_affected_releases"`
	KnownFixedReleases    Text `json:"known_fixed_releases"`
	SupportCaseCount      Text `json:"support_case_count"`
	LastModifiedDate      Text `json:"last_modified_date"`
	CreatedDate           Text `json:"created_date,omitempty"`
	DuplicateOf           Text `json:"duplicate_of,omitempty"`
	BehaviorChanged       Text `json:"behavior_changed"`
}

// Text is a field that Cisco documents as a string. Releases of the API have been seen to send null, numbers or
// arrays in such places, so it reads those too: a page with one odd field is better than no page. It is always
// written as a string.
type Text string

// UnmarshalJSON reads a string, a number, a boolean, null (empty) or an array of these (joined by spaces).
func (t *Text) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	s, err := flatten(v)
	*t = Text(s)
	return err
}

func flatten(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return fmt.Sprint(v), nil
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			if _, nested := e.([]any); nested {
				return "", fmt.Errorf("nested array in a text field")
			}
			s, err := flatten(e)
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, " "), nil
	}
	return "", fmt.Errorf("object in a text field")
}

// A Kind says by what a search looks for bugs. There is one for each lookup of the Bug API.
type Kind int

// The eight lookups, with the fields of [Query] that each one reads beside the filter.
const (
	ByID             Kind = iota // IDs; the filter is not used
	ByKeyword                    // Keyword
	ByProduct                    // BasePID
	ByProductRelease             // BasePID, Releases
	BySeriesAffected             // Series, Releases
	BySeriesFixed                // Series, Releases
	ByNameAffected               // Name, Releases
	ByNameFixed                  // Name, Releases
)

// A Query is one search.
type Query struct {
	Kind     Kind
	IDs      []string // at most five
	Keyword  string
	BasePID  string // product id, such as C9300-48P
	Series   string // product series
	Name     string // product name
	Releases string // one or more software releases, separated by commas
	Filter   Filter
}

// A Filter narrows and orders a search. Empty fields are left to the source's default.
type Filter struct {
	Page     int    // from 1; 0 means 1
	Status   string // O open, F fixed, T terminated
	Severity string // 1 (worst) to 6
	Modified string // 1 last week, 2 last 30 days, 3 last 6 months, 4 last year, 5 all
	SortBy   string // status, modified_date, severity, support_case_count or modified_date_earliest
}

// A Page is one page of a search's answer.
type Page struct {
	Bugs  []Bug
	Index int // from 1
	Last  int // index of the last page, at least 1
	Total int // bugs on all pages
}
