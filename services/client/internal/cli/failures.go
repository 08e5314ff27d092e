package cli

import (
	"sync"

	"go.uber.org/zap"

	"github.com/pointsman/pointsman/services/client/internal/load"
)

// maxFailuresLogged is how many failures are logged each second. The others
// are counted, here and in the report.
const maxFailuresLogged = 10

// failureLog logs failures, a bounded number each second.
type failureLog struct {
	log *zap.Logger

	mu   sync.Mutex
	seen int // since the second began
}

func (l *failureLog) add(f load.Failure) {
	l.mu.Lock()
	l.seen++
	over := l.seen > maxFailuresLogged
	l.mu.Unlock()
	if over {
		return
	}
	l.log.Warn("request failed",
		zap.String("cause", string(f.Cause)), zap.String("detail", f.Detail),
		zap.String("target", f.Target), zap.String("method", f.Method), zap.String("id", f.ID),
		zap.Bool("fresh", f.Fresh), zap.Time("failed", f.Time), zap.Duration("latency", f.Latency))
}

// second ends the second that is under way.
func (l *failureLog) second() {
	l.mu.Lock()
	more := l.seen - maxFailuresLogged
	l.seen = 0
	l.mu.Unlock()
	if more > 0 {
		l.log.Warn("more requests failed", zap.Int("count", more))
	}
}
