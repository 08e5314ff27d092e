package haproxytest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func (f *Fake) showInfo(w *FakeWorker) string {
	return fmt.Sprintf("Name: HAProxy\nVersion: %s\nNbthread: 2\nPid: %d\nUptime_sec: %d\nnode: fake\n\n",
		f.profile.Version, w.PID, int(time.Since(w.started).Seconds()))
}

// showServersState takes a backend's name, or none for all.
func (w *FakeWorker) showServersState(backend []string) string {
	backends := w.Backends
	if len(backend) > 0 {
		b := w.backend(backend[0])
		if b == nil {
			return say("Can't find backend.")
		}
		backends = []*FakeBackend{b}
	}
	var out strings.Builder
	out.WriteString("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight " +
		"srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state " +
		"bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n")
	for _, b := range backends {
		for _, s := range b.Servers {
			fmt.Fprintf(&out, "%d %s %d %s %s %d %d %d %d %d 6 3 4 %d %d 0 0 - %d - 0 0 - - %d\n",
				w.backendID(b), b.Name, s.id, s.Name, s.Addr.Addr(), s.op(), s.admin(), s.Weight, s.config,
				int(time.Since(s.changed).Seconds()), s.check(), s.agent(), s.Addr.Port(), s.AgentPort)
		}
	}
	out.WriteString("\n")
	return out.String()
}

// showStat takes a backend's name or its number, or -1 for all.
func (w *FakeWorker) showStat(backend string) string {
	var backends []*FakeBackend
	for _, b := range w.Backends {
		if backend == "-1" || b.Name == backend || strconv.Itoa(w.backendID(b)) == backend {
			backends = append(backends, b)
		}
	}
	if len(backends) == 0 && backend != "-1" {
		return say("No such proxy.")
	}
	var out strings.Builder
	out.WriteString("# pxname,svname,qcur,qmax,scur,smax,slim,status,weight,act,bck,iid,sid,type,check_desc,\n")
	for _, b := range backends {
		for _, s := range b.Servers {
			limit, backup := "", 0
			if s.MaxConn > 0 {
				limit = strconv.Itoa(s.MaxConn)
			}
			if s.Backup {
				backup = 1
			}
			fmt.Fprintf(&out, "%s,%s,%d,0,%d,0,%s,UP,%d,%d,%d,%d,%d,2,\"Layer7 check passed, 200\",\n",
				b.Name, s.Name, s.Queued, s.Sessions, limit, s.Weight, 1-backup, backup, w.backendID(b), s.id)
		}
	}
	out.WriteString("\n")
	return out.String()
}
