package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Caddy writes the address of a request, that of the page it came from, and that
// which an answer leads to, into its logs as they are. Those of our endpoints hold
// codes and the like. A handler cannot change what Caddy writes: it has taken a
// copy of the request before. But a handler can make it write nothing, and so the
// few lines with a secret are written here, by the same logger and with the same
// fields, and say REDACTED in its place. All other lines stay Caddy's.

// accessLogs writes lines in place of Caddy's.
type accessLogs struct{ access, failure *zap.Logger }

// loggerOf makes the logger that modules of the id have.
type loggerOf string

// CaddyModule returns the Caddy module information.
func (l loggerOf) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: caddy.ModuleID(l)} }

func newAccessLogs(ctx caddy.Context) *accessLogs {
	return &accessLogs{access: ctx.Logger(loggerOf("http.log.access")), failure: ctx.Logger(loggerOf("http.log.error"))}
}

// serve lets a handler answer a request, and keeps secrets out of the lines about
// it.
func (l *accessLogs) serve(w http.ResponseWriter, r *http.Request, next func() error) (err error) {
	seen, any := observe(r)
	if !any {
		return next()
	}
	// Deferred, since a handler may break an answer off by a panic.
	defer func() { l.write(w, seen, err) }()
	if err = next(); err != nil && seen.secret {
		l.fail(w, r, seen, err)
		err = nil
	}
	return err
}

// logged is a request as the logs get it.
type logged struct {
	request *http.Request // with nothing secret in it
	secret  bool          // whether there was something
	server  *caddyhttp.Server
	body    countedBody
}

// observe looks at a request before anything of it is changed. It reports false if
// nothing that could be written about the request would have to be kept back.
func observe(r *http.Request) (*logged, bool) {
	uri := r.RequestURI
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		uri = original.RequestURI
	}
	uri, secret := withoutSecrets(uri)
	header, secretHeader := withoutSecretsIn(r.Header, "Referer")
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Logs == nil && !secret && !secretHeader {
		return nil, false
	}
	request := r.WithContext(r.Context())
	request.RequestURI, request.Header = uri, header
	if !secretHeader {
		request.Header = header.Clone() // others change what they pass on
	}
	seen := &logged{request: request, secret: secret || secretHeader, server: server}
	if r.Body != nil && r.Body != http.NoBody {
		seen.body.ReadCloser = r.Body
		r.Body = &seen.body
	}
	return seen, true
}

// countedBody counts what is read of a body.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// fail answers an error in place of Caddy, which may write a line about it, with the
// address. Where the configuration has routes for errors it does so when they fail,
// and that is known too late to keep it from it.
func (l *accessLogs) fail(w http.ResponseWriter, r *http.Request, seen *logged, err error) {
	status, message, fields := errorFields(err)
	level := zapcore.DebugLevel
	if status >= http.StatusInternalServerError {
		level = zapcore.ErrorLevel
	}
	if handled := seen.server.Errors; handled != nil && len(handled.Routes) > 0 {
		failed := serveError(w, r, handled, err)
		if failed == nil {
			return
		}
		fields = append([]zap.Field{zap.String("error", failed.Error()), zap.Namespace("first_error"), zap.String("msg", message)}, fields...)
		level, message = zapcore.ErrorLevel, "error handling handler error"
	}
	if level == zapcore.ErrorLevel {
		fields = append([]zap.Field{seen.requestField(), zap.Duration("duration", seen.duration())}, fields...)
		for _, logger := range seen.loggers(l.failure) {
			logger.Error(message, fields...)
		}
	}
	w.WriteHeader(status)
}

// serveError lets the routes for errors answer an error. They get the request as it
// came.
func serveError(w http.ResponseWriter, r *http.Request, to *caddyhttp.HTTPErrorConfig, err error) error {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		r.Method, r.RemoteAddr, r.RequestURI = original.Method, original.RemoteAddr, original.RequestURI
		*r.URL = *original.URL
	}
	unhandled := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		status, _, _ := errorFields(err)
		w.WriteHeader(status)
		return nil
	})
	return to.Routes.Compile(unhandled).ServeHTTP(w, to.WithError(r, err))
}

// errorFields are the status, the message and the fields that Caddy has for an
// error.
func errorFields(err error) (status int, message string, fields []zap.Field) {
	e, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok {
		return http.StatusInternalServerError, err.Error(), []zap.Field{zap.Error(err)}
	}
	message = err.Error()
	if e.Err != nil {
		message = e.Err.Error()
	}
	return e.StatusCode, message, []zap.Field{zap.Int("status", e.StatusCode), zap.String("err_id", e.ID), zap.String("err_trace", e.Trace)}
}

// write writes the line about a request in place of Caddy if it would hold a
// secret.
func (l *accessLogs) write(w http.ResponseWriter, seen *logged, err error) {
	header, secret := withoutSecretsIn(w.Header(), "Location", "Content-Location", "Refresh")
	if !secret && !seen.secret {
		return
	}
	wanted, answer := seen.wanted(), recorderOf(w)
	caddyhttp.SetVar(seen.request.Context(), caddyhttp.LogSkipVar, true)
	if !wanted || answer == nil {
		return
	}
	status := answer.Status()
	if err != nil && status == 0 {
		status, _, _ = errorFields(err)
	}
	fields := []zap.Field{
		seen.requestField(), zap.Int64("bytes_read", seen.body.n.Load()), zap.String("user_id", seen.user()),
		zap.Duration("duration", seen.duration()), zap.Int("size", answer.Size()), zap.Int("status", status),
		zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: header, ShouldLogCredentials: seen.credentials()}),
	}
	if id, ok := seen.variable("uuid").(fmt.Stringer); ok {
		fields = append(fields, zap.Stringer("uuid", id))
	}
	for _, logger := range seen.loggers(l.access) {
		logger.Log(seen.level(status), seen.message(), fields...)
	}
}

// recorderOf returns what Caddy writes a line by: of several recorders the one that
// is nearest to the connection. It is nil when Caddy writes none.
func recorderOf(w http.ResponseWriter) caddyhttp.ResponseRecorder {
	var found caddyhttp.ResponseRecorder
	for w != nil {
		if r, ok := w.(caddyhttp.ResponseRecorder); ok {
			found = r
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = inner.Unwrap()
	}
	return found
}

// The rest is what Caddy decides by when it writes a line itself.

func (s *logged) variable(name string) any { return caddyhttp.GetVar(s.request.Context(), name) }

func (s *logged) credentials() bool {
	return s.server.Logs != nil && s.server.Logs.ShouldLogCredentials
}

func (s *logged) requestField() zap.Field {
	return zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: s.request, ShouldLogCredentials: s.credentials()})
}

// wanted reports whether Caddy would write a line about the request.
func (s *logged) wanted() bool {
	logs := s.server.Logs
	if skip, ok := s.variable(caddyhttp.LogSkipVar).(bool); logs == nil || ok && skip {
		return false
	}
	names := s.hostNames()
	if slices.ContainsFunc(names, func(name string) bool { _, ok := logs.LoggerNames[name]; return ok }) {
		return true
	}
	skipped := slices.ContainsFunc(logs.SkipHosts, func(host string) bool { return slices.Contains(names, strings.ToLower(host)) })
	return !skipped && !logs.SkipUnmappedHosts
}

// loggers are those that the configuration names for the request.
func (s *logged) loggers(logger *zap.Logger) []*zap.Logger {
	if s.server.Logs == nil {
		return []*zap.Logger{logger}
	}
	var out []*zap.Logger
	if chosen, ok := s.variable(caddyhttp.AccessLoggerNameVarKey).([]any); ok {
		for _, name := range chosen {
			text, _ := name.(string)
			out = append(out, logger.Named(text))
		}
		return out
	}
	for _, host := range s.hostNames() {
		if names, ok := s.server.Logs.LoggerNames[host]; ok {
			for _, name := range names {
				out = append(out, logger.Named(name))
			}
			return out
		}
	}
	return []*zap.Logger{logger.Named(s.server.Logs.DefaultLoggerName)}
}

// hostNames are the names by which the configuration of logs may know the host of
// the request, the nearest first: itself, and itself with more and more stars.
func (s *logged) hostNames() []string {
	host, _, err := net.SplitHostPort(s.request.Host)
	if err != nil {
		host = strings.Trim(s.request.Host, "[]")
	}
	host = strings.ToLower(host)
	names, labels := []string{host}, strings.Split(host, ".")
	for i := range labels {
		if labels[i] != "" {
			labels[i] = "*"
			names = append(names, strings.Join(labels, "."))
		}
	}
	return names
}

func (s *logged) level(status int) zapcore.Level {
	if name, ok := s.variable(caddyhttp.LogLevelVar).(string); ok {
		if level, err := zapcore.ParseLevel(name); err == nil && level >= zapcore.DebugLevel && level <= zapcore.ErrorLevel {
			return level
		}
	}
	if status >= http.StatusInternalServerError {
		return zapcore.ErrorLevel
	}
	return zapcore.InfoLevel
}

func (s *logged) message() string {
	if unhandled, ok := s.variable("unhandled").(bool); ok && unhandled {
		return "NOP"
	}
	return "handled request"
}

func (s *logged) user() string {
	repl, ok := s.request.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	user, _ := repl.GetString("http.auth.user.id")
	return user
}

func (s *logged) duration() time.Duration {
	start, ok := s.variable("start_time").(time.Time)
	if !ok {
		return 0
	}
	return time.Since(start)
}
