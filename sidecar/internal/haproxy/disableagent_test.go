package haproxy

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/test/lab"
)

// Fact 39: the answer to a check that was under way when its agent was disabled
// changes nothing, and the check counts as under way until `timeout check`.
func TestDisableAgent_AnswerIsUnderWay_ChangesNothing(t *testing.T) {
	t.Parallel()
	asked := make(chan net.Conn)
	at := lab.Listen(t, func(c net.Conn) {
		select {
		case asked <- c:
			<-t.Context().Done()
		case <-t.Context().Done():
		}
	})
	p := haproxytest.Start(t, fmt.Sprintf("backend b\n  timeout check 2s\n  server s %s agent-check agent-port %d agent-inter 50ms\n", at, at.Port))
	state := func() []string {
		rows := strings.Split(p.Command("show servers state b"), "\n")
		return strings.Fields(rows[2])
	}
	agent := <-asked
	p.Command("disable agent b/s")
	if got := state()[14]; got != "19" {
		t.Fatalf("agent state: got %s, want 19: configured, disabled, under way", got)
	}
	if _, err := fmt.Fprintln(agent, "drain 50%"); err != nil {
		t.Fatal(err)
	}
	_ = agent.Close()
	p.Until("the check is over", func() bool { return state()[14] == "18" })
	if got := state(); got[6] != "0" || got[7] != "1" {
		t.Errorf("admin state %s and weight %s, want 0 and 1: as before", got[6], got[7])
	}
}
