package caddymodule

import (
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newRunningLog returns a logger for what outlives configurations. A logger of
// one configuration goes on writing to its files after a reload has closed them,
// and to the levels that were set then.
func newRunningLog() *zap.Logger { return zap.New(runningCore{}).Named("mcp_auth") }

// runningCore hands entries to the logger of the configuration that runs at the
// time of the entry.
type runningCore struct{ fields []zapcore.Field }

func (c runningCore) core() zapcore.Core {
	log := caddy.Log() // while the first configuration starts
	if app, err := runningApp(); err == nil {
		log = app.log
	}
	if len(c.fields) == 0 {
		return log.Core()
	}
	return log.Core().With(c.fields)
}

// Enabled implements zapcore.Core.
func (c runningCore) Enabled(level zapcore.Level) bool { return c.core().Enabled(level) }

// With implements zapcore.Core.
func (c runningCore) With(fields []zapcore.Field) zapcore.Core {
	return runningCore{append(slices.Clip(c.fields), fields...)}
}

// Check implements zapcore.Core. The cores behind add themselves, as several
// logs can have levels and names of their own.
func (c runningCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return c.core().Check(entry, checked)
}

// Write implements zapcore.Core.
func (c runningCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	return c.core().Write(entry, fields)
}

// Sync implements zapcore.Core.
func (c runningCore) Sync() error { return c.core().Sync() }
