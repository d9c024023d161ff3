package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A toolFunc runs a tool on parsed arguments. It returns the structured result and the same as Markdown, or an error
// whose text is for the user.
type toolFunc func(ctx context.Context, args map[string]string) (structured any, markdown string, err error)

// handler makes a tool handler of run. It uses the SDK's plain handlers rather than its generic ones, because those
// refuse a severity of 3 where "3" is expected, and report bad arguments as the inner steps of schema validation.
//
// Errors become results with isError set, which the model sees and can act on. A protocol error would reach the
// client's own code only.
func (s *Server) handler(params []param, run toolFunc) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		args, err := parseArgs(params, req.Params.Arguments)
		if err != nil {
			return toolFailure(err), nil
		}
		// Calls of older protocol versions outlive their request, so that nothing but this ends them at a stop.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.closing, cancel)()
		structured, markdown, err := run(ctx, args)
		if err != nil {
			return toolFailure(err), nil
		}
		data, err := json.Marshal(structured)
		if err != nil {
			return nil, fmt.Errorf("encoding the result: %w", err)
		}
		if s.sampleData {
			markdown = "> " + sampleNotice + "\n\n" + markdown
		}
		return &mcp.CallToolResult{
			Content:           []mcp.Content{&mcp.TextContent{Text: markdown}},
			StructuredContent: json.RawMessage(data),
		}, nil
	}
}

func toolFailure(err error) *mcp.CallToolResult {
	var res mcp.CallToolResult
	res.SetError(err)
	return &res
}

// outputSchema describes T. It panics when T has no schema, which the first start would show.
func outputSchema[T any]() *jsonschema.Schema {
	s, err := jsonschema.For[T](nil)
	if err != nil {
		panic(fmt.Sprintf("output schema: %v", err))
	}
	for _, p := range s.Properties {
		if p.Items != nil { // a Go slice can be null; the results never are
			p.Type, p.Types = "array", nil
		}
	}
	return s
}
