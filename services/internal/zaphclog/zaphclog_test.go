package zaphclog_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pointsman/pointsman/services/internal/zaphclog"
)

func TestEntriesArriveInZapWithNameLevelAndFields(t *testing.T) {
	core, seen := observer.New(zapcore.DebugLevel)
	logger := zaphclog.New(zap.New(core)).Named("registrator").With("service", "api")

	logger.Trace("looked")
	logger.Warn("lost", "error", errors.New("refused"), "share", hclog.Fmt("%d of %d", 1, 2), "odd")

	type entry struct {
		Name, Level, Message string
		Fields               map[string]any
	}
	var got []entry
	for _, e := range seen.All() {
		got = append(got, entry{e.LoggerName, e.Level.String(), e.Message, e.ContextMap()})
	}
	want := []entry{
		{"registrator", "debug", "looked", map[string]any{"service": "api"}},
		{"registrator", "warn", "lost", map[string]any{"service": "api", "error": "refused", "share": "1 of 2", hclog.MissingKey: "odd"}},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("entries (-got +want):\n%s", diff)
	}
}

func TestLevelIsThatOfZap(t *testing.T) {
	core, seen := observer.New(zapcore.WarnLevel)
	logger := zaphclog.New(zap.New(core))

	logger.Info("nothing of note")

	if got := seen.Len(); got != 0 {
		t.Errorf("entries below zap's level: got %d, want 0", got)
	}
	if logger.IsInfo() || !logger.IsWarn() {
		t.Errorf("IsInfo, IsWarn: got %t, %t, want false, true", logger.IsInfo(), logger.IsWarn())
	}
}

func TestNilZapLogsNowhere(*testing.T) {
	zaphclog.New(nil).Error("into the void")
}
