package integration

import (
	"strings"
	"testing"
)

// Ways in which a client of the matrix is known to the gateway.
const (
	registers    = "registers"    // dynamically, RFC 7591
	document     = "document"     // its client_id is the address of its metadata document
	public       = "public"       // in the configuration, without a secret
	confidential = "confidential" // in the configuration, with a secret
)

// sdkWay is one cell of the matrix.
type sdkWay struct {
	sdk       string
	transport string // http is the streamable one, sse that of 2024-11-05
	client    string
	version   string // of the protocol that has to be agreed on
	mode      string // how the second generation of the TypeScript SDK negotiates
}

// TestSDKs is the matrix of the official SDKs: each goes the whole way by itself, from an address and nothing else
// through discovery, registration, sign-in, consent and tools to a refresh and a revocation.
func TestSDKs(t *testing.T) {
	t.Parallel()
	needNode(t)
	docs := newDocumentServer(t)
	g := startGateway(t, gatewayConfig{env: docs.trust(), site: "mcp_auth " + startBackend(t) + ` {
		name "Cisco Support"
		` + userLine + `
		` + onLoopback + `
		stream_keep_alive 1s
		client ` + public + ` {
			redirect_uris ` + redirectURI + `
		}
		client ` + confidential + ` {
			secret ` + sdkSecret + `
			redirect_uris ` + redirectURI + `
		}
	}`})
	g.keepSecret(sdkSecret)
	address := docs.publishClient(t, "/client.json", sdkClientName)
	for _, way := range []sdkWay{
		{"Go", "http", registers, "2026-07-28", ""},
		{"Go", "http", registers, "2025-11-25", ""},
		{"Go", "http", document, "2026-07-28", ""},
		{"Go", "http", document, "2025-11-25", ""},
		{"Go", "http", public, "2026-07-28", ""},
		{"Go", "http", confidential, "2026-07-28", ""},
		{"Go", "sse", registers, "2025-11-25", ""},
		{"Go", "sse", document, "2025-11-25", ""},
		{"Go", "sse", public, "2025-11-25", ""},
		{"Go", "sse", confidential, "2025-11-25", ""},
		{"TypeScript v1", "http", registers, "2025-11-25", ""},
		{"TypeScript v1", "http", document, "2025-11-25", ""},
		{"TypeScript v1", "sse", registers, "2025-11-25", ""},
		{"TypeScript v1", "sse", document, "2025-11-25", ""},
		{"TypeScript v2", "http", registers, "2025-11-25", "legacy"},
		{"TypeScript v2", "http", registers, "2026-07-28", "auto"},
		{"TypeScript v2", "http", registers, "2026-07-28", "modern"},
		{"TypeScript v2", "http", document, "2026-07-28", "modern"},
		{"TypeScript v2", "sse", registers, "2025-11-25", "legacy"},
		{"TypeScript v2", "sse", document, "2025-11-25", "legacy"},
	} {
		t.Run(strings.TrimSpace(way.sdk+"/"+way.transport+"/"+way.client+"/"+way.version+" "+way.mode), func(t *testing.T) {
			if way.sdk == "Go" {
				way.goSDK(t, g, address)
				return
			}
			t.Parallel()
			way.typeScriptSDK(t, g, address)
		})
	}
}

const (
	sdkSecret     = "sdk-secret-1234"
	sdkClientName = "Journey"
)

// path is the resource that the client is given the address of.
func (w sdkWay) path() string {
	if w.transport == "sse" {
		return "/sse"
	}
	return "/mcp"
}
