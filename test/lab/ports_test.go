package lab

import "testing"

// Tests of several packages run at once, each a process: none is given a port that
// another has, although it listens on none of them yet.
func TestFreePort_TwoProcesses_NeverTheSame(t *testing.T) {
	var processes [2]ports
	seen := map[int]int{}
	for range 15 * blockSize {
		for i := range processes {
			port, err := processes[i].one()
			if err != nil {
				t.Fatal(err)
			}
			if other, isGiven := seen[port]; isGiven {
				t.Fatalf("port %d is given to process %d and was given to %d", port, i, other)
			}
			seen[port] = i
		}
	}
	for i := range processes {
		for _, owner := range processes[i].blocks {
			_ = owner.Close()
		}
	}
}
