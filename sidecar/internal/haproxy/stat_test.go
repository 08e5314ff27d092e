package haproxy

import (
	"fmt"
	"strings"
	"testing"
)

// The two tables have one order as a rule; a server is found in any.
func TestJoin_TablesInAnyOrder_EachServerHasItsOwnLine(t *testing.T) {
	t.Parallel()
	var states []serverState
	for _, backend := range []string{"a", "b"} {
		for _, name := range []string{"s1", "s2", "s3"} {
			states = append(states, serverState{backend: backend, name: name})
		}
	}
	for _, order := range [][]int{{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {0, 2, 1, 5, 3, 4}, {3, 4, 5, 0, 1, 2}} {
		reply := "# pxname,svname,qcur,scur,slim,bck,type\n"
		for _, i := range order {
			reply += fmt.Sprintf("%s,%s,0,%d,,0,2\n", states[i].backend, states[i].name, i)
		}
		stats, err := parseStat(reply)
		if err != nil {
			t.Fatal(err)
		}
		servers, whole := join(states, &stats)
		if !whole || len(servers) != len(states) {
			t.Fatalf("order %v: %d servers, whole %v", order, len(servers), whole)
		}
		for i, s := range servers {
			if s.sessions != i || s.serverState != &states[i] {
				t.Errorf("order %v: %s/%s has %d sessions, want %d", order, s.serverState.backend, s.serverState.name, s.sessions, i)
			}
		}
		lacks, err := parseStat(strings.Replace(reply, "b,s2,", "c,s2,", 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, whole := join(states, &lacks); whole {
			t.Errorf("order %v: whole without the line of b/s2", order)
		}
	}
}

// A line is read as far as its last column that is used, wherever a release has it.
func TestParseStat_ColumnAtTheEnd_IsRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		agent  string // in the status
		status string
		at     [3]string // its columns: status, code and words of the check
	}{{"", "L7STS", [3]string{"check_status", "check_code", "last_chk"}}, {" (agent)", "L7STS", [3]string{"agent_status", "agent_code", "last_agt"}}} {
		values := [3]string{c.status, "503", "not ready"}
		for last := range 3 {
			header, line := "# pxname,svname,qcur,scur,slim,bck,type,status", "a,s1,0,0,,0,2,DOWN"+c.agent
			for i := range 3 {
				at := (last + 1 + i) % 3
				header, line = header+","+c.at[at], line+","+values[at]
			}
			stats, err := parseStat(header + ",unused\n" + line + ",1\n")
			if err != nil || len(stats.all) != 1 {
				t.Fatalf("%d servers, %v", len(stats.all), err)
			}
			if got := stats.all[0].last; got.Status != c.status || got.Code != 503 || got.Words != "not ready" {
				t.Errorf("with %s last: got %+v", c.at[last], got)
			}
		}
	}
}
