package server

import (
	"fmt"
	"slices"
	"strings"
)

// The groups of tools that can be asked for in [Options.Groups].
const (
	GroupBug  = "bug"  // the eight searches of the Bug API
	GroupCase = "case" // writing tools, on the sample cases only
	GroupAll  = "all"  // every group that the data source has
)

// A groupSet says which groups of tools are served.
type groupSet struct{ bug, cases bool }

// parseGroups reads a list of groups separated by commas. Without a list, sample data serves everything, so that
// access rules over writing tools can be tried, and Cisco's API serves the bug tools.
func parseGroups(list string, sampleData bool) (groupSet, error) {
	var g groupSet
	if strings.TrimSpace(list) == "" {
		return groupSet{bug: true, cases: sampleData}, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case GroupBug:
			g.bug = true
		case GroupCase:
			if !sampleData {
				return g, fmt.Errorf("the tools of group %q work on sample data only: use %q, or unset CISCO_CLIENT_ID and CISCO_CLIENT_SECRET", GroupCase, GroupBug)
			}
			g.cases = true
		case GroupAll:
			g.bug = true
			g.cases = g.cases || sampleData
		default:
			return g, unknownGroup(strings.TrimSpace(name))
		}
	}
	return g, nil
}

// toolNames lists the tools of the groups, sorted.
func (g groupSet) toolNames() []string {
	var names []string
	if g.bug {
		for _, t := range bugTools {
			names = append(names, t.name)
		}
	}
	if g.cases {
		names = append(names, createCase, updateCase)
	}
	slices.Sort(names)
	return names
}

// elsewhere lists the groups that configurations of other Cisco support servers name. They are valid there, so the
// answer is not that they do not exist.
var elsewhere = []string{"eox", "psirt", "product", "software", "serial", "rma", "smart_bonding", "enhanced_analysis", "sampling"}

func unknownGroup(name string) error {
	valid := fmt.Sprintf("use %s, %s or %s, or several separated by commas", GroupBug, GroupCase, GroupAll)
	if slices.Contains(elsewhere, strings.ToLower(name)) {
		return fmt.Errorf("the group of tools %q is not part of this server: %s", shorten(name), valid)
	}
	return fmt.Errorf("there is no group of tools %q: %s", shorten(name), valid)
}
