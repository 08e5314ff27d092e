package haproxytest

import (
	"fmt"
	"strings"
)

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
