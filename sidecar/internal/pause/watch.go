package pause

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// Watch makes pauses of what is read of Consul. One goroutine calls Take.
type Watch struct {
	Log hclog.Logger
	Now func() time.Time
	// Changed gets the pauses by service, also those that are over. While the documents
	// cannot be read it gets the last known ones, nil before the first answer, and why.
	Changed func(pauses map[string]catalog.Pause, err error)

	known  map[string]read // by service; nil: nothing was read yet
	failed error
}

// read is one document as it was read.
type read struct {
	index uint64
	text  string
	pause catalog.Pause
}

// maxSkew is how far the clock of who writes a document may be ahead of this one.
const maxSkew = time.Minute

// Take takes an answer of consul.KV.Follow.
func (w *Watch) Take(entries []consul.Entry, err error) {
	switch {
	case err != nil && w.failed == nil:
		w.Log.Warn("pauses cannot be read, keeping last known", "error", err)
	case err == nil && w.failed != nil:
		w.Log.Info("pauses read again", "was", w.failed)
	}
	if w.failed = err; err == nil {
		known := make(map[string]read, len(entries))
		for _, e := range entries {
			if service := Prefix.Service(e.Key); service != "" {
				known[service] = w.judge(service, e)
			}
		}
		w.known = known
	}
	w.Changed(w.pauses(), err)
}

// judge takes a document, or keeps the last good one.
func (w *Watch) judge(service string, e consul.Entry) read {
	// Another document may have the same index once Consul's data were restored.
	was := w.known[service]
	if was.index == e.Index && was.text == string(e.Value) {
		return was
	}
	d, err := Parse(service, e.Value)
	if ahead := MaxHold + maxSkew; err == nil && d.Until.Sub(w.Now()) > ahead {
		err = fmt.Errorf("key %s: until: %s, more than %s ahead: the clocks differ", catalog.Printable(e.Key), d.Until.Format(time.RFC3339), ahead)
	}
	if err != nil {
		w.Log.Warn("invalid pause ignored", "service", catalog.Printable(service), "error", err)
		was.pause.Refused = err.Error()
		return read{e.Index, string(e.Value), was.pause}
	}
	return read{e.Index, string(e.Value), catalog.Pause{Until: d.Until, ModifiedBy: d.ModifiedBy, ModifiedAt: d.ModifiedAt, Reason: d.Reason}}
}

func (w *Watch) pauses() map[string]catalog.Pause {
	if w.known == nil {
		return nil
	}
	out := make(map[string]catalog.Pause, len(w.known))
	for service, r := range w.known {
		out[service] = r.pause
	}
	return out
}
