package haproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Observe reads what the current worker runs in these backends, and how many
// sessions the old workers still have on the servers that are not ready. An
// error that wraps plan.ErrNotRunning means that no process answers.
//
// Sessions in old workers need a master socket. Without one only the current
// worker's are counted; where there is one and it cannot tell, every server
// that is not ready is given at least one session: unknown is not zero.
func (c *Client) Observe(ctx context.Context, backends []string) (plan.Observed, error) {
	observed, err := c.observe(ctx, backends)
	if errors.Is(err, errReloaded) {
		observed, err = c.observe(ctx, backends)
	}
	c.onCommand("observe", err != nil)
	if err != nil {
		return plan.Observed{}, err
	}
	return observed, nil
}

func (c *Client) observe(ctx context.Context, backends []string) (plan.Observed, error) {
	for _, backend := range backends {
		if err := checkName("backend", backend); err != nil {
			return plan.Observed{}, fmt.Errorf("haproxy: observe: %w", err)
		}
	}
	view, err := readWorker(ctx, repeated(c.ask), backends, c.commandLimit())
	if err != nil {
		return plan.Observed{}, fmt.Errorf("haproxy: observe: %w", err)
	}
	c.learn(view.info)

	observed := plan.Observed{
		Running:  true,
		Caps:     capabilities(view.info.version),
		PID:      view.info.pid,
		Marker:   markerFrom(view.env),
		Backends: make(map[string]plan.Backend, len(view.backends)),
	}
	for name, servers := range view.backends {
		observed.Backends[name] = plan.Backend{Servers: planServers(servers), Unpublished: view.unpublished[name]}
	}
	c.noteUp(observed)
	c.completeChecks(observed)
	c.addOldSessions(ctx, observed)
	return observed, nil
}

func planServers(views []serverView) []plan.Server {
	servers := make([]plan.Server, 0, len(views))
	for _, v := range views {
		servers = append(servers, v.plan())
	}
	slices.SortFunc(servers, func(a, b plan.Server) int { return cmp.Compare(a.ID, b.ID) })
	return servers
}

// plan returns the server in the plan's words.
func (v serverView) plan() plan.Server {
	s := plan.Server{
		ID:           v.id,
		Name:         strings.Clone(v.serverState.name), // else it keeps the whole reply
		Addr:         v.addr,
		Admin:        v.adminState(),
		Up:           v.op == opRunning || v.op == opStarting,
		Weight:       v.weight,
		ConfigWeight: v.config,
		MaxConn:      v.maxConn,
		Backup:       v.backup,
		Checked:      v.check&checkOn == checkOn,
		NoCheck:      v.check&checkConfigured == 0,
		Agent:        v.agentState(),
		AgentPort:    v.agentPort,
		FileDisabled: v.admin&adminFileMaint != 0,
		SinceChange:  v.sinceChange,
		Sessions:     v.sessions + v.queued,
	}
	if s.Agent == plan.NoAgent {
		s.AgentPort = 0
	}
	if !s.Up && s.Admin == plan.Ready {
		s.Check = v.last
	}
	return s
}

func (s serverState) agentState() plan.Agent {
	switch {
	case s.agent&checkConfigured == 0:
		return plan.NoAgent
	case s.agent&checkEnabled != 0:
		return plan.AgentOn
	case s.agent&checkInProgress != 0:
		return plan.AgentBusy
	}
	return plan.AgentOff
}

// adminState: maint wins where both are set, as it does in HAProxy.
func (s serverState) adminState() plan.Admin {
	switch {
	case s.admin&adminMaint != 0:
		return plan.Maint
	case s.admin&adminDrain != 0:
		return plan.Drain
	}
	return plan.Ready
}

// commandLimit is how many commands one line may have.
func (c *Client) commandLimit() int {
	if caps, known := c.known(); known && caps.Dynamic {
		return maxCommands
	}
	return maxCommandsOld
}
