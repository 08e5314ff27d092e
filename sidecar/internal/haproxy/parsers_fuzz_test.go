package haproxy

import (
	"encoding/csv"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// seeds of real replies, from 2.6.12 and 3.4.7.
const (
	seedInfo = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nRelease_date: 2026/10/17\nNbthread: 2\nPid: 14586\nUptime: 0d 0h00m07s\nUptime_sec: 7\nMemmax_MB: 0\nnode: host\n"

	seedState = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n" +
		"3 b 1 s1 127.0.0.1 0 0 10 10 0 8 2 0 6 0 0 0 - 18081 - 0 0 - - 0\n" +
		"3 b 2 s2 ::1 0 5 1 1 1 1 0 0 14 0 0 0 - 18082 - 0 0 - - 0\n" +
		"3 b 3 w - 0 37 1 1 1 1 0 0 14 0 0 0 web.invalid 0 - 0 0 - - 0\n"

	seedStat = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,status,weight,act,bck,pid,iid,sid,type,last_chk,\n" +
		"b,s1,0,0,2,3,5,9,DOWN,10,1,0,1,3,1,2,\"Connection refused, again\",\n" +
		"b,s2,1,0,0,0,,0,MAINT,1,0,1,1,3,2,2,,\n" +
		"b,BACKEND,0,0,0,0,200,0,UP,1,1,1,1,3,0,1,,\n"

	seedProc = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n" +
		"14583           master          3 [failed: 1]   0d00h00m41s     2.6.12-1+deb12u4\n" +
		"# workers\n14952           worker          1               1d02h03m04s     2.6.12-1+deb12u4\n" +
		"# old workers\n14613           worker          2               0d00h00m40s     2.6.12-1+deb12u4\n# programs\n"
)

func FuzzParseInfo(f *testing.F) {
	f.Add(seedInfo)
	f.Add("Pid: -1\nVersion: 3.0\n")
	f.Add("Pid: 7\nVersion: 3.0\nUptime_sec: 99999999999\n")
	f.Fuzz(func(t *testing.T, reply string) {
		i, err := parseInfo(reply)
		if err != nil {
			if i != (info{}) {
				t.Errorf("an error and a value: %+v", i)
			}
			return
		}
		if i.pid <= 0 || i.version == "" || i.uptime < 0 {
			t.Errorf("accepted: %+v", i)
		}
		if !strings.Contains(reply, i.version) {
			t.Errorf("version %q is not in the reply", i.version)
		}
	})
}

func FuzzParseServersState(f *testing.F) {
	f.Add(seedState)
	f.Add("Can't find backend.\n")
	f.Add("1\n# srv_name\n\n")
	f.Fuzz(func(t *testing.T, reply string) {
		servers, found, err := parseServersState(reply)
		if (err != nil || !found) && len(servers) > 0 {
			t.Errorf("servers %v of no backend (%v)", servers, err)
		}
		if len(servers) > strings.Count(reply, "\n")+1 {
			t.Errorf("more servers (%d) than lines", len(servers))
		}
		for _, s := range servers {
			v := serverView{&s, &serverStat{}}.plan()
			if s.name == "" || strings.ContainsAny(s.name, " \n\t") {
				t.Errorf("name %q", s.name)
			}
			if s.weight < 0 || s.id < 0 || s.sinceChange < 0 || v.Admin > plan.Maint {
				t.Errorf("accepted: %+v", s)
			}
			if v.Admin == plan.Ready && s.admin&(adminMaint|adminDrain) != 0 {
				t.Errorf("srv_admin_state %d taken for ready", s.admin)
			}
			if s.addr != (netip.AddrPort{}) && !strings.Contains(reply, s.name) {
				t.Errorf("%+v is not in the reply", s)
			}
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add(seedStat)
	f.Add("No such proxy.\n")
	f.Add("# pxname,svname,qcur,scur,type,\nb,\"a\nb\",1,2,2,\n")
	f.Fuzz(func(t *testing.T, reply string) {
		stats, err := parseStat(reply)
		if err != nil && len(stats.all) > 0 {
			t.Errorf("an error and a value: %v", stats)
		}
		for _, s := range stats.all {
			if s.name == "" || s.backend == "" || s.sessions < 0 || s.queued < 0 || s.maxConn < 0 {
				t.Errorf("accepted: %+v", s)
			}
		}
	})
}

// FuzzStatLines holds the short way to what encoding/csv reads.
func FuzzStatLines(f *testing.F) {
	f.Add(seedStat)
	f.Add("a,b\r\nc\n ")
	f.Add("a,b\n\n,\r\nc\r\n\n\"d\n,\"\"\",e\nf,\"g\"\n")
	f.Fuzz(func(t *testing.T, table string) {
		all := csv.NewReader(strings.NewReader(table))
		all.FieldsPerRecord, all.LazyQuotes = -1, true
		lines := statLines{rest: table}
		for {
			want, wantErr := all.Read()
			got, err := lines.read()
			if (err == nil) != (wantErr == nil) || !slices.Equal(got, want) {
				t.Fatalf("got %q, %v; want %q, %v", got, err, want, wantErr)
			}
			if err != nil {
				return
			}
		}
	})
}

func FuzzParseProc(f *testing.F) {
	f.Add(seedProc)
	f.Add("1 master 0 [failed: 0] 0d00h00m01s 3.4\n# old workers\n2 worker 1 36501d00h00m00s 3.4\n")
	f.Fuzz(func(t *testing.T, reply string) {
		p, err := parseProc(reply)
		if err != nil {
			if p.masterPID != 0 || len(p.all()) > 0 {
				t.Errorf("an error and a value: %+v", p)
			}
			return
		}
		if p.masterPID <= 0 || p.reloads < 0 || p.failed < 0 {
			t.Errorf("accepted: %+v", p)
		}
		for _, pid := range p.all() {
			if pid <= 0 {
				t.Errorf("accepted: worker %d", pid)
			}
		}
	})
}

func FuzzParseMarker(f *testing.F) {
	f.Add("1.aa.bb.cc")
	f.Add("1...")
	f.Add("2.aa.bb.cc")
	f.Fuzz(func(t *testing.T, s string) {
		m, ours := plan.ParseMarker(s)
		if !ours {
			if m != (plan.Marker{}) {
				t.Errorf("not ours, and %+v", m)
			}
			return
		}
		if got := m.String(); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
		if checkName("marker", s) != nil {
			t.Errorf("%q cannot stand in a file", s)
		}
	})
}

// FuzzSplitReplies: whatever the replies are, put together as HAProxy does
// they come apart again, and nothing is lost or invented.
func FuzzSplitReplies(f *testing.F) {
	f.Add("\n\n", "")
	f.Add("No such server.\n\n\n", "Server deleted.\n")
	f.Add("1\n# be_id\n3 b\n\n", "x")
	f.Fuzz(func(t *testing.T, text, extra string) {
		replies, complete := splitReplies(text)
		var joined strings.Builder
		for _, r := range replies {
			if strings.HasPrefix(r, "\n") || strings.Contains(r, "\n\n") {
				t.Errorf("reply %q holds an empty line", r)
			}
			joined.WriteString(r + "\n")
		}
		if !strings.HasPrefix(text, joined.String()) || complete != (joined.Len() == len(text)) {
			t.Errorf("%q comes apart as %q, complete %v", text, replies, complete)
		}
		if complete && extra != "" && !strings.HasPrefix(extra, "\n") {
			more, _ := splitReplies(text + extra)
			if len(more) < len(replies) || !slices.Equal(more[:len(replies)], replies) {
				t.Errorf("what follows changes what came: %q, then %q", replies, more)
			}
		}
	})
}

// FuzzCheckOptions: what passes is one command of few words, whatever it says.
func FuzzCheckOptions(f *testing.F) {
	f.Add("check inter 2s fall 3")
	f.Add("check; shutdown sessions server b/s")
	f.Add("check\nshow info")
	f.Add(`check \; x`)
	f.Fuzz(func(t *testing.T, options string) {
		if checkOptions(options) != nil {
			return
		}
		c := addServer(plan.Step{Backend: "b", Server: "s", Addr: addr("127.0.0.1:1"), Options: options, MaxConn: 1, Backup: true})
		if strings.ContainsAny(c.text, ";\n\r\\#\"'<") || len(strings.Fields(c.text)) > 64 {
			t.Errorf("%q makes %q", options, c.text)
		}
	})
}

// FuzzAddrReply: a reply with a known word for trouble never counts as done.
func FuzzAddrReply(f *testing.F) {
	f.Add("IP changed from '127.0.0.1' to '127.0.0.2', port changed from '1' to '2' by 'stats socket command'")
	f.Add("IP changed from '127.0.0.1' to '127.0.0.2', problem converting port 'abc' to an int by 'stats socket command'")
	f.Add("no need to change the addr, no need to change the port by 'stats socket command'")
	f.Add("nothing changed")
	f.Fuzz(func(t *testing.T, reply string) {
		if addrTaken(reply) != nil {
			return
		}
		bare := addrReplyQuoted.ReplaceAllString(reply, "''")
		for _, trouble := range []string{"problem", "Invalid", "only supported", "No such", "can't", "Permission", "\n"} {
			if strings.Contains(bare, trouble) {
				t.Errorf("%q taken for success", reply)
			}
		}
	})
}

// addrReplyQuoted is what HAProxy quotes from elsewhere.
var addrReplyQuoted = regexp.MustCompile(`'[^']*'`)
