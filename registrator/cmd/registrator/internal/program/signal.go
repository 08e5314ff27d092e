package program

import (
	"errors"
	"fmt"
	"syscall"
)

// Signal sends a signal to the program alone, as to one that was not wrapped.
// One that has ended gets none, and that is no error.
func (p *Program) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	return kill(p.pid, s)
}

// SignalGroup sends a signal to the program and to those that it started in
// its group, as a terminal does. If the group is ours too, the program alone
// gets it. Once the program has ended nothing gets it.
func (p *Program) SignalGroup(s syscall.Signal) error {
	if p.config.SameGroup {
		return p.Signal(s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	return kill(-p.pid, s)
}

func kill(pid int, s syscall.Signal) error {
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to the program: %w", SignalName(s), err)
	}
	return nil
}
