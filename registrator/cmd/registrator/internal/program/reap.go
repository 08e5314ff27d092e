package program

import (
	"errors"
	"syscall"
)

// reap takes in every child that has ended, and hears of those that were
// stopped. It is the only place that waits, so no end is taken by another.
func (p *Program) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	which := p.pid
	if p.config.Init {
		which = -1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(which, &status, syscall.WNOHANG|syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || pid == 0:
			return // ECHILD: there is none; 0: none that has changed
		case pid == p.pid:
			p.changed(status)
		case !status.Stopped():
			p.log.Debug("orphan reaped", "pid", pid)
		}
	}
}

// changed notes what has become of the program.
func (p *Program) changed(status syscall.WaitStatus) {
	switch {
	case status.Stopped():
		select {
		case p.stopped <- status.StopSignal():
		default:
		}
		return
	case status.Signaled():
		p.status = Status{Signal: status.Signal()}
	default:
		p.status = Status{Exit: status.ExitStatus()}
	}
	p.ended = true
	close(p.done)
}
