package cisco

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

// address builds the address of a search. The paths are those of the API's WADL, version 2.0.
func (c *Client) address(q bugs.Query) (string, error) {
	parts := path(q)
	for i, p := range parts {
		// Escaping leaves dots alone, and a path element of only dots would climb out of the API's part of the server.
		if strings.Trim(p, ".") == "" {
			return "", &Error{Message: "A search needs at least one letter or digit in each of its terms."}
		}
		// Lists are separated by commas, which a path may hold as they are (RFC 3986 §3.3) and Cisco's examples do.
		parts[i] = strings.ReplaceAll(url.PathEscape(p), "%2C", ",")
	}
	address := c.base + "/bugs/" + strings.Join(parts, "/")
	if q.Kind == bugs.ByID {
		return address, nil
	}
	return address + "?" + filter(q.Filter).Encode(), nil
}

func path(q bugs.Query) []string {
	switch q.Kind {
	case bugs.ByKeyword:
		return []string{"keyword", q.Keyword}
	case bugs.ByProduct:
		return []string{"products", "product_id", q.BasePID}
	case bugs.ByProductRelease:
		return []string{"products", "product_id", q.BasePID, "software_releases", q.Releases}
	case bugs.BySeriesAffected:
		return []string{"product_series", q.Series, "affected_releases", q.Releases}
	case bugs.BySeriesFixed:
		return []string{"product_series", q.Series, "fixed_in_releases", q.Releases}
	case bugs.ByNameAffected:
		return []string{"product_name", q.Name, "affected_releases", q.Releases}
	case bugs.ByNameFixed:
		return []string{"product_name", q.Name, "fixed_in_releases", q.Releases}
	default: // bugs.ByID
		return []string{"bug_ids", strings.Join(q.IDs, ",")}
	}
}

func filter(f bugs.Filter) url.Values {
	v := url.Values{"page_index": {strconv.Itoa(max(f.Page, 1))}}
	for name, value := range map[string]string{
		"status": f.Status, "severity": f.Severity, "modified_date": f.Modified, "sort_by": f.SortBy,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}
