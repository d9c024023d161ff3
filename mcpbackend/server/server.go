// Package server is an MCP server with tools over Cisco's Bug API, as an HTTP handler that knows nothing of
// authentication: a gateway in front of it does that.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/cisco"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/sample"
)

const (
	serverName  = "cisco-support"
	serverTitle = "Cisco Support"
	version     = "1.0.0"
)

// The defaults of [Options].
const (
	DefaultSessionTimeout = 30 * time.Minute
	DefaultKeepAlive      = 30 * time.Second
	DefaultMaxBody        = 1 << 20
)

// Options configures a [Server]. The zero value serves sample data.
type Options struct {
	// Groups lists the groups of tools to serve, separated by commas: bug, case or all. Default: bug on Cisco's API,
	// all on sample data. The group case exists on sample data only.
	Groups string

	// Cisco holds the credentials of Cisco's API. Without a client id and a secret, the server answers from sample
	// data.
	Cisco cisco.Config

	// SessionTimeout ends sessions without requests. Default: 30 minutes.
	SessionTimeout time.Duration

	// KeepAlive is the time between pings on the streams of GET /sse, which keep proxies from closing idle streams
	// and find clients that are gone. Default: 30 seconds.
	KeepAlive time.Duration

	// MaxBody bounds request bodies, in bytes. Default: 1 MiB.
	MaxBody int64

	// CrossOrigin refuses browser requests from other sites on the MCP paths. Set it when clients reach this server
	// without a gateway that checks Origin. Default: nil, no check.
	CrossOrigin *http.CrossOriginProtection

	// Logger receives warnings. Default: nothing is logged.
	Logger *slog.Logger
}

// A Server serves MCP on /mcp, /sse and /messages, and describes itself on /, /health and /whoami. It is an
// [http.Handler]; [Server.Serve] runs it on a listener.
type Server struct {
	log        *slog.Logger
	source     bugSource
	cases      *sample.Cases
	sampleData bool
	toolNames  []string
	maxBody    int64

	mux                         *http.ServeMux
	modern, sessions, bare, sse http.Handler // see serveMCP and serveSSE
	plain                       *mcp.Server  // behind /mcp; knows its sessions

	stopping context.Context // done when streams are to end
	stop     context.CancelFunc
	closing  context.Context // done when tool calls are to end
	abort    context.CancelFunc
}

// New checks the options and returns a server. Its errors say which setting to change.
func New(o Options) (*Server, error) {
	s := &Server{log: o.Logger, maxBody: o.MaxBody}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.maxBody <= 0 {
		s.maxBody = DefaultMaxBody
	}
	if o.SessionTimeout <= 0 {
		o.SessionTimeout = DefaultSessionTimeout
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = DefaultKeepAlive
	}
	if err := s.openSource(o.Cisco); err != nil {
		return nil, err
	}
	groups, err := parseGroups(o.Groups, s.sampleData)
	if err != nil {
		return nil, err
	}
	s.toolNames = groups.toolNames()
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.closing, s.abort = context.WithCancel(context.Background())
	s.addHandlers(o, groups)
	s.addRoutes(o.CrossOrigin)
	return s, nil
}

// openSource decides between Cisco's API and the sample data.
func (s *Server) openSource(cfg cisco.Config) (err error) {
	if cfg.ClientID != "" || cfg.ClientSecret != "" {
		s.source, err = cisco.New(cfg)
		return err
	}
	s.sampleData = true
	if s.source, err = sample.NewBugs(); err != nil {
		return err
	}
	s.cases, err = sample.NewCases()
	return err
}

// addHandlers makes the SDK handlers between which serveMCP chooses. Three things differ between them besides the
// options named there:
//
//   - Pings go to the streams of /sse only. The SDK closes a session whose ping cannot be delivered, and a client on
//     /mcp that has not opened the optional GET stream cannot be pinged: its session would end after one interval.
//   - Leaving a modern request cancels it, as that protocol demands; leaving an older one must not.
//   - The localhost check of the Host header, against DNS rebinding, is left on in all of them.
func (s *Server) addHandlers(o Options, groups groupSet) {
	s.plain = s.newMCPServer(groups, 0)
	pinging := s.newMCPServer(groups, o.KeepAlive)
	get := func(*http.Request) *mcp.Server { return s.plain }
	s.modern = mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
		Stateless: true, PropagateRequestCancellation: true, MaxRequestBodyBytes: s.maxBody, Logger: s.log,
	})
	s.sessions = mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
		SessionTimeout: o.SessionTimeout, MaxRequestBodyBytes: s.maxBody, Logger: s.log,
	})
	s.bare = mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: s.maxBody, Logger: s.log,
	})
	s.sse = mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return pinging }, &mcp.SSEOptions{
		MaxRequestBodyBytes: s.maxBody,
	})
}

// newMCPServer makes an SDK server with the tools of groups.
func (s *Server) newMCPServer(groups groupSet, keepAlive time.Duration) *mcp.Server {
	instructions := "Searches Cisco's bug database. Start with search_bugs_by_keyword; get_bug_details gives full records."
	if s.sampleData {
		instructions = sampleNotice + " " + instructions
	}
	to := mcp.NewServer(&mcp.Implementation{Name: serverName, Title: serverTitle, Version: version}, &mcp.ServerOptions{
		Instructions: instructions,
		KeepAlive:    keepAlive,
		// The tools do not change while the server runs. Left to itself, the SDK would announce that they may, and
		// logging.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	if groups.bug {
		s.addBugTools(to)
	}
	if groups.cases {
		s.addCaseTools(to)
	}
	return to
}

func (s *Server) addRoutes(crossOrigin *http.CrossOriginProtection) {
	guard := func(h http.HandlerFunc) http.Handler {
		if crossOrigin == nil {
			return h
		}
		return crossOrigin.Handler(h)
	}
	s.mux = http.NewServeMux()
	s.mux.Handle("/mcp", guard(s.serveMCP))
	s.mux.Handle("GET /sse", guard(s.serveSSE))
	s.mux.Handle("POST /messages", guard(s.sse.ServeHTTP))
	s.mux.HandleFunc("GET /health", s.serveHealth)
	s.mux.HandleFunc("GET /{$}", s.serveIndex)
	s.mux.HandleFunc("/whoami", s.serveWhoami)
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Tools returns the names of the tools served, sorted.
func (s *Server) Tools() []string { return slices.Clone(s.toolNames) }

// SampleData reports whether answers come from the sample data.
func (s *Server) SampleData() bool { return s.sampleData }

// stopGrace is how long calls in flight may take to end after a stop was asked for.
const stopGrace = 5 * time.Second

// Serve serves on ln until ctx is done, then stops: streams end at once, calls in flight get 5 seconds. It returns
// nil after a stop, and closes ln in any case. A server that has stopped cannot serve again.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{
		Handler: s,
		// There is no limit for a whole request or answer, because streams stay open for hours.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	hs.RegisterOnShutdown(s.stop)
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(ln) }()
	defer s.Close()
	select {
	case err := <-failed:
		return fmt.Errorf("serving MCP: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := hs.Shutdown(grace); err != nil {
		s.log.Warn("calls in flight did not end in time", "error", err)
		return hs.Close()
	}
	return nil
}

// Close ends all streams, calls and sessions, with their timers and goroutines. Only those who use the server as an
// [http.Handler] need it; call it after the HTTP server has stopped.
func (s *Server) Close() {
	s.stop()
	s.abort()
	// The sessions of /sse end with their streams. Closing them from here would also race with the SDK, which starts
	// their pings after it has listed them.
	for session := range s.plain.Sessions() {
		_ = session.Close() // its connection is gone already, which is all that could be reported
	}
}
