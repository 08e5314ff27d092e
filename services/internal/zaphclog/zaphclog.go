// Package zaphclog lets a library that logs through hclog log into zap.
//
// Its invariant: every entry that zap's level lets through arrives once, with
// its name and all its key-value pairs. It is for the programs under services/,
// which log with zap and use the registrator, which logs with hclog.
package zaphclog

import (
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New returns a logger whose entries go to z. A nil z gives hclog's null logger.
func New(z *zap.Logger) hclog.Logger {
	if z == nil {
		return hclog.NewNullLogger()
	}
	// The inner logger writes nothing. It is there for the level that IsDebug
	// and its like report, by which libraries save themselves work.
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclogLevel(z.Level())})
	logger.RegisterSink(&sink{z})
	return logger
}

type sink struct{ z *zap.Logger }

// Accept implements hclog.SinkAdapter. hclog serialises the calls.
func (s *sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if entry := s.z.Named(name).Check(zapLevel(level), msg); entry != nil {
		entry.Write(fields(args)...)
	}
}

// fields makes pairs of hclog's flat list. A last value without a key gets
// hclog's own name for that mistake.
func fields(args []any) []zap.Field {
	out := make([]zap.Field, 0, (len(args)+1)/2)
	for i := 0; i < len(args); i += 2 {
		if i+1 == len(args) {
			out = append(out, field(hclog.MissingKey, args[i]))
			break
		}
		key, ok := args[i].(string)
		if !ok {
			key = fmt.Sprint(args[i])
		}
		out = append(out, field(key, args[i+1]))
	}
	return out
}

func field(key string, value any) zap.Field {
	switch v := value.(type) {
	case hclog.Format: // hclog.Fmt("%d of %d", a, b)
		if format, ok := v[0].(string); ok {
			return zap.String(key, fmt.Sprintf(format, v[1:]...))
		}
	case error:
		return zap.NamedError(key, v)
	}
	return zap.Any(key, value)
}

func zapLevel(l hclog.Level) zapcore.Level {
	switch l {
	case hclog.Trace, hclog.Debug:
		return zapcore.DebugLevel
	case hclog.Warn:
		return zapcore.WarnLevel
	case hclog.Error:
		return zapcore.ErrorLevel
	default:
		return zapcore.InfoLevel
	}
}

func hclogLevel(l zapcore.Level) hclog.Level {
	switch {
	case l <= zapcore.DebugLevel:
		return hclog.Trace // zap has nothing below debug, where hclog's trace goes
	case l == zapcore.InfoLevel:
		return hclog.Info
	case l == zapcore.WarnLevel:
		return hclog.Warn
	default:
		return hclog.Error
	}
}
