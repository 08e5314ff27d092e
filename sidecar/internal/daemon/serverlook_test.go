package daemon

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
)

// serverLook is what there is to see of one server.
type serverLook struct {
	HAProxy  map[string]string // columns of `show servers state` and `show stat`
	Arrivals []string          // at the witness: checks and traffic
	dynamic  bool              // it is no slot
}

// volatile are columns that tell of the moment, of the past or of the name.
var volatile = regexp.MustCompile(`^(be_id|be_name|srv_id|srv_name|srv_addr|srv_port|srv_admin_state|srv_time_since_last_change|srv_check_health|check_health|srv_f_forced_id|srv_check_status|srv_check_result|srv_op_state|.*cur|.*max|.*tot|bin|bout|rate|lastchg|downtime|last_.*|check_duration|check_code|agent_duration|agent_code|lastsess|.?time|iid|sid|pid|svname|addr|chkfail|chkdown|hanafail|hrsp_.*|cli_abrt|srv_abrt|wretr|wredis|econ|eresp|lbtot|.*time_max|reuse|connect|need_conn_est|srv_icur|idle_conn_cur|safe_conn_cur|used_conn_cur|.*_bytes.*|agg_.*|check_desc|agent_desc|act|.*sess.*|eint|cache_.*|h1.*|h2.*|h3.*|quic.*|http_.*|ssl_.*|intercepted|dcon|dses|comp_.*|status|-|req_.*|req(bin|bout)|res(bin|bout)|throttle|src_ilim|desc|guid)$`)

// look waits until all servers are up and each has had checks and traffic, and
// gives what is to be seen of the first server of each service.
func (s *optionSite) look(when string) map[string]serverLook {
	s.t.Helper()
	s.settled(when)
	shown := map[string]map[string]string{}
	for _, c := range s.services {
		if c.failed {
			continue
		}
		var columns map[string]string
		up := func() bool {
			columns = s.columns(c.name, c.first.addr())
			// An answer of the agent that came too late, on a busy machine, is followed by
			// another one.
			answer := columns["agent_status"]
			agentAsked := columns["srv_agent_state"] == "0" || columns["srv_agent_state"] == "22" && answer != "INI" && !strings.HasSuffix(answer, "TOUT")
			if c.isUnchecked {
				return columns["status"] == "no check"
			}
			return strings.HasPrefix(columns["status"], "UP") && columns["srv_check_state"] == "6" && strings.HasSuffix(columns["check_status"], "OK") && agentAsked
		}
		for deadline := time.Now().Add(10 * time.Second); !up(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				c.failed = true
				s.t.Errorf("%s (%s) is not up %s: status %q, check %s %q, agent state %s", c.keyword, c.options, when, columns["status"], columns["check_status"], columns["last_chk"], columns["srv_agent_state"])
				break
			}
		}
		if c.failed {
			continue
		}
		if strings.Contains(c.keyword, "half the weight") {
			s.haproxy.Until("its agent halves the weight "+when, func() bool { columns = s.columns(c.name, c.first.addr()); return columns["srv_uweight"] == "5" })
		}
		shown[c.name] = columns
		c.first.reset()
		if !c.isClosed {
			s.traffic(c)
		}
	}
	out := map[string]serverLook{}
	for _, c := range s.services { // their checks have come meanwhile
		columns := shown[c.name]
		if c.failed {
			continue
		}
		wanted := 2
		if strings.Contains(c.options, "port ") && !strings.Contains(c.options, "agent") || slices.Contains(c.lines, "option tcp-check") || c.keyword == "check.type tcp" {
			wanted = 1 // its checks go elsewhere, or do not ask
		}
		if c.isUnchecked || c.isClosed {
			wanted = 1
		}
		haproxytest.Until(s.t, c.keyword+" has had checks "+when, func() bool { return len(c.first.arrivals()) >= wanted })
		look := serverLook{HAProxy: map[string]string{}, Arrivals: c.first.arrivals(), dynamic: !strings.HasPrefix(columns["srv_name"], "slot-")}
		for name, value := range columns {
			if !volatile.MatchString(name) {
				look.HAProxy[name] = value
			}
		}
		for _, part := range c.shows {
			if all := fmt.Sprint(look.HAProxy, look.Arrivals); !strings.Contains(all, part) {
				c.failed = true
				s.t.Errorf("%s (%s), %s: no %q in %s", c.keyword, c.options, when, part, all)
			}
		}
		if sticky, _ := c.settings["sticky"].(map[string]any); sticky["cookie"] != nil && look.HAProxy["cookie"] == "" {
			c.failed = true
			s.t.Errorf("%s, %s: the server has no cookie", c.keyword, when)
		}
		out[c.name] = look
	}
	return out
}

// columns is what HAProxy shows of the server at an address, by column, as between
// two checks.
func (s *optionSite) columns(backend string, at netip.AddrPort) map[string]string {
	out := map[string]string{}
	defer func() {
		for _, check := range []string{"check_status", "agent_status"} {
			out[check] = strings.TrimPrefix(out[check], "* ") // the next one is under way
		}
		out["srv_agent_state"] = strings.Replace(out["srv_agent_state"], "23", "22", 1)
		out["srv_check_state"] = strings.Replace(out["srv_check_state"], "7", "6", 1)
	}()
	state := strings.Split(s.haproxy.Command("show servers state "+backend), "\n")
	names := strings.Fields(strings.TrimPrefix(state[1], "# "))
	for _, row := range state[2:] {
		fields := strings.Fields(row)
		one := map[string]string{}
		for i := range fields {
			one[names[i]] = fields[i]
		}
		if one["srv_addr"]+":"+one["srv_port"] == at.String() {
			maps.Copy(out, one)
			break // a backup may be there, too
		}
	}
	stat := strings.Split(s.haproxy.Command("show stat "+backend+" 4 -1"), "\n")
	names = strings.Split(strings.TrimPrefix(stat[0], "# "), ",")
	for _, row := range stat[1:] {
		fields := strings.Split(row, ",")
		if len(fields) < 2 || fields[1] != out["srv_name"] {
			continue
		}
		for i := range names {
			if names[i] != "" && i < len(fields) {
				out[names[i]] = fields[i]
			}
		}
	}
	return out
}

func (s *optionSite) compare(what string, before, after map[string]serverLook) {
	s.t.Helper()
	for _, c := range s.services {
		if c.failed {
			continue
		}
		if c.balance == "source" || c.balance == "uri" { // the hash decides who has traffic
			x, y := before[c.name], after[c.name]
			x.Arrivals, y.Arrivals = nil, nil
			before[c.name], after[c.name] = x, y
		}
		if diff := cmp.Diff(before[c.name], after[c.name], cmp.AllowUnexported(serverLook{}), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".dynamic" }, cmp.Ignore())); diff != "" {
			c.failed = true
			s.t.Errorf("%s server, %s (%s): before and after differ (-before +after):\n%s", what, c.keyword, c.options, diff)
		}
	}
}
