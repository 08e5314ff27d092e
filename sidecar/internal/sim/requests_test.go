package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// asked is a reload that an operator has asked a sidecar for.
type asked struct {
	reconcile.ReloadRequest // as it was answered
	at                      time.Duration
}

// askForReloads has an operator ask for reloads in a third of the histories. It draws from
// dice of its own, so that the others are as without it.
func (w *world) askForReloads() {
	dice := rand.New(rand.NewPCG(w.Seed, 1<<50))
	if dice.IntN(3) > 0 {
		return
	}
	var ask func()
	ask = func() {
		if w.healed {
			return
		}
		if s := w.sidecar; s != nil && !s.told && !s.dead {
			s.ask()
		}
		w.after(time.Duration(dice.Int64N(int64(20*time.Second))), ask)
	}
	w.after(time.Duration(dice.Int64N(int64(20*time.Second))), ask)
}

// ask asks for a reload. A loop that is gone does not answer.
func (s *sidecar) ask() {
	at := s.w.now()
	s.asking++
	s.clean, s.need = false, need{}
	s.w.loops.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		q, err := s.agent.RequestReload(ctx, "operator")
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		s.asking--
		s.w.note("an operator asks for a reload: %d, %s", q.Number, orOK(err))
		if err == nil {
			s.asks = append(s.asks, asked{q, at})
		}
		s.need = need{}
	})
}

// isAsked reports whether a reload may come because an operator has asked for it.
func (s *sidecar) isAsked() bool { return s.asking+len(s.asks) > 0 }

// checkRequests: what the state says of a request has come to pass: it was done by a reload
// that began after it, or one has failed since, or HAProxy has stopped.
func (w *world) checkRequests(s *sidecar, st *reconcile.State) {
	open := s.asks[:0]
	for _, a := range s.asks {
		is := a.ReloadRequest
		for _, q := range st.ReloadRequests {
			if q.Number == a.Number {
				is = q
			}
		}
		switch {
		case !is.HasEnded():
			open = append(open, a)
		case is.Status == reconcile.RequestDone && s.reloadBegan < a.at:
			w.breach(reloadReason, "request %d is done, and no reload has begun since %s", a.Number, a.at)
		case is.Status == reconcile.RequestFailed && s.failed < a.at:
			w.breach(reloadReason, "request %d has failed, and nothing has since %s: %s", a.Number, a.at, is.Error)
		}
	}
	if len(open) < len(s.asks) {
		s.need = need{}
	}
	s.asks = open
}
