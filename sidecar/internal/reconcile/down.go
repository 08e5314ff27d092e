package reconcile

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// downAfter is how long HAProxy's check of a server does not pass before that is
// logged. A program that starts takes a moment.
const downAfter = 10 * time.Second

// noteDown logs the servers that should take traffic and that HAProxy's check has
// down, once each, and those that are up again.
func (a *Agent) noteDown(p plan.Plan) {
	down := map[[2]string]bool{}
	for _, w := range p.Waiting {
		at := [2]string{w.Backend, w.Server}
		if w.For != plan.ForCheck || w.Down < downAfter {
			continue
		}
		down[at] = true
		if a.down[at] {
			continue
		}
		args := []any{"backend", w.Backend, "server", w.Server, "down_for", w.Down}
		if w.Instance != "" && w.Instance != w.Server {
			args = append(args, "instance", catalog.Printable(w.Instance))
		}
		a.log.Warn("server down", append(args, checkFields(w.Check)...)...)
	}
	for at := range a.down {
		if !down[at] && slices.ContainsFunc(a.known.observed.Backends[at[0]].Servers, func(s plan.Server) bool { return s.Name == at[1] && s.Up && s.Admin == plan.Ready }) {
			a.log.Info("server up", "backend", at[0], "server", at[1])
		}
	}
	a.down = down
}

// checkFields returns a check as fields of a log line.
func checkFields(c plan.Check) []any {
	if c.Status == "" {
		return []any{"check", "none has ended yet"}
	}
	fields := []any{"check", c.Status}
	if c.Code > 0 {
		fields = append(fields, "code", c.Code)
		if c.Path != "" {
			fields = append(fields, "url", c.Path)
		}
	}
	if c.Words != "" {
		fields = append(fields, "words", c.Words)
	}
	return fields
}

// wasUp reports whether a server has served at its address, as far as the state
// that was last published tells: it is down then, and does not start.
func (s shown) wasUp(name, addr string) bool {
	was := s.find(name, addr)
	return was != nil && (was.Phase == PhaseUp || was.Phase == PhaseDown)
}

// remake has the state of a backend's service made again. What it was tells who was up.
func (a *Agent) remake(backend string) {
	was := a.shown[backend]
	was.decision = nil
	a.shown[backend] = was
}
