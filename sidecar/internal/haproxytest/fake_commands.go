package haproxytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const unknownCommand = "Unknown command, but maybe one of the following ones is a better match:\n\n"

// runLine executes a line on a worker. Addresses that an earlier line has set
// are in force by now, those of this line are not, if the profile says so.
func (f *Fake) runLine(w *FakeWorker, line string) string {
	w.settle()
	var out strings.Builder
	for command := range strings.SplitSeq(line, ";") {
		command = strings.TrimSpace(command)
		f.log = append(f.log, command)
		out.WriteString(f.run(w, command))
	}
	return out.String()
}

// run executes one command and gives its reply with its ending empty line.
func (f *Fake) run(w *FakeWorker, command string) string {
	words := strings.Fields(command)
	if len(words) < 2 {
		return unknownCommand
	}
	switch words[0] + " " + words[1] {
	case "show info":
		return f.showInfo(w)
	case "show env":
		if w.Marker == "" {
			return "Variable not found\n\n"
		}
		return "POINTSMAN_MARK=" + w.Marker + "\n\n"
	case "show cli":
		return "admin\n\n"
	case "show servers":
		return w.showServersState(words[3:])
	case "show stat":
		return w.showStat(words[2])
	case "add server":
		return f.addServer(w, words[2], words[3:])
	case "del server":
		return f.delServer(w, words[2])
	case "set server":
		backend, _, _ := strings.Cut(words[2], "/")
		static := w.backend(backend) != nil && w.backend(backend).Static
		return f.onServer(w, words[2], func(s *FakeServer) string { return f.setServer(s, static, words[3], words[4:]) })
	case "set maxconn":
		return f.onServer(w, words[3], func(s *FakeServer) string {
			s.MaxConn, _ = strconv.Atoi(words[4])
			return ""
		})
	case "shutdown sessions":
		if w != f.worker {
			return say("Proxy is disabled.")
		}
		return f.onServer(w, words[3], func(s *FakeServer) string {
			s.Sessions, s.Queued = 0, 0
			return ""
		})
	case "show sess":
		return w.showSess()
	case "shutdown session":
		return w.shutdownSession(words[2])
	case "enable health":
		return f.onServer(w, words[2], enableHealth)
	case "enable agent":
		return f.onServer(w, words[2], enableAgent)
	case "disable agent":
		return f.onServer(w, words[2], func(s *FakeServer) string {
			s.AgentOff = true
			return ""
		})
	}
	if words[0] == "wait" && f.profile.Wait {
		return f.wait(w, words[3])
	}
	return unknownCommand
}

func enableHealth(s *FakeServer) string {
	if !s.Check {
		return "Health check was not configured on this server, cannot enable."
	}
	s.CheckOff = false
	return ""
}

func enableAgent(s *FakeServer) string {
	if !s.Agent {
		return "Agent was not configured on this server, cannot enable."
	}
	s.AgentOff = false
	return ""
}

// say ends a reply. An empty one is a line of its own.
func say(text string) string {
	if text == "" {
		return "\n"
	}
	return text + "\n\n"
}

// sayBadly is say for the replies that 2.6.12 ends wrongly.
func (f *Fake) sayBadly(text string) string {
	if f.profile.MissingBlanks {
		return text + "\n"
	}
	return text + "\n\n"
}

func (f *Fake) onServer(w *FakeWorker, path string, do func(*FakeServer) string) string {
	backend, name, _ := strings.Cut(path, "/")
	b := w.backend(backend)
	if b == nil {
		return say("No such backend.")
	}
	s := b.server(name)
	if s == nil {
		return say("No such server.")
	}
	return say(do(s))
}

func (f *Fake) setServer(s *FakeServer, static bool, what string, args []string) string {
	switch what {
	case "state":
		return s.setState(args[0], f.profile.DrainKeepsClock)
	case "weight":
		return s.setWeight(args[0], static)
	case "agent":
		if !s.Agent || s.AgentOff {
			return "agent checks are not enabled on this server."
		}
	case "agent-port":
		if !s.Agent || s.AgentOff {
			return "agent checks are not enabled on this server"
		}
		s.AgentPort, _ = strconv.Atoi(args[0])
	case "health":
		s.setHealth(args[0])
	case "addr":
		return f.setAddr(s, args)
	default:
		return "'set server <srv>' only supports 'agent', 'health', 'state', 'weight', 'addr', 'fqdn', 'check-addr', 'check-port' and 'ssl'."
	}
	return ""
}

// setWeight takes a weight, or a percentage of the configured one.
func (s *FakeServer) setWeight(value string, static bool) string {
	percent, relative := strings.CutSuffix(value, "%")
	n, _ := strconv.Atoi(percent)
	if static && (!relative || n != 0 && n != 100) {
		return "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'."
	}
	if s.Weight = n; relative {
		s.Weight = s.config * n / 100
	}
	return ""
}

func (s *FakeServer) setHealth(health string) {
	if s.Maint {
		return
	}
	was := s.op()
	s.Up, s.Stopping = health != "down", health == "stopping"
	if s.op() != was {
		s.changed = time.Now()
	}
}

// setState restarts the time of the last change as HAProxy does: 2.6 with
// every change of a server that is up, later ones not with drain and its end.
func (s *FakeServer) setState(state string, drainKeepsClock bool) string {
	was, wasOp := *s, s.op()
	switch state {
	case "ready":
		s.Maint, s.Drain = false, false
	case "drain":
		s.Maint, s.Drain = false, true
	case "maint":
		s.Maint, s.Drain, s.Up = true, false, false
	default:
		return "'set server <srv> state' expects 'ready', 'drain' and 'maint'."
	}
	if was.Maint && !s.Maint {
		s.Up = true // until its check says otherwise
	}
	drained := was.Drain != s.Drain && !s.Maint && !drainKeepsClock
	if drained || s.op() != wasOp {
		s.changed = time.Now()
	}
	return ""
}

func (f *Fake) setAddr(s *FakeServer, args []string) string {
	addr, errA := netip.ParseAddr(args[0])
	if errA != nil || len(args) < 3 {
		return fmt.Sprintf("Invalid addr '%s'", args[0])
	}
	port, errP := strconv.ParseUint(args[2], 10, 16)
	if errP != nil {
		return fmt.Sprintf("problem converting port '%s' to an int", args[2])
	}
	to, from := netip.AddrPortFrom(addr, uint16(port)), s.Addr
	if !f.profile.AsyncAddr {
		s.Addr = to
		return strings.Join([]string{
			changed(from.Addr() != addr, "IP changed from '"+from.Addr().String()+"' to '"+addr.String()+"'", "no need to change the addr"),
			changed(from.Port() != to.Port(), fmt.Sprintf("port changed from '%d' to '%d'", from.Port(), port), "no need to change the port"),
		}, ", ") + " by 'stats socket command'"
	}
	if from == to {
		return "nothing changed" // whatever may be on its way
	}
	s.pending = to
	var parts []string
	if from.Addr() != addr {
		parts = append(parts, "IP changed from '"+from.Addr().String()+"' to '"+addr.String()+"'")
	}
	if from.Port() != to.Port() {
		parts = append(parts, fmt.Sprintf("port changed from '%d' to '%d'", from.Port(), port))
	}
	return strings.Join(parts, ", ") + " by 'stats socket command'"
}

func changed(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// keywords are the options that the Fake knows, with how many words follow.
var keywords = map[string]int{"check": 0, "inter": 1, "fall": 1, "rise": 1, "weight": 1, "maxconn": 1, "backup": 0, "pool-purge-delay": 1, "agent-check": 0, "agent-port": 1, "agent-inter": 1}

func (f *Fake) addServer(w *FakeWorker, path string, args []string) string {
	backend, name, _ := strings.Cut(path, "/")
	b := w.backend(backend)
	if b == nil {
		return f.sayBadly("No such backend.")
	}
	if b.Static {
		return say("Backend must use a dynamic load balancing to support dynamic servers.")
	}
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return say("'server " + path + "' : could not resolve address")
	}
	s := &FakeServer{Name: name, Addr: addr, Weight: 1, Maint: true, CheckOff: true, AgentOff: true}
	if refusal := s.options(args[1:]); refusal != "" {
		return say(refusal)
	}
	if b.server(name) != nil {
		return say("Already exists a server with the same name in backend.")
	}
	b.add(s, time.Now())
	return say("New server registered.")
}

func (s *FakeServer) options(words []string) (refusal string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		follow, known := keywords[word]
		if word == "resolvers" {
			return "'resolvers' option is not accepted for dynamic server"
		}
		if !known || i+follow >= len(words) {
			return "unknown keyword '" + word + "'."
		}
		switch word {
		case "check":
			s.Check = true
		case "agent-check":
			s.Agent = true
		case "agent-port":
			s.AgentPort, _ = strconv.Atoi(words[i+1])
		case "backup":
			s.Backup = true
		case "weight":
			s.Weight, _ = strconv.Atoi(words[i+1])
		case "maxconn":
			s.MaxConn, _ = strconv.Atoi(words[i+1])
		}
		i += follow
	}
	return ""
}

func (f *Fake) delServer(w *FakeWorker, path string) string {
	backend, name, _ := strings.Cut(path, "/")
	b := w.backend(backend)
	if b == nil {
		return f.sayBadly("No such backend.")
	}
	s := b.server(name)
	switch {
	case s == nil:
		return f.sayBadly("No such server.")
	case !s.Maint:
		return say("Only servers in maintenance mode can be deleted.")
	case s.Sessions+s.Attached > 0:
		return say("Server still has connections attached to it, cannot remove it.")
	}
	b.Servers = slices.DeleteFunc(b.Servers, func(known *FakeServer) bool { return known == s })
	return f.sayBadly("Server deleted.")
}

// wait is over at once: what is attached to a server closes if it is idle.
func (f *Fake) wait(w *FakeWorker, path string) string {
	backend, name, _ := strings.Cut(path, "/")
	b := w.backend(backend)
	if b == nil || b.server(name) == nil || !b.server(name).Maint {
		return say("Failed.")
	}
	b.server(name).Attached = 0
	if b.server(name).Sessions > 0 {
		return say("Wait delay expired.")
	}
	return say("Done.")
}

// sessionID is where a Fake's session is in memory.
func sessionID(backend, server, number int) string {
	return fmt.Sprintf("0x7f%02x%02x%04x", backend, server, number)
}

// showSess lists the sessions as HAProxy does, with what is read of it.
func (w *FakeWorker) showSess() string {
	var out strings.Builder
	for i, b := range w.Backends {
		for j, s := range b.Servers {
			for n := range s.Sessions {
				fmt.Fprintf(&out, "%s: proto=tcpv4 src=127.0.0.1:50000 fe=f be=%s srv=%s ts=00 epoch=0 age=1s calls=2 rate=0\n", sessionID(i, j, n), b.Name, s.Name)
			}
		}
	}
	return out.String() + "\n"
}

func (w *FakeWorker) shutdownSession(id string) string {
	for i, b := range w.Backends {
		for j, s := range b.Servers {
			if s.Sessions > 0 && strings.HasPrefix(id, sessionID(i, j, 0)[:8]) {
				s.Sessions--
				return say("")
			}
		}
	}
	return say("No such session (use 'show sess').")
}
