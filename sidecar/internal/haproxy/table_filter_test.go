package haproxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
)

// filter returns a reply in pieces to a tableFilter.
func filter(reply string, sizes func() int) string {
	var f tableFilter
	for len(reply) > 0 {
		n := min(sizes(), len(reply))
		f.take([]byte(reply[:n]))
		reply = reply[n:]
	}
	return f.end()
}

// Property: in whatever pieces a reply arrives, the parsers read of what is kept what they
// read of the whole. The rest stays as it is.
func TestTableFilter_AnyPieces_ParsedAsTheWhole(t *testing.T) {
	words := rapid.SampledFrom([]string{"", "s1", "0", `"a, b"`, `"a ""b"" c"`, "\"two\nlines, of it\"", `"x"`})
	rapid.Check(t, func(t *rapid.T) {
		stat := "# pxname,svname,unused,type,scur,qcur,slim,bck,status,check_status,rest,check_code,last_chk,\n"
		for n := range rapid.IntRange(0, 4).Draw(t, "rows") {
			stat += fmt.Sprintf("b,s%d,%s,2,1,%d,,0,DOWN,L7STS,%s,503,%s,%s\n", n, words.Draw(t, "unused"), n, words.Draw(t, "rest"), words.Draw(t, "words"), words.Draw(t, "more"))
		}
		const head = "Name: HAProxy\nPid: 7\n\nPOINTSMAN_MARK=x, \"y\"\n\n"
		kept := filter(head+seedState+"\n"+stat+"\n"+head+"cut off", func() int { return rapid.IntRange(1, 400).Draw(t, "bytes") })
		kept, isSame := strings.CutPrefix(kept, head)
		kept, isWhole := strings.CutSuffix(kept, head+"cut off")
		if !isSame || !isWhole {
			t.Fatalf("the rest is otherwise: %q", kept)
		}
		replies, complete := splitReplies(kept)
		if len(replies) != 2 || !complete {
			t.Fatalf("%d replies: %q", len(replies), kept)
		}
		sameTables(t, seedState, stat, replies[0], replies[1])
	})
}

// sameTables compares what is read of two tables with what is read of less of them.
func sameTables(t rapid.TB, state, stat, lessState, lessStat string) (servers int) {
	t.Helper()
	states, _, err := parseServersState(state)
	lessStates, _, lessErr := parseServersState(lessState)
	sameAddr := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(states, lessStates, cmp.AllowUnexported(serverState{}), sameAddr); diff != "" || err != nil || lessErr != nil {
		t.Errorf("states: %v, %v\n%s", err, lessErr, diff)
	}
	stats, err := parseStat(stat)
	lessStats, lessErr := parseStat(lessStat)
	if diff := cmp.Diff(stats.all, lessStats.all, cmp.AllowUnexported(serverStat{})); diff != "" || err != nil || lessErr != nil {
		t.Errorf("counters of %q and %q: %v, %v\n%s", stat, lessStat, err, lessErr, diff)
	}
	return min(len(states), len(stats.all))
}

// A table of HAProxy's own is a fraction of what it was, and says the same.
func TestTableFilter_RealReply_ParsedAsTheWhole(t *testing.T) {
	t.Parallel()
	b := backendSpec{name: "b"}
	for n := range 50 {
		b.servers = append(b.servers, serverSpec{name: fmt.Sprintf("node-%d", n), addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 0, byte(n)}), 4000), weight: n})
	}
	p := haproxytest.StartWith(t, marked(testMark), fileOf([]backendSpec{b}))
	whole := p.Command("show servers state; " + wholeStat)
	kept := filter(whole, func() int { return 1000 })
	if len(kept) > len(whole)/2 {
		t.Errorf("%d of %d bytes are kept", len(kept), len(whole))
	}
	replies, _ := splitReplies(whole)
	less, _ := splitReplies(kept)
	if len(replies) != 2 || len(less) != 2 {
		t.Fatalf("%d replies, %d are kept", len(replies), len(less))
	}
	if servers := sameTables(t, replies[0], replies[1], less[0], less[1]); servers != 50 {
		t.Errorf("%d servers", servers)
	}
}
