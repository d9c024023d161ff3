package sample_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/sample"
)

func find(t *testing.T, q bugs.Query) bugs.Page {
	t.Helper()
	b, err := sample.NewBugs()
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Bugs(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ids(p bugs.Page) []string {
	var list []string
	for _, b := range p.Bugs {
		list = append(list, string(b.BugID))
	}
	return list
}

// everything is a search that each sample bug passes.
func everything(page int) bugs.Query {
	return bugs.Query{Kind: bugs.ByKeyword, Filter: bugs.Filter{Page: page, Modified: "5"}}
}

func TestSampleBugsFollowTheRulesOfTheAPI(t *testing.T) {
	id := regexp.MustCompile(`^CSCzz[0-9]{5}$`)
	seen := map[bugs.Text]bool{}
	for page := 1; ; page++ {
		p := find(t, everything(page))
		for _, b := range p.Bugs {
			if !id.MatchString(string(b.BugID)) || seen[b.BugID] {
				t.Errorf("%s: not an id of the sample range, or used twice", b.BugID)
			}
			seen[b.BugID] = true
			if n := len(b.Headline); n == 0 || n > 72 {
				t.Errorf("%s: headline of %d characters", b.BugID, n)
			}
			if !strings.Contains("OFT", string(b.Status)) || len(b.Status) != 1 || b.Severity < "1" || b.Severity > "6" {
				t.Errorf("%s: status %q, severity %q", b.BugID, b.Status, b.Severity)
			}
			created, err := time.Parse(time.DateOnly, string(b.CreatedDate))
			modified, err2 := time.Parse(time.DateOnly, string(b.LastModifiedDate))
			if err != nil || err2 != nil || modified.Before(created) {
				t.Errorf("%s: created %q, modified %q", b.BugID, b.CreatedDate, b.LastModifiedDate)
			}
			if (b.Status == "F") != (b.KnownFixedReleases != "") {
				t.Errorf("%s: status %s with fixed releases %q", b.BugID, b.Status, b.KnownFixedReleases)
			}
		}
		if page == p.Last {
			if len(seen) != p.Total || p.Total < 40 {
				t.Errorf("%d bugs on %d pages, total says %d", len(seen), page, p.Total)
			}
			return
		}
	}
}

func TestSearch(t *testing.T) {
	all := bugs.Filter{Modified: "5"}
	for _, tc := range []struct {
		name  string
		query bugs.Query
		want  []string
	}{
		{"ids match in any case, without a filter", bugs.Query{Kind: bugs.ByID, IDs: []string{"cscZZ20012", "CSCzz99999"}, Filter: bugs.Filter{Status: "O"}}, []string{"CSCzz20012"}},
		{"all words of a keyword must match", bugs.Query{Kind: bugs.ByKeyword, Keyword: "BGP leak", Filter: all}, []string{"CSCzz10006"}},
		{"a keyword also matches the description", bugs.Query{Kind: bugs.ByKeyword, Keyword: "licence server", Filter: all}, []string{"CSCzz10009"}},
		{"a product id matches as a whole", bugs.Query{Kind: bugs.ByProduct, BasePID: "C9500", Filter: all}, nil},
		{"a product id matches in any case", bugs.Query{Kind: bugs.ByProductRelease, BasePID: "c9500-40x", Releases: "17.9.4", Filter: all}, []string{"CSCzz20025"}},
		{"one release of a list is enough", bugs.Query{Kind: bugs.BySeriesAffected, Series: "Catalyst 9800", Releases: "1.1, 17.9.2", Filter: all}, []string{"CSCzz20018"}},
		{"a release is no prefix", bugs.Query{Kind: bugs.BySeriesAffected, Series: "Catalyst 9800", Releases: "17.9", Filter: all}, nil},
		{"fixed releases are apart from affected ones", bugs.Query{Kind: bugs.BySeriesFixed, Series: "Catalyst 9800", Releases: "17.9.4", Filter: all}, []string{"CSCzz20018"}},
		{"a product name matches by words", bugs.Query{Kind: bugs.ByNameAffected, Name: "asr 1001-x", Releases: "17.3.4a", Filter: all}, []string{"CSCzz20002"}},
		{"fixed by product name", bugs.Query{Kind: bugs.ByNameFixed, Name: "ASR", Releases: "17.9.4a", Filter: all}, []string{"CSCzz10003"}},
		{"status", bugs.Query{Kind: bugs.ByKeyword, Filter: bugs.Filter{Status: "T", Modified: "5"}}, []string{"CSCzz10005", "CSCzz20012"}},
		{"severity", bugs.Query{Kind: bugs.ByKeyword, Filter: bugs.Filter{Severity: "1", Modified: "5"}}, []string{"CSCzz20028", "CSCzz20002"}},
		{"the last week counts from the latest change", bugs.Query{Kind: bugs.ByKeyword, Filter: bugs.Filter{Modified: "1"}}, []string{"CSCzz10012", "CSCzz20020", "CSCzz10006", "CSCzz20005", "CSCzz10002"}},
		{"no window means 30 days, as in the API", bugs.Query{Kind: bugs.ByKeyword, Keyword: "memory leak", Filter: bugs.Filter{}}, []string{"CSCzz10012", "CSCzz10006", "CSCzz10002", "CSCzz10011", "CSCzz10010", "CSCzz10004"}},
		{"an unknown kind finds nothing", bugs.Query{Kind: 99, Filter: all}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := ids(find(t, tc.query)); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestWindowsGrow(t *testing.T) {
	last := 0
	for _, window := range []string{"1", "2", "3", "4", "5"} {
		total := find(t, bugs.Query{Kind: bugs.ByKeyword, Filter: bugs.Filter{Modified: window}}).Total
		if total <= last {
			t.Errorf("window %s has %d bugs, the one before %d", window, total, last)
		}
		last = total
	}
}

func TestOrder(t *testing.T) {
	for _, tc := range []struct {
		by  string
		key func(bugs.Bug) string
		up  bool
	}{
		{"", func(b bugs.Bug) string { return string(b.LastModifiedDate) }, false},
		{"modified_date", func(b bugs.Bug) string { return string(b.LastModifiedDate) }, false},
		{"modified_date_earliest", func(b bugs.Bug) string { return string(b.LastModifiedDate) }, true},
		{"status", func(b bugs.Bug) string { return string(b.Status) }, true},
		{"severity", func(b bugs.Bug) string { return string(b.Severity) }, true},
		{"support_case_count", func(b bugs.Bug) string {
			return strings.Repeat("0", 5-len(b.SupportCaseCount)) + string(b.SupportCaseCount)
		}, false},
	} {
		t.Run("by "+tc.by, func(t *testing.T) {
			q := everything(1)
			q.Filter.SortBy = tc.by
			var keys []string
			for _, b := range find(t, q).Bugs {
				keys = append(keys, tc.key(b))
			}
			if !tc.up {
				slices.Reverse(keys)
			}
			if !slices.IsSorted(keys) || keys[0] == keys[len(keys)-1] && tc.by != "severity" && tc.by != "status" {
				t.Errorf("order %v", keys)
			}
		})
	}
}

func TestPagesBeyondTheLastAreEmpty(t *testing.T) {
	for _, page := range []int{6, 1 << 62} {
		p := find(t, everything(page))
		if len(p.Bugs) != 0 || p.Index != page || p.Last != 5 {
			t.Errorf("page %d: %d bugs, index %d, last %d", page, len(p.Bugs), p.Index, p.Last)
		}
	}
}

func newCases(t *testing.T) *sample.Cases {
	t.Helper()
	c, err := sample.NewCases()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCreatedCasesAreOpenAndDistinct(t *testing.T) {
	c := newCases(t)
	first, err := c.Create(sample.Case{ID: "chosen", Title: "a", Status: "closed", Note: "x", Severity: "2"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (sample.Case{ID: "600000005", Title: "a", Status: "open", Severity: "2"}); first != want {
		t.Errorf("got %+v, want %+v", first, want)
	}
	if second, err := c.Create(sample.Case{}); err != nil || second.ID != "600000006" {
		t.Errorf("second case %+v, %v", second, err)
	}
}

func TestUpdateReplacesOnlyWhatIsGiven(t *testing.T) {
	c := newCases(t)
	if _, err := c.Update("600000002", sample.Case{Status: "pending"}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Update("600000002", sample.Case{Note: "new", Severity: "1", ID: "600000001", Title: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != "600000002" || got.Title != "Calls drop after 15 minutes" || got.Status != "pending" || got.Severity != "1" || got.Note != "new" {
		t.Errorf("got %+v", got)
	}
}

func TestUnknownCase(t *testing.T) {
	if _, err := newCases(t).Update("600000099", sample.Case{Note: "x"}); !errors.Is(err, sample.ErrNoSuchCase) {
		t.Errorf("error %v", err)
	}
}

func TestCasesAreBounded(t *testing.T) {
	c := newCases(t)
	var wg sync.WaitGroup
	for range sample.MaxCases {
		wg.Go(func() { _, _ = c.Create(sample.Case{}) })
	}
	wg.Wait()
	if _, err := c.Create(sample.Case{}); !errors.Is(err, sample.ErrTooManyCases) {
		t.Errorf("error %v", err)
	}
}
