package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// mcpRemoteProgram makes a remote MCP server one that is spoken to over stdin and stdout.
const mcpRemoteProgram = "node/node_modules/mcp-remote/dist/proxy.js"

var (
	// remoteAsks is what mcp-remote prints for a person.
	remoteAsks = regexp.MustCompile(`Please authorize this client by visiting:\s+(https://\S+)\n`)
	// remoteLooks is what the access log says of a request for the page by a program.
	remoteLooks = regexp.MustCompile(`"uri":"/authorize\?[^\n]*"Accept":\["application/json"\][^\n]*"status":(\d+)`)
)

// TestMCPRemote lets mcp-remote sign in with the least, and gain a scope when it calls a tool that needs one. When it has
// lost its tokens, it looks whether the gateway still knows it before it sends a person there.
func TestMCPRemote(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + toolScopes + "\n}"})
	r := newMCPRemote(t, g)

	asking := r.begin(r.connect)
	wanted := asking.agree()
	if granted := r.granted(); !sameScopes(wanted, "bugs:read") || !sameScopes(granted, "bugs:read") {
		t.Errorf("at first mcp-remote wants %q and gets %q", wanted, granted)
	}
	callGo(t, r.session)

	var created []byte
	asking = r.begin(func(ctx context.Context) error {
		arguments := map[string]any{"title": "It broke", "description": "all of it"}
		result, err := r.session.CallTool(ctx, &mcp.CallToolParams{Name: "create_case", Arguments: arguments})
		created, _ = json.Marshal(result)
		return err
	})
	wanted = asking.agree()
	if granted := r.granted(); !sameScopes(wanted, "bugs:read cases:write") || !sameScopes(granted, "bugs:read cases:write") {
		t.Errorf("then mcp-remote wants %q and gets %q", wanted, granted)
	}
	if !strings.Contains(string(created), "Created case") {
		t.Errorf("the call with the scope ends with %s", created)
	}
	callGo(t, r.session)

	r.loseTokens()
	before := g.stored(t)
	asking = r.begin(r.connect)
	var looks [][]string
	eventually(t, "mcp-remote looks at the page", func() bool {
		looks = remoteLooks.FindAllStringSubmatch(g.proc.output.String(), -1)
		return len(looks) > 0
	})
	if after := g.stored(t); looks[0][1] != "200" || !reflect.DeepEqual(before, after) {
		t.Errorf("the look is answered with %s, and changes the store from %v to %v", looks[0][1], before, after)
	}
	asking.agree()
	callGo(t, r.session)
	if n := strings.Count(g.proc.output.String(), `"uri":"/register"`); n != 1 {
		t.Errorf("mcp-remote has registered %d times", n)
	}
}

// mcpRemote is mcp-remote with the Go SDK at its pipes and a person who follows the addresses that it prints.
type mcpRemote struct {
	t       *testing.T
	g       *gateway
	visitor *visitor
	node    string
	home    string
	port    int // of its callback
	log     lockedBuffer
	asked   int // how often the person has been asked
	session *mcp.ClientSession
}

func newMCPRemote(t *testing.T, g *gateway) *mcpRemote {
	t.Helper()
	r := &mcpRemote{t: t, g: g, visitor: g.newVisitor(t), node: needNode(t), home: t.TempDir(), port: freePort(t)}
	t.Cleanup(func() {
		if r.session != nil {
			_ = r.session.Close() // whether it had to be ended by a signal is of no interest
		}
		if t.Failed() {
			t.Logf("output of mcp-remote:\n%s", tail(r.log.String(), outputShown))
		}
	})
	return r
}

// connect starts the program and begins a session through it.
func (r *mcpRemote) connect(ctx context.Context) (err error) {
	cmd := exec.Command(r.node, mcpRemoteProgram, r.g.origin+"/mcp", fmt.Sprint(r.port))
	// Its browser is the program true, which does nothing.
	cmd.Env = r.g.trusting("PATH="+os.Getenv("PATH"), "HOME="+r.home, "BROWSER=true")
	cmd.Stderr = &r.log
	client := mcp.NewClient(&mcp.Implementation{Name: "integration", Version: "1"}, nil)
	r.session, err = client.Connect(ctx, &mcp.CommandTransport{Command: cmd}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	return err
}

// tokensFile is where the program keeps its tokens.
func (r *mcpRemote) tokensFile() string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.home, ".mcp-auth", "*", "*_tokens.json"))
	if err != nil || len(files) != 1 {
		r.t.Fatalf("mcp-remote keeps its tokens in %q (%v)", files, err)
	}
	return files[0]
}

// granted is the scope of the tokens that the program has now.
func (r *mcpRemote) granted() string {
	r.t.Helper()
	var tokens struct {
		Scope   string
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if !readJSON(r.tokensFile(), &tokens) || tokens.Access == "" || tokens.Refresh == "" {
		r.t.Fatal("mcp-remote has no tokens")
	}
	r.g.keepSecret(tokens.Access, tokens.Refresh)
	return tokens.Scope
}

// loseTokens ends the program and removes its tokens. It keeps its registration.
func (r *mcpRemote) loseTokens() {
	r.t.Helper()
	_ = r.session.Close()
	if err := os.Remove(r.tokensFile()); err != nil {
		r.t.Fatal(err)
	}
}

// asking is something that waits for a person.
type asking struct {
	*mcpRemote
	address string
	done    chan error
}

// begin does what makes the program ask a person, and returns when it asks.
func (r *mcpRemote) begin(do func(context.Context) error) *asking {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*patience) // for the program to ask, and to go on
	a := &asking{mcpRemote: r, done: make(chan error, 1)}
	go func() {
		defer close(a.done)
		a.done <- do(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-a.done
	})
	r.asked++
	eventually(r.t, "mcp-remote asks for a browser", func() bool {
		asks := remoteAsks.FindAllStringSubmatch(r.log.String(), -1)
		if len(asks) >= r.asked {
			a.address = asks[r.asked-1][1]
		}
		return a.address != ""
	})
	return a
}

// agree is the person who agrees. It returns the scope that was asked for, after what waited has succeeded.
func (a *asking) agree() (scope string) {
	a.t.Helper()
	handOff := a.visitor.get(a.address).signIn().submit("allow", nil)
	handOff.callback()
	// Within a session the program listens only after it has printed the address; no person is as fast as this one.
	eventually(a.t, "mcp-remote listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", a.port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	wantStatus(a.t, "the callback", send(a.t, http.DefaultClient, http.MethodGet, handOff.next, ""), http.StatusOK)
	if err := <-a.done; err != nil {
		a.t.Fatalf("after the person has agreed: %v", err)
	}
	if asks := remoteAsks.FindAllString(a.log.String(), -1); len(asks) != a.asked {
		a.t.Errorf("the person was asked %d times, want %d", len(asks), a.asked)
	}
	u, err := url.Parse(a.address)
	if err != nil {
		a.t.Fatal(err)
	}
	return u.Query().Get("scope")
}
