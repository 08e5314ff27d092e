package command

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pointsman/pointsman/internal/envflag"
)

// Log holds the settings of a program's log.
type Log struct {
	Format string // json or console
	Level  string // debug, info, warn or error
}

// Flags adds the log's flags to the set.
func (l *Log) Flags(flags *pflag.FlagSet) {
	flags.StringVar(&l.Format, "log-format", "json", "`format` of the log: json or console")
	flags.StringVar(&l.Level, "log-level", "info", "minimum `level` of log messages: debug, info, warn or error")
}

// New checks the settings and gives the logger that writes to w. An error
// names each bad flag, its environment variable and its value.
func (l *Log) New(prefix string, flags *pflag.FlagSet, w io.Writer) (*zap.Logger, error) {
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoding.EncodeDuration = zapcore.StringDurationEncoder

	var encoder zapcore.Encoder
	var errs []error
	switch l.Format {
	case "json":
		encoder = zapcore.NewJSONEncoder(encoding)
	case "console":
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(encoding)
	default:
		errs = append(errs, fmt.Errorf("%s: %q is neither json nor console", envflag.Name(prefix, flags, "log-format"), l.Format))
	}
	level, err := zapcore.ParseLevel(l.Level)
	if err != nil || level < zapcore.DebugLevel || level > zapcore.ErrorLevel {
		errs = append(errs, fmt.Errorf("%s: %q is none of debug, info, warn, error", envflag.Name(prefix, flags, "log-level"), l.Level))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}
