#!/bin/bash
# A service account: registers itself, gets a token with its own credentials, and lists the tools.
set -euo pipefail

REGISTRATION=$(curl -sS --fail-with-body -X POST "$MCP_SERVER/register" \
  -H "Content-Type: application/json" \
  -d '{
    "client_name": "Monitoring Service",
    "grant_types": ["client_credentials"]
  }')

CLIENT_ID=$(echo "$REGISTRATION" | jq -er '.client_id')
CLIENT_SECRET=$(echo "$REGISTRATION" | jq -er '.client_secret')

# Get access token using client credentials
TOKEN_RESPONSE=$(curl -s -X POST "$MCP_SERVER/token" \
  -H "Content-Type: application/x-www-form-urlencoded" \
  -d "grant_type=client_credentials" \
  -d "client_id=$CLIENT_ID" \
  -d "client_secret=$CLIENT_SECRET")

ACCESS_TOKEN=$(echo "$TOKEN_RESPONSE" | jq -r '.access_token')

# Use access token for MCP requests
curl -sS --fail-with-body -X POST "$MCP_SERVER/mcp" \
  -H "Authorization: Bearer $ACCESS_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "jsonrpc": "2.0",
    "method": "tools/list",
    "id": 1
  }'
