package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/event"
)

func TestEvents_Printed_OneLineEachOfTheService(t *testing.T) {
	all := api.Events{Last: 4, Events: []event.Event{
		{Seq: 1, At: noon, Kind: event.ServerUp, Service: "api", Backend: "b_api", Server: "slot-1", Instance: "api-1"},
		{Seq: 2, At: noon, Kind: event.ServerUp, Service: "mail", Backend: "mail", Server: "m\x1b[2J", Instance: "m\x1b[2J"},
		{Seq: 3, At: noon, Kind: event.ReloadDone, Reason: "service_added"},
		{Seq: 4, At: noon, Kind: event.ServerDraining, Service: "api", Backend: "b_api", Server: "api-1", Instance: "api-1", Reason: "leaving"},
	}}
	for name, c := range map[string]struct {
		service string
		limit   int
		json    bool
		want    string
	}{
		"all":        {"", 9, false, "2026-11-29T12:00:00Z  b_api/api-1 (slot-1) server up\n2026-11-29T12:00:00Z  mail/m·[2J server up\n2026-11-29T12:00:00Z  reload done: service added\n2026-11-29T12:00:00Z  b_api/api-1 server draining: leaving\n"},
		"a service":  {"mail", 9, false, "2026-11-29T12:00:00Z  mail/m·[2J server up\n"},
		"a backend":  {"b_api", 1, false, "2026-11-29T12:00:00Z  b_api/api-1 server draining: leaving\n"},
		"the newest": {"", 1, false, "2026-11-29T12:00:00Z  b_api/api-1 server draining: leaving\n"},
		"as JSON":    {"", 1, true, `{"seq":4,"at":"2026-11-29T12:00:00Z","kind":"server_draining","service":"api","backend":"b_api","server":"api-1","instance":"api-1","reason":"leaving"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := printer(&out, c.service, c.limit, c.json)(all, true); err != nil || out.String() != c.want {
				t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), c.want)
			}
		})
	}
}

// It asks for what comes after the last one, and ends with the sidecar's error.
func TestEvents_Follow_AsksForWhatIsNew(t *testing.T) {
	t.Parallel()
	end := errors.New("gone")
	var asked []uint64
	read := func(after uint64) (api.Events, error) {
		asked = append(asked, after)
		if len(asked) == 3 {
			return api.Events{}, end
		}
		return api.Events{Last: after + 7}, nil
	}
	shown := 0
	err := followEvents(t.Context(), read, func(api.Events, bool) error { shown++; return nil }, true)
	if !errors.Is(err, end) || shown != 2 || len(asked) != 3 || asked[1] != 7 || asked[2] != 14 {
		t.Errorf("got %v, %d shown, asked after %d", err, shown, asked)
	}
}
