package server

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

// A bugSource answers searches. Its errors are shown to the user as they are.
type bugSource interface {
	Bugs(ctx context.Context, q bugs.Query) (bugs.Page, error)
}

// A bugTool is one search of the Bug API.
type bugTool struct {
	name, title, about string
	kind               bugs.Kind
	terms              []param // what to search for; the filter follows
}

// The terms, with the lengths that the API's WADL allows.
var (
	bugIDs = param{
		name: "bug_ids", required: true, maxLen: 200,
		about: "One to five Cisco bug ids, separated by commas, such as CSCzz10001,CSCzz20002",
	}
	keyword = param{
		name: "keyword", required: true, maxLen: 50,
		about: "Words to find in headlines and descriptions, such as: memory leak",
	}
	basePID       = param{name: "base_pid", required: true, maxLen: 100, about: "Product id, such as C9300-48P"}
	releases      = param{name: "software_releases", required: true, maxLen: 75, about: "Software releases, separated by commas, such as 17.6.3,17.6.4"}
	affected      = param{name: "affected_releases", required: true, maxLen: 75, about: "Releases that have the bug, separated by commas"}
	fixed         = param{name: "fixed_releases", required: true, maxLen: 75, about: "Releases that fix the bug, separated by commas"}
	productSeries = param{name: "product_series", required: true, maxLen: 100, about: "Product series, such as Cisco Catalyst 9300 Series Switches"}
	productName   = param{name: "product_name", required: true, maxLen: 100, about: "Product name, such as Cisco ASR 1001-X Router"}
)

// filterParams narrow every search but the one by id.
var filterParams = []param{
	{name: "page_index", page: true, def: "1", about: "Page of the answer, with 10 bugs each"},
	{name: "status", choices: []string{"O", "F", "T"}, about: "O open, F fixed, T terminated"},
	{name: "severity", digits: true, choices: []string{"1", "2", "3", "4", "5", "6"}, about: "1 (worst) to 6 (enhancement); one value"},
	// The API's own default is the last 30 days, which hides most bugs from somebody who does not know it.
	{name: "modified_date", digits: true, choices: []string{"1", "2", "3", "4", "5"}, def: "5", about: "Changed in: 1 last week, 2 last 30 days, 3 last 6 months, 4 last year, 5 any time"},
	{name: "sort_by", choices: []string{"status", "modified_date", "severity", "support_case_count", "modified_date_earliest"}, about: "Order of the answer"},
}

var bugTools = []bugTool{
	{"get_bug_details", "Get bug details", "Get the full records of up to five Cisco bugs by their ids.", bugs.ByID, []param{bugIDs}},
	{"search_bugs_by_keyword", "Search bugs by keyword", "Search Cisco bugs by words in their headline and description.", bugs.ByKeyword, []param{keyword}},
	{"search_bugs_by_product_id", "Search bugs by product id", "Search the bugs of a Cisco product by its product id.", bugs.ByProduct, []param{basePID}},
	{"search_bugs_by_product_and_release", "Search bugs by product id and release", "Search the bugs of a Cisco product in given software releases.", bugs.ByProductRelease, []param{basePID, releases}},
	{"search_bugs_by_product_series_affected", "Search bugs affecting a product series", "Search the bugs that releases of a product series have.", bugs.BySeriesAffected, []param{productSeries, affected}},
	{"search_bugs_by_product_series_fixed", "Search bugs fixed in a product series", "Search the bugs that releases of a product series fix.", bugs.BySeriesFixed, []param{productSeries, fixed}},
	{"search_bugs_by_product_name_affected", "Search bugs affecting a product", "Search the bugs that releases of a product have, by the product's name.", bugs.ByNameAffected, []param{productName, affected}},
	{"search_bugs_by_product_name_fixed", "Search bugs fixed in a product", "Search the bugs that releases of a product fix, by the product's name.", bugs.ByNameFixed, []param{productName, fixed}},
}

func (t bugTool) params() []param {
	if t.kind == bugs.ByID {
		return t.terms
	}
	return slices.Concat(t.terms, filterParams)
}

// query turns parsed arguments into a search.
func (t bugTool) query(args map[string]string) (bugs.Query, error) {
	q := bugs.Query{
		Kind:     t.kind,
		Keyword:  args[keyword.name],
		BasePID:  args[basePID.name],
		Series:   args[productSeries.name],
		Name:     args[productName.name],
		Releases: args[releases.name] + args[affected.name] + args[fixed.name], // a tool has at most one of them
		Filter: bugs.Filter{
			Status:   args["status"],
			Severity: args["severity"],
			Modified: args["modified_date"],
			SortBy:   args["sort_by"],
		},
	}
	q.Filter.Page, _ = strconv.Atoi(args["page_index"]) // digits by now, or absent, which is 0: the first page
	if t.kind != bugs.ByID {
		return q, nil
	}
	var err error
	q.IDs, err = splitIDs(args[bugIDs.name])
	return q, err
}

const maxIDs = 5

var bugID = regexp.MustCompile(`^(?i:csc)[A-Za-z]{2}[0-9]{5}$`)

// splitIDs reads a list of bug ids and gives them their usual spelling.
func splitIDs(list string) ([]string, error) {
	var ids []string
	for part := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		if !bugID.MatchString(part) {
			return nil, refuse("%q is not a bug id; one looks like CSCzz10001.", shorten(part))
		}
		id := "CSC" + strings.ToLower(part[3:])
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 || len(ids) > maxIDs {
		return nil, refuse("The argument bug_ids must hold one to %d bug ids.", maxIDs)
	}
	return ids, nil
}

// bugResult is the structured answer of the bug tools.
type bugResult struct {
	Bugs         []bugs.Bug `json:"bugs"`
	PageIndex    int        `json:"page_index" jsonschema:"this page, from 1"`
	TotalResults int        `json:"total_results" jsonschema:"bugs on all pages"`
	HasMore      bool       `json:"has_more" jsonschema:"whether there is a next page"`
	SampleData   bool       `json:"sample_data" jsonschema:"true when the bugs are invented"`
}

func (s *Server) addBugTools(to *mcp.Server) {
	for _, t := range bugTools {
		to.AddTool(&mcp.Tool{
			Name:         t.name,
			Title:        t.title,
			Description:  t.about,
			InputSchema:  inputSchema(t.params()),
			OutputSchema: outputSchema[bugResult](),
			// The world stays open with sample data too, so that rules tried on it fit the real API.
			Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, DestructiveHint: new(false), OpenWorldHint: new(true)},
		}, s.handler(t.params(), func(ctx context.Context, args map[string]string) (any, string, error) {
			return s.search(ctx, t, args)
		}))
	}
}

func (s *Server) search(ctx context.Context, t bugTool, args map[string]string) (any, string, error) {
	q, err := t.query(args)
	if err != nil {
		return nil, "", err
	}
	page, err := s.source.Bugs(ctx, q)
	if err != nil {
		s.log.WarnContext(ctx, "search failed", "tool", t.name, "error", err, "cause", errors.Unwrap(err))
		return nil, "", err
	}
	result := bugResult{
		Bugs:         page.Bugs,
		PageIndex:    page.Index,
		TotalResults: page.Total,
		HasMore:      page.Index < page.Last,
		SampleData:   s.sampleData,
	}
	if result.Bugs == nil {
		result.Bugs = []bugs.Bug{} // the schema promises an array, and a nil slice is null in JSON
	}
	return result, bugMarkdown(t, args, page), nil
}
