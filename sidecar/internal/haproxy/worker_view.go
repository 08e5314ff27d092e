package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// asker sends one line of commands to one worker.
type asker func(ctx context.Context, commands []string) (string, error)

// serverView is one server as both tables show it.
type serverView struct {
	*serverState
	*serverStat
}

// workerView is what one worker runs.
type workerView struct {
	info     info
	env      string                  // the reply to `show env POINTSMAN_MARK`
	backends map[string][]serverView // absent: the worker has no such backend

	unpublished map[string]bool // by backend
}

// errReloaded: the lines of one reading were answered by different workers.
var errReloaded = errors.New("HAProxy reloaded during the read")

// readWorker reads the backends of one worker in as few lines as they fit.
func readWorker(ctx context.Context, ask asker, backends []string, limit int) (workerView, error) {
	if len(backends) < wholeFrom {
		return readEach(ctx, ask, backends, limit)
	}
	view, err := readWhole(ctx, ask, backends)
	if err != nil {
		return workerView{}, err
	}
	// A backend without servers is in neither table. Others have changed meanwhile.
	missing := slices.DeleteFunc(slices.Clone(backends), func(name string) bool { return view.backends[name] != nil })
	if len(missing) == 0 {
		return view, nil
	}
	rest, err := readEach(ctx, ask, missing, limit)
	switch {
	case err != nil:
		return workerView{}, err
	case rest.info.pid != view.info.pid:
		return workerView{}, errReloaded
	}
	maps.Copy(view.backends, rest.backends)
	maps.Copy(view.unpublished, rest.unpublished)
	return view, nil
}

// readEach asks for each backend.
func readEach(ctx context.Context, ask asker, backends []string, limit int) (workerView, error) {
	view := workerView{backends: make(map[string][]serverView, len(backends)), unpublished: map[string]bool{}}
	for first := true; first || len(backends) > 0; first = false {
		commands, taken := showCommands(backends, limit)
		text, err := ask(ctx, commands)
		if err != nil {
			return workerView{}, err
		}
		replies, err := eachReply(text, len(commands))
		if err != nil {
			return workerView{}, err
		}
		if err := view.readHead(replies, first); err != nil {
			return workerView{}, err
		}
		for i, backend := range backends[:taken] {
			of := replies[headCommands+2*i:]
			if err := view.readBackend(ctx, ask, backend, of[0], of[1]); err != nil {
				return workerView{}, fmt.Errorf("backend %s: %w", backend, err)
			}
		}
		backends = backends[taken:]
	}
	return view, nil
}

// wholeFrom is from how many backends on one reading of all of them costs less than
// one of each: HAProxy looks each of them up in the list of all.
const wholeFrom = 20

// wholeStat reads the counters of all backends. Of replies to a line with it, only the
// columns are kept that are used: there are 4 MB of them for 10,000 servers.
const wholeStat = "show stat -1 " + withBackends + " -1"

// readWhole reads all backends of a worker with two commands, and keeps those that
// are asked for.
func readWhole(ctx context.Context, ask asker, backends []string) (workerView, error) {
	commands := []string{"show info", "show env " + plan.MarkerVariable, "show servers state", wholeStat}
	text, err := ask(ctx, commands)
	if err != nil {
		return workerView{}, err
	}
	replies, err := eachReply(text, len(commands))
	if err != nil {
		return workerView{}, err
	}
	view := workerView{backends: make(map[string][]serverView, len(backends)), unpublished: map[string]bool{}}
	if err := view.readHead(replies, true); err != nil {
		return workerView{}, err
	}
	states, _, err := parseServersState(replies[2])
	if err != nil {
		return workerView{}, err
	}
	stats, err := parseStat(replies[3])
	if err != nil {
		return workerView{}, err
	}
	wanted := make(map[string]string, len(backends)) // the same names: those of the reply keep all of it
	for _, name := range backends {
		wanted[name] = name
	}
	for len(states) > 0 {
		name, n := states[0].backend, 1
		for n < len(states) && states[n].backendID == states[0].backendID {
			n++
		}
		if name, found := wanted[name]; found {
			// One that has lost a server between the two tables is read by itself.
			if servers, whole := join(states[:n], &stats); whole {
				view.backends[name] = servers
				view.noteUnpublished(name, stats)
			}
		}
		states = states[n:]
	}
	return view, nil
}

var errChanged = errors.New("servers changed during the read")

// headCommands is how many commands of a line come before the backends'.
const headCommands = 2

// showCommands returns a line that reads the first of the backends, and how many
// of them that are. Each line asks again who answers it.
func showCommands(backends []string, limit int) (commands []string, taken int) {
	commands = []string{"show info", "show env " + plan.MarkerVariable}
	bytes := 0
	for _, backend := range backends {
		pair := []string{"show servers state " + backend, "show stat " + backend + " " + withBackends + " -1"}
		bytes += len(pair[0]) + len(pair[1]) + 2*perCommand
		if taken > 0 && (bytes > maxLine-maxHead || len(commands)+len(pair) > limit) {
			break
		}
		commands = append(commands, pair...)
		taken++
	}
	return commands, taken
}

// maxHead is more than the bytes of the head commands.
const maxHead = 100

func (v *workerView) readHead(replies []string, first bool) error {
	i, err := parseInfo(replies[0])
	if err != nil {
		return err
	}
	if !first && i.pid != v.info.pid {
		return errReloaded
	}
	// What is kept of the head must not keep the whole reply.
	i.version = strings.Clone(i.version)
	v.info, v.env = i, strings.Clone(replies[1])
	return nil
}

func (v *workerView) readBackend(ctx context.Context, ask asker, backend, stateReply, statReply string) error {
	states, found, err := parseServersState(stateReply)
	if err != nil || !found {
		return err
	}
	stats, err := parseStat(statReply)
	if err != nil {
		return err
	}
	servers, whole := join(states, &stats)
	if !whole {
		// `show stat` takes the first proxy of a name, which may be a frontend.
		if stats, err = statByID(ctx, ask, states[0].backendID); err != nil {
			return err
		}
		if servers, whole = join(states, &stats); !whole {
			return errChanged
		}
	}
	v.backends[backend] = servers
	v.noteUnpublished(backend, stats)
	return nil
}

func (v *workerView) noteUnpublished(backend string, stats statTable) {
	if stats.unpublished[backend] {
		v.unpublished[backend] = true
	}
}

func statByID(ctx context.Context, ask asker, backendID int) (statTable, error) {
	text, err := ask(ctx, []string{"show stat " + strconv.Itoa(backendID) + " " + withBackends + " -1"})
	if err != nil {
		return statTable{}, err
	}
	replies, err := eachReply(text, 1)
	if err != nil {
		return statTable{}, err
	}
	return parseStat(replies[0])
}

// join brings the two tables together by the servers' names, which are unique
// in a backend.
func join(states []serverState, stats *statTable) (servers []serverView, whole bool) {
	servers = make([]serverView, 0, len(states))
	for i := range states {
		stat := stats.find(states[i].backend, states[i].name)
		if stat == nil {
			return nil, false
		}
		servers = append(servers, serverView{&states[i], stat})
	}
	return servers, true
}
