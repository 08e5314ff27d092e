package agent

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// trouble is what does not go through at present, kept so that it is logged
// when it begins, when it changes and when it ends, and not on every try.
type trouble struct {
	haproxy string            // the error of the last read
	steps   map[string]string // by backend/server and kind: the error
	retry   backoff
}

func (t *trouble) step(log hclog.Logger, s plan.Step, err error) {
	key := s.Backend + "/" + s.Server + " " + string(s.Kind)
	if t.steps[key] == err.Error() {
		return
	}
	if t.steps == nil {
		t.steps = map[string]string{}
	}
	t.steps[key] = err.Error()
	log.Warn("server "+string(s.Kind)+" failed, will be tried again", "backend", s.Backend, "server", s.Server, "reason", s.Reason, "error", oneLine(err))
}

// oneLine joins the lines of an error that has several: a log line is a line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// resolved ends all trouble with steps.
func (t *trouble) resolved(log hclog.Logger) {
	if len(t.steps) > 0 {
		log.Info("all changes are applied")
	}
	t.steps = nil
	t.retry = backoff{}
}

// backoff gives growing waits with full jitter, from 100 ms up to 10 s on
// average half of that.
type backoff struct{ n int }

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 10 * time.Second
)

func (b *backoff) next() time.Duration {
	ceiling := min(backoffMin<<min(b.n, 10), backoffMax)
	b.n++
	return backoffMin/2 + rand.N(ceiling) // jitter needs no secrecy
}
