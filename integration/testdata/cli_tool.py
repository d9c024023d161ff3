"""A command line tool with a static bearer token, in nothing but the standard library."""
import json
import os
import urllib.request

MCP_SERVER = os.environ["MCP_SERVER"]
BEARER_TOKEN = os.environ["BEARER_TOKEN"]


def call_mcp_tool(tool_name, arguments):
    headers = {
        "Authorization": f"Bearer {BEARER_TOKEN}",
        "Content-Type": "application/json",
    }
    payload = {
        "jsonrpc": "2.0",
        "method": "tools/call",
        "params": {"name": tool_name, "arguments": arguments},
        "id": 1,
    }
    request = urllib.request.Request(f"{MCP_SERVER}/mcp", json.dumps(payload).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


result = call_mcp_tool("search_bugs_by_keyword", {"keyword": "memory leak", "severity": "3", "page_index": 1})
print(json.dumps(result))
