package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// printPlan returns all that a plan says of HAProxy, a line each, in its order.
func printPlan(p plan.Plan) (out []string) {
	for _, st := range p.Steps {
		out = append(out, printStep(st))
	}
	if p.Reload != plan.NoReload {
		out = append(out, "reload: "+string(p.Reload))
	}
	for _, w := range p.Waiting {
		line := "wait"
		if w.Server != "" {
			line += " " + w.Server
		}
		line += ": " + string(w.For)
		if w.Sessions != 0 {
			line += fmt.Sprintf("=%d", w.Sessions)
		}
		out = append(out, line+ofInstance(w.Instance, w.Server))
	}
	if len(out) == 0 {
		return []string{"nothing"}
	}
	return out
}

func printStep(st plan.Step) string {
	line := string(st.Kind) + " " + st.Server
	switch st.Kind {
	case plan.Add:
		line += " " + printAddr(st.Addr) + numbers(st.Weight, st.MaxConn, st.Backup) + " " + st.Options
	case plan.SetAddr:
		line += " " + printAddr(st.Addr)
	case plan.SetWeight:
		line += fmt.Sprintf(" %d", st.Weight)
	case plan.SetMaxConn:
		line += fmt.Sprintf(" %d", st.MaxConn)
	case plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent:
	case plan.Shutdown:
		if st.Sessions > 0 {
			line += fmt.Sprintf(" sessions=%d", st.Sessions)
		}
	}
	if st.Percent {
		line += "%"
	}
	line += ": " + string(st.Reason)
	if st.Prove {
		line += ", prove"
	}
	if st.Agent {
		line += ", agent"
	}
	if st.AgentPort != 0 {
		line += fmt.Sprintf(" at %d", st.AgentPort)
	}
	return line + ofInstance(st.Instance, st.Server)
}

func ofInstance(instance, server string) string {
	if instance == "" || instance == server {
		return ""
	}
	return " (" + instance + ")"
}

func printFile(f plan.FileBackend) (out []string) {
	if !f.Known {
		out = append(out, "not known")
	}
	for _, s := range f.Servers {
		line := s.Name + " " + printAddr(s.Addr) + numbers(s.Weight, s.MaxConn, s.Backup)
		if s.Disabled {
			line += " disabled"
		}
		if s.AgentPort != 0 {
			line += fmt.Sprintf(" port=%d", s.AgentPort)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return []string{"no servers"}
	}
	return out
}

func printServers(servers []plan.Server) (out []string) {
	for _, s := range servers {
		line := s.Name + " " + printAddr(s.Addr) + " " + s.Admin.String() + " " + map[bool]string{true: "up", false: "down"}[s.Up] +
			numbers(s.Weight, s.MaxConn, s.Backup)
		if s.Sessions != 0 {
			line += fmt.Sprintf(" sessions=%d", s.Sessions)
		}
		if !s.Checked {
			line += " unchecked"
		}
		if s.Agent != plan.NoAgent {
			line += " agent=" + s.Agent.String()
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return []string{"no servers"}
	}
	return out
}

func printPlaced(all map[string][]plan.Placement) (out []string) {
	for _, backend := range slices.Sorted(maps.Keys(all)) {
		for _, p := range all[backend] {
			out = append(out, p.Server+" has "+p.Instance.ID)
		}
	}
	if len(out) == 0 {
		return []string{"none"}
	}
	return out
}

// numbers prints what is not as usual: weight 1, no limit, no backup.
func numbers(weight, maxConn int, backup bool) (out string) {
	if weight != 1 {
		out += fmt.Sprintf(" weight=%d", weight)
	}
	if maxConn != 0 {
		out += fmt.Sprintf(" maxconn=%d", maxConn)
	}
	if backup {
		out += " backup"
	}
	return out
}

func printAddr(a netip.AddrPort) string {
	switch text := a.String(); {
	case text == "127.0.0.1:9":
		return "none"
	case strings.HasPrefix(text, "10.0.0.") && a.Port() == 4000:
		return "." + strings.TrimSuffix(strings.TrimPrefix(text, "10.0.0."), ":4000")
	default:
		return text
	}
}
