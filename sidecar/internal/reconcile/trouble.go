package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// trouble is what does not go through at present, kept so that it is logged
// when it begins, when it changes and when it ends, and not on every try.
type trouble struct {
	haproxy string             // the error of the last read
	steps   map[string]string  // by backend/server and kind: the error
	logged  map[plan.Step]bool // that HAProxy took, whether or not it shows them yet

	stuck map[plan.Step]bool // that do not go through, and wait
	until time.Time          // when it ends
	retry backoff
}

// due leaves out the steps that must wait before they are tried again. The
// others need not wait with them.
func (t *trouble) due(steps []plan.Step) []plan.Step {
	if t.wait() <= 0 {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool { return t.stuck[s] })
}

// stick makes steps wait that are left at the end of a pass. Those that come to
// others that wait already are tried again with them.
func (t *trouble) stick(steps []plan.Step, jitter func(time.Duration) time.Duration) {
	if len(steps) == 0 {
		return
	}
	if t.wait() <= 0 {
		t.until = time.Now().Add(t.retry.next(jitter))
	}
	t.stuck = make(map[plan.Step]bool, len(steps))
	for _, s := range steps {
		t.stuck[s] = true
	}
}

// wait is how long the steps that are stuck still wait, if any is.
func (t *trouble) wait() time.Duration { return time.Until(t.until) }

// taken notes that HAProxy took a step, and reports whether that is news: one
// that does not show is sent again.
func (t *trouble) taken(s plan.Step) (news bool) {
	if t.logged[s] {
		return false
	}
	if t.logged == nil {
		t.logged = map[plan.Step]bool{}
	}
	t.logged[s] = true
	return true
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
	what, args := string(s.Kind), []any{"backend", s.Backend, "reason", s.Reason, "error", oneLine(err)}
	if s.Server != "" { // else it is a step of the backend
		what, args = "server "+what, append(args, "server", s.Server)
	}
	log.Warn(what+" failed, will be tried again", args...)
}

// oneLine joins the lines of an error that has several: a log line is a line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// resolved ends all trouble with steps.
func (t *trouble) resolved(log hclog.Logger) {
	if len(t.steps) > 0 {
		log.Info("all changes applied")
	}
	*t = trouble{haproxy: t.haproxy}
}

// backoff gives growing waits with full jitter, from 100 ms up to 10 s on
// average half of that.
type backoff struct{ n int }

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 10 * time.Second
)

func (b *backoff) next(jitter func(bound time.Duration) time.Duration) time.Duration {
	ceiling := min(backoffMin<<min(b.n, 10), backoffMax)
	b.n++
	return backoffMin/2 + jitter(ceiling)
}
