package lab

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// tmux loses the end of one program in ten that ends while utempter runs, and then has
// no exit code of it.
func TestTerminal_ProgramEnds_ExitCodeIsKnown(t *testing.T) {
	for i := range 30 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			l, err := New(Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			terminal, err := l.StartTerminal(t.Context(), "terminal", 80, 24, "sh", "-c", fmt.Sprintf("sleep 0.1; echo over; exit %d", i))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = terminal.Close(context.WithoutCancel(t.Context())) }() // the lab ends what is left
			if err := terminal.Shows(t.Context(), 20*time.Second, "^over$"); err != nil {
				t.Error(err)
			}
			if err := terminal.Exits(t.Context(), 10*time.Second, i); err != nil {
				t.Error(err)
			}
		})
	}
}
