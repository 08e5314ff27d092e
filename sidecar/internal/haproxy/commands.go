package haproxy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// stage is the commands of one step that go out together. A step's next stage
// is sent only once this one was taken.
type stage struct {
	commands []command
	// alone: on a connection of its own, because the replies may miss the
	// empty line that ends them (2.6), or because it waits.
	alone bool
}

// manner is how a process wants its commands.
type manner struct {
	// dynamic: `wait … srv-removable` is there, and all replies end well.
	dynamic bool
	// drainKeepsClock: srv_time_since_last_change goes on through a drain.
	drainKeepsClock bool
}

// drainClockUntil is the first release that may not restart
// srv_time_since_last_change with a drain: 2.6 does, 3.0 to 3.4 do not.
var drainClockUntil = release{2, 7}

func mannerOf(caps plan.Capabilities) manner {
	return manner{dynamic: caps.Dynamic, drainKeepsClock: releaseOf(caps.Version).atLeast(drainClockUntil)}
}

// stagesOf returns the commands of a step, or why it must not be sent. up is
// whether the server was last seen up.
func stagesOf(s plan.Step, m manner, up bool) ([]stage, error) {
	if err := checkStep(s); err != nil {
		return nil, err
	}
	at := s.Backend + "/" + s.Server
	set := func(what, value string) command {
		return command{name: "set server " + at + " " + what, text: "set server " + at + " " + what + " " + value, check: silent}
	}
	switch s.Kind {
	case plan.Add:
		return []stage{{[]command{addServer(s)}, !m.dynamic}, {readyCommands(s, at, set), false}}, nil
	case plan.Delete:
		return deleteStages(at, m.dynamic), nil
	case plan.SetReady:
		commands := readyCommands(s, at, set)
		if s.Addr.IsValid() && !m.dynamic {
			// HAProxy may have been reloaded since it was read, and the server has the
			// address of the file then. All commands of a line go to one worker.
			commands = append([]command{setAddr(s, set)}, commands...)
		}
		return one(commands...), nil
	case plan.SetDrain:
		return one(quietly(s, at, drainCommands(m, up, set)...)...), nil
	case plan.SetMaint:
		return one(quietly(s, at, set("state", "maint"))...), nil
	case plan.SetWeight:
		return one(quietly(s, at, setWeight(s, set))...), nil
	case plan.SetMaxConn:
		name := "set maxconn server " + at
		return one(command{name: name, text: name + " " + strconv.Itoa(s.MaxConn), check: silent}), nil
	case plan.SetAddr:
		return one(setAddr(s, set)), nil
	case plan.EnableHealth:
		return one(simple("enable health", at)), nil
	case plan.EnableAgent:
		commands := enableAgent(s, at, set)
		if s.Prove { // `agent up` makes it up, whatever its check says
			commands = append(commands, set("health", "down"))
		}
		return one(commands...), nil
	case plan.DisableAgent:
		return one(simple("disable agent", at)), nil
	case plan.Shutdown:
		if s.Sessions > 0 { // Client.shutdownSome ends them, one by one
			return nil, nil
		}
		shutdown := simple("shutdown sessions server", at)
		shutdown.again = true
		return one(shutdown), nil
	case plan.AddBackend:
		name := "add backend " + s.Backend
		return one(command{name: name, text: name + " from " + s.Defaults + " mode " + s.Mode, check: backendTaken("New backend registered.")}), nil
	case plan.PublishBackend:
		return one(ofBackend("publish backend", s, "Backend published.")), nil
	case plan.UnpublishBackend:
		return one(ofBackend("unpublish backend", s, "Backend unpublished.")), nil
	case plan.DeleteBackend:
		wait := command{name: "wait be-removable " + s.Backend, text: "wait " + removableWait + " be-removable " + s.Backend, check: waited, waits: true}
		return []stage{{[]command{wait, ofBackend("del backend", s, "Backend deleted.")}, true}}, nil
	}
	return nil, fmt.Errorf("step kind %q: unknown", s.Kind)
}

func one(commands ...command) []stage { return []stage{{commands, false}} }

// simple is a command that has no value, and no answer when all is well.
func simple(name, at string) command {
	return command{name: name + " " + at, text: name + " " + at, check: silent}
}

// ofBackend is a command about a backend, which answers so if all is well.
func ofBackend(name string, s plan.Step, answer string) command {
	return command{name: name + " " + s.Backend, text: name + " " + s.Backend, check: backendTaken(answer)}
}

func setAddr(s plan.Step, set func(what, value string) command) command {
	c := set("addr", fmt.Sprintf("%s port %d", s.Addr.Addr(), s.Addr.Port()))
	c.check = addrTaken
	return c
}

func setWeight(s plan.Step, set func(what, value string) command) command {
	value := strconv.Itoa(s.Weight)
	if s.Percent {
		value += "%"
	}
	c := set("weight", value)
	c.check = weightTaken
	return c
}

// enableAgent returns weight and state to the agent, from where a server of the
// file has them at its start: the whole weight, and up until the agent says
// otherwise. On 2.6 and 3.0 a server added at runtime is down until its agent
// says `up`, which not every agent does. HAProxy takes a port only for an agent
// that is enabled.
func enableAgent(s plan.Step, at string, set func(what, value string) command) []command {
	commands := []command{set("weight", "100%"), simple("enable agent", at)}
	if s.AgentPort > 0 {
		commands = append(commands, set("agent-port", strconv.Itoa(s.AgentPort)))
	}
	return append(commands, set("agent", "up"))
}

// quietly disables the agent first, which could undo the commands.
func quietly(s plan.Step, at string, commands ...command) []command {
	if s.Agent {
		return append([]command{simple("disable agent", at)}, commands...)
	}
	return commands
}

// readyCommands lets traffic in. To be proved the server must start down, and
// for that it must be ready before its health is set: the other way round, and
// without any of it, HAProxy takes it for up before the first check
// (docs/haproxy-facts.md, fact 16).
func readyCommands(s plan.Step, at string, set func(what, value string) command) (commands []command) {
	if s.Prove {
		commands = append(commands, simple("enable health", at))
	}
	commands = append(commands, set("state", "ready"))
	if s.Agent {
		commands = append(commands, enableAgent(s, at, set)...)
	}
	if s.Prove {
		commands = append(commands, set("health", "down"))
	}
	return commands
}

// drainCommands ends new sessions. Since when a server drains is read from
// HAProxy (plan.Server.SinceChange), and after 2.6 its clock does not restart
// with a drain, only with a change of health: so the health of a server that
// was up goes to "stopping" and back. Seen on 3.0, 3.2 and 3.4: requests under
// way are not touched, not even with `on-marked-down shutdown-sessions`. The
// clock of a server that was down goes on; it has been without new sessions
// since.
func drainCommands(m manner, up bool, set func(what, value string) command) []command {
	commands := []command{set("state", "drain")}
	if !m.drainKeepsClock || !up {
		return commands
	}
	for _, health := range []string{"stopping", "up"} {
		c := set("health", health)
		c.check = healthOrTracked
		commands = append(commands, c)
	}
	return commands
}

func addServer(s plan.Step) command {
	name := "add server " + s.Backend + "/" + s.Server
	words := []string{name, s.Addr.String()}
	words = append(words, strings.Fields(s.Options)...)
	words = append(words, "weight", strconv.Itoa(s.Weight))
	if s.MaxConn > 0 {
		words = append(words, "maxconn", strconv.Itoa(s.MaxConn))
	}
	if s.Backup {
		words = append(words, "backup")
	}
	return command{name: name, text: strings.Join(words, " "), check: registered}
}

// removableWait is how long HAProxy is given to close the connections that a
// server in maint still has. It does so at once except for those in use.
const removableWait = "500ms"

func deleteStages(at string, dynamic bool) []stage {
	del := command{name: "del server " + at, text: "del server " + at, check: deleted}
	if !dynamic {
		return []stage{{[]command{del}, true}}
	}
	wait := command{
		name: "wait srv-removable " + at, text: "wait " + removableWait + " srv-removable " + at,
		check: waited, waits: true,
	}
	return []stage{{[]command{wait, del}, true}}
}

// checkStep refuses what must not reach HAProxy, though the package that planned it has
// checked it too: HAProxy itself truncates a port above 65535 and takes
// whatever follows a ';' for another command.
func checkStep(s plan.Step) error {
	if err := checkName("backend", s.Backend); err != nil {
		return err
	}
	if isOfBackend(s.Kind) {
		return checkOfBackend(s)
	}
	if err := checkName("server", s.Server); err != nil {
		return err
	}
	needsAddr := s.Kind == plan.Add || s.Kind == plan.SetAddr
	if needsAddr && (!s.Addr.IsValid() || s.Addr.Port() == 0 || s.Addr.Addr().Zone() != "") {
		return fmt.Errorf("address %q: not an address with a port", s.Addr)
	}
	if s.Weight < 0 || s.Weight > maxWeight {
		return fmt.Errorf("weight %d: not in 0 to %d", s.Weight, maxWeight)
	}
	if s.MaxConn < 0 {
		return fmt.Errorf("maxconn %d: less than 0", s.MaxConn)
	}
	if s.AgentPort < 0 || s.AgentPort > 65535 {
		return fmt.Errorf("agent port %d: not in 0 to 65535", s.AgentPort)
	}
	return checkOptions(s.Options)
}

func isOfBackend(k plan.Kind) bool {
	switch k {
	case plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
		return true
	case plan.Add, plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.SetWeight, plan.SetMaxConn, plan.SetAddr, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.Shutdown:
	}
	return false
}

func checkOfBackend(s plan.Step) error {
	if s.Kind != plan.AddBackend {
		return nil
	}
	if s.Mode != "http" && s.Mode != "tcp" {
		return fmt.Errorf("mode %q: not http or tcp", s.Mode)
	}
	return checkName("defaults", s.Defaults)
}
