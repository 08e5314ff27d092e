package plan

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// freeAddr stands in the file for the address of a slot that no instance has. The
// server is disabled, and nothing listens on the discard port of loopback.
var freeAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9)

// SameFile reports whether two models of the file are the same.
func SameFile(x, y []FileBackend) bool {
	return slices.EqualFunc(x, y, FileBackend.Equal)
}

func (b *backendPlan) fileServer(inst *catalog.Instance, name string) FileServer {
	return FileServer{Name: name, Addr: inst.Addr, Weight: inst.Weight, MaxConn: b.limit(inst), Backup: inst.Backup, AgentPort: b.filedAgentPort(inst.AgentPort)}
}

// file returns the servers as they will be once the steps are applied. Where the
// whole file is loaded again it is also where slots are made and taken away,
// and where a backend that HAProxy does not have yet begins.
func (b *backendPlan) file(wholeFile bool) FileBackend {
	f := FileBackend{Service: b.Name, Backend: b.Backend, Known: b.want.Known || b.exists}
	if b.exists {
		f.Servers = append(b.kept(), b.added...)
	} else if b.want.Known {
		f.Servers = b.fromCatalog()
	}
	slot := b.nextSlot(f.Servers)
	for i, inst := range b.unassigned {
		f.Servers = append(f.Servers, b.fileServer(inst, slotName(slot+i)))
	}
	if b.slots && wholeFile {
		f.Servers = b.resize(f.Servers)
	}
	return f
}

// fromCatalog is a backend that HAProxy does not run. Those that drain have
// nothing to finish in it.
func (b *backendPlan) fromCatalog() (servers []FileServer) {
	// No instance is lost that is there, even if it is a backup now, or none any more, nor one
	// who has moved.
	placed, moved := map[netip.AddrPort]bool{}, map[string]bool{}
	for _, inst := range b.want.Untagged { // nor whose role is another one now
		placed[inst.Addr], moved[inst.Server] = true, true
	}
	for n := range b.want.Instances {
		inst := &b.want.Instances[n]
		switch b.role(inst) {
		case in:
			servers = append(servers, b.fileServer(inst, inst.Server))
			moved[inst.Server] = true
			fallthrough
		case draining:
			placed[inst.Addr] = true
		case out:
		}
	}
	var lost []FileServer
	for _, f := range b.last {
		if !placed[f.Addr] && !moved[f.Name] {
			lost = append(lost, f)
		}
	}
	return b.named(append(servers, b.holdInFile(lost, len(servers))...))
}

// holdInFile is the guard where HAProxy does not run, and it is unknown which is
// up: what is too much stays in the file, and the checks of the HAProxy that
// will load it decide.
func (b *backendPlan) holdInFile(lost []FileServer, stay int) []FileServer {
	if b.isMass(len(lost), len(lost)+stay) {
		return lost
	}
	return lost[:min(len(lost), max(0, b.MinServers-stay))]
}

// named gives servers the names that they will have: their own, each once, or
// those of slots.
func (b *backendPlan) named(servers []FileServer) (out []FileServer) {
	taken := map[string]bool{}
	slot := b.nextSlot(nil)
	if !b.slots {
		slot = b.nextSlot(servers)
	}
	for _, f := range servers {
		if b.slots || slices.Contains(b.Operator, f.Name) {
			f.Name = slotName(slot)
			slot++
		} else if taken[f.Name] {
			continue // of one that has moved
		}
		taken[f.Name] = true
		out = append(out, f)
	}
	return out
}

// kept is the servers that HAProxy has, as the steps leave them.
func (b *backendPlan) kept() []FileServer {
	after := make([]FileServer, 0, len(b.servers))
	steps := slices.Concat(b.additions, b.removals)
	drain := map[string]bool{}
	index := map[string]int{} // of those that steps change
	for _, st := range steps {
		index[st.Server] = -1
	}
	for i := range b.servers {
		s := &b.servers[i]
		if !s.Addr.IsValid() {
			continue // not one of ours: no literal address
		}
		if _, changes := index[s.Name]; changes {
			index[s.Name] = len(after)
		}
		out := s.Admin
		if inst := b.bound[i]; inst != nil && b.role(inst) == in && b.agentDecides(s) {
			out = Ready // its agent takes it out again
		}
		port := s.AgentPort
		if b.bound[i] != nil {
			port = b.bound[i].AgentPort
		}
		after = append(after, FileServer{
			Name: s.Name, Addr: s.Addr, Weight: b.fileWeight(i), MaxConn: s.MaxConn, Backup: s.Backup,
			Disabled: out == Maint, AgentPort: b.filedAgentPort(port),
		})
		if out == Drain {
			drain[s.Name] = true
		}
	}
	gone := map[string]bool{}
	for _, st := range steps {
		i := index[st.Server]
		if i < 0 {
			continue
		}
		f := &after[i]
		switch st.Kind {
		case SetReady:
			f.Disabled, drain[f.Name] = false, false
		case SetDrain:
			f.Disabled, drain[f.Name] = false, true
		case SetMaint:
			f.Disabled, drain[f.Name] = true, false
		case SetWeight:
			if f.Weight = st.Weight; st.Percent && st.Weight > 0 {
				f.Weight = b.fileWeight(b.indexByName()[f.Name])
			}
		case SetMaxConn:
			f.MaxConn = st.MaxConn
		case SetAddr:
			// The next pass makes it ready; an HAProxy that loads the file meanwhile
			// should not have to wait for that.
			f.Addr, f.Disabled, drain[f.Name] = st.Addr, false, false
		case Delete:
			gone[f.Name] = true
		case Add, EnableHealth, EnableAgent, DisableAgent, Shutdown, AddBackend, PublishBackend, UnpublishBackend, DeleteBackend:
		}
	}
	for i := range after {
		f := &after[i]
		if drain[f.Name] {
			f.Weight = 0
		}
		// The step that made it ready did not know that no instance has it any more.
		f.Disabled = f.Disabled || f.Addr == freeAddr
	}
	b.forgetFree(after, gone)
	return slices.DeleteFunc(after, func(f FileServer) bool { return gone[f.Name] })
}

// forgetFree gives free slots the free address, and leaves out servers
// that are not slots, are no instance's, and that HAProxy can't delete.
func (b *backendPlan) forgetFree(after []FileServer, gone map[string]bool) {
	free := map[string]bool{}
	for i := range b.servers {
		s := &b.servers[i]
		switch {
		case b.bound[i] != nil || s.Admin != Maint || s.Sessions > 0 || !b.want.Known:
		case isSlot(s):
			free[s.Name] = true
		default:
			gone[s.Name] = true
		}
	}
	for n := range after {
		if free[after[n].Name] {
			after[n].Addr, after[n].Weight, after[n].MaxConn, after[n].AgentPort = freeAddr, 1, 0, 0
		}
	}
}

// resize makes room for half as many servers again as there are, and at least
// for what the operator set. It takes slots away only where more than twice
// that are free, so that a service that goes up and down keeps its slots.
func (b *backendPlan) resize(servers []FileServer) []FileServer {
	isFree := func(f FileServer) bool { return f.Disabled && f.Addr == freeAddr }
	free := 0
	for _, f := range servers {
		if isFree(f) {
			free++
		}
	}
	used := len(servers) - free
	want := max(b.Slots-used, b.Spare, used/2)
	for slot := b.nextSlot(servers); free < want; free, slot = free+1, slot+1 {
		servers = append(servers, FileServer{Name: slotName(slot), Addr: freeAddr, Weight: 1, Disabled: true})
	}
	if free <= 2*max(want, 1) {
		return servers
	}
	for i := len(servers) - 1; i >= 0 && free > want; i-- {
		if isFree(servers[i]) {
			servers = slices.Delete(servers, i, i+1)
			free--
		}
	}
	return servers
}

// fileWeight is the weight of a server on its line: where the one in use is an
// agent's or cannot be another, that of its instance.
func (b *backendPlan) fileWeight(i int) int {
	s, inst := &b.servers[i], b.bound[i]
	switch {
	case !b.fixesWeight(s):
		return s.Weight
	case inst != nil && b.role(inst) == in:
		return inst.Weight
	case s.Weight == 0 && s.Agent != AgentOn:
		return 0 // by a step, and not by its agent
	}
	return s.ConfigWeight
}

// nextSlot is the number of the first slot above those of the servers and the
// operator's. The numbers after it are free, too.
func (b *backendPlan) nextSlot(servers []FileServer) int {
	highest := 0
	for _, f := range servers {
		highest = max(highest, slotNumber(f.Name))
	}
	for _, name := range b.Operator {
		highest = max(highest, slotNumber(name))
	}
	return highest + 1
}

func slotName(number int) string { return catalog.SlotPrefix + strconv.Itoa(number) }

// slotNumber is 0 for a name that no slot has.
func slotNumber(name string) int {
	rest, ok := strings.CutPrefix(name, catalog.SlotPrefix)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return 0
	}
	return n
}

// ServersIn returns the servers of a haproxy.cfg of ours that take traffic, by
// backend. Of a file that we did not write it gives none.
func ServersIn(file string) map[string][]FileServer {
	out := map[string][]FileServer{}
	if !strings.Contains(file, MarkerVariable) {
		return out
	}
	backend := ""
	for line := range strings.Lines(file) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "backend":
			backend = words[1]
		case strings.TrimLeft(line, " \t") == line: // another section
			backend = ""
		case words[0] == "server" && backend != "" && backend != RotationBackend:
			if f, ok := serverIn(words); ok && !f.Disabled && f.Weight > 0 {
				out[backend] = append(out[backend], f)
			}
		}
	}
	return out
}

// serverIn reads the words of a server's line as render writes it: what comes
// from the operator's options stands before what is ours.
func serverIn(words []string) (f FileServer, ok bool) {
	if len(words) < 3 {
		return f, false
	}
	addr, err := netip.ParseAddrPort(words[2])
	if err != nil || addr.Port() == 0 {
		return f, false
	}
	f = FileServer{Name: words[1], Addr: addr, Weight: 1}
	for i, w := range words[3:] {
		var next string
		if i+4 < len(words) {
			next = words[i+4]
		}
		switch w {
		case "weight":
			f.Weight, err = strconv.Atoi(next)
		case "maxconn":
			f.MaxConn, err = strconv.Atoi(next)
		case "agent-port": // of two the last counts
			f.AgentPort, err = strconv.Atoi(next)
		case "backup":
			f.Backup = true
		case "disabled":
			f.Disabled = true
		}
		if err != nil || f.Weight < 0 || f.Weight > 256 || f.MaxConn < 0 || f.AgentPort < 0 || f.AgentPort > 65535 {
			return f, false
		}
	}
	return f, true
}
