package server

import (
	"fmt"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

// sampleNotice begins the text of every result and the server's instructions when there are no credentials.
const sampleNotice = "Sample data: everything here is invented. Start the server with CISCO_CLIENT_ID and CISCO_CLIENT_SECRET for Cisco's own bugs."

var statusNames = map[bugs.Text]string{"O": "Open", "F": "Fixed", "T": "Terminated"}

// bugMarkdown renders a page of bugs for people and models that read the text of a result.
func bugMarkdown(t bugTool, args map[string]string, p bugs.Page) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s\n\n", t.title, inline(terms(t, args)))
	switch {
	case len(p.Bugs) == 0 && p.Total > 0:
		fmt.Fprintf(&b, "Page %d is empty; the last page is %d.\n", p.Index, p.Last)
	case len(p.Bugs) == 0:
		b.WriteString("No bugs found.\n")
	case t.kind == bugs.ByID:
		fmt.Fprintf(&b, "Found %d.\n", len(p.Bugs))
	default:
		fmt.Fprintf(&b, "Found %d, page %d of %d.\n", p.Total, p.Index, p.Last)
	}
	for _, bug := range p.Bugs {
		writeBug(&b, bug, t.kind == bugs.ByID)
	}
	if p.Index < p.Last {
		fmt.Fprintf(&b, "\nFor more, use page_index %d.\n", p.Index+1)
	}
	return b.String()
}

// terms repeats what was searched for.
func terms(t bugTool, args map[string]string) string {
	list := make([]string, len(t.terms))
	for i, p := range t.terms {
		list[i] = args[p.name]
	}
	return strings.Join(list, ", ")
}

// writeBug renders one bug; in full when it was asked for by its id.
func writeBug(b *strings.Builder, bug bugs.Bug, full bool) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", bugLink(string(bug.BugID)), inline(string(bug.Headline)))
	status := statusNames[bug.Status]
	if status == "" {
		status = string(bug.Status)
	}
	line(b, "Status", bugs.Text(status))
	line(b, "Severity", bug.Severity)
	line(b, "Last modified", bug.LastModifiedDate)
	line(b, "Product", bug.Product)
	line(b, "Affected releases", bug.KnownAffectedReleases)
	line(b, "Fixed releases", bug.KnownFixedReleases)
	if !full {
		return
	}
	line(b, "Support cases", bug.SupportCaseCount)
	line(b, "Created", bug.CreatedDate)
	line(b, "Duplicate of", bug.DuplicateOf)
	if bug.Description != "" {
		fmt.Fprintf(b, "\n%s\n", inline(string(bug.Description)))
	}
}

func line(b *strings.Builder, name string, value bugs.Text) {
	if value != "" {
		fmt.Fprintf(b, "- **%s:** %s\n", name, inline(string(value)))
	}
}

// bugLink links a bug id to Cisco's Bug Search Tool. Ids come from the API as well, so anything that is not one is
// shown without a link.
func bugLink(id string) string {
	if !bugID.MatchString(id) {
		return inline(id)
	}
	return fmt.Sprintf("[%s](https://bst.cisco.com/bugsearch/bug/%s)", id, id)
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`)

// inline puts foreign text on one line and takes its Markdown apart, so that it cannot pose as part of the answer.
func inline(s string) string {
	return markdownEscapes.Replace(strings.Join(strings.Fields(s), " "))
}
