package server

import (
	"context"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/sample"
)

// The names of the tools that write.
const (
	createCase = "create_case"
	updateCase = "update_case"
)

var (
	caseSeverity = param{name: "severity", digits: true, choices: []string{"1", "2", "3", "4"}, about: "1 (network down) to 4 (question)"}

	createParams = []param{
		{name: "title", required: true, maxLen: 100, about: "One line that names the problem"},
		{name: "description", required: true, maxLen: 2000, about: "What happens, and since when"},
		{name: "severity", digits: true, choices: caseSeverity.choices, def: "3", about: caseSeverity.about},
		{name: "bug_id", maxLen: 10, about: "The Cisco bug the case is about, such as CSCzz10001"},
	}
	updateParams = []param{
		{name: "case_id", required: true, maxLen: 9, about: "Case number of nine digits, such as 600000001"},
		{name: "status", choices: []string{"open", "pending", "closed"}, about: "New status"},
		caseSeverity,
		{name: "note", maxLen: 2000, about: "New note; it replaces the one before"},
	}
)

// caseResult is the structured answer of the case tools.
type caseResult struct {
	Case       sample.Case `json:"case"`
	SampleData bool        `json:"sample_data" jsonschema:"always true: the case is kept in the memory of this server only"`
}

// addCaseTools adds the tools that write. They exist so that access rules, consent and step-up authorization have
// something to guard; they change invented cases in memory and nothing else.
func (s *Server) addCaseTools(to *mcp.Server) {
	to.AddTool(&mcp.Tool{
		Name:         createCase,
		Title:        "Create a support case",
		Description:  "Create a support case in the sample data. Nothing is sent to Cisco.",
		InputSchema:  inputSchema(createParams),
		OutputSchema: outputSchema[caseResult](),
		Annotations:  &mcp.ToolAnnotations{DestructiveHint: new(false), OpenWorldHint: new(false)}, // only adds
	}, s.handler(createParams, s.createCase))
	to.AddTool(&mcp.Tool{
		Name:         updateCase,
		Title:        "Update a support case",
		Description:  "Replace the status, severity or note of a support case in the sample data. Nothing is sent to Cisco.",
		InputSchema:  inputSchema(updateParams),
		OutputSchema: outputSchema[caseResult](),
		// What is replaced is lost, and replacing it twice with the same changes nothing more.
		Annotations: &mcp.ToolAnnotations{DestructiveHint: new(true), IdempotentHint: true, OpenWorldHint: new(false)},
	}, s.handler(updateParams, s.updateCase))
}

func (s *Server) createCase(_ context.Context, args map[string]string) (any, string, error) {
	c := sample.Case{Title: args["title"], Description: args["description"], Severity: args["severity"]}
	if id := args["bug_id"]; id != "" {
		ids, err := splitIDs(id)
		if err != nil {
			return nil, "", err
		}
		c.BugID = ids[0]
	}
	c, err := s.cases.Create(c)
	if err != nil {
		return nil, "", refuse("No case was created: %v.", err)
	}
	return caseResult{c, true}, caseMarkdown("Created case", c), nil
}

func (s *Server) updateCase(_ context.Context, args map[string]string) (any, string, error) {
	change := sample.Case{Status: args["status"], Severity: args["severity"], Note: args["note"]}
	if change == (sample.Case{}) {
		return nil, "", refuse("Give at least one of status, severity and note.")
	}
	c, err := s.cases.Update(args["case_id"], change)
	if err != nil {
		return nil, "", refuse("Case %q was not changed: %v.", shorten(args["case_id"]), err)
	}
	return caseResult{c, true}, caseMarkdown("Updated case", c), nil
}

func caseMarkdown(what string, c sample.Case) string {
	text := fmt.Sprintf("# %s %s\n\n%s\n\n- **Status:** %s\n- **Severity:** %s\n", what, c.ID, inline(c.Title), c.Status, c.Severity)
	if c.BugID != "" {
		text += "- **Bug:** " + bugLink(c.BugID) + "\n"
	}
	if c.Note != "" {
		text += "- **Note:** " + inline(c.Note) + "\n"
	}
	return text
}
