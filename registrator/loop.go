package registrator

import (
	"sync"
	"time"
)

// loop is a goroutine that does one thing again and again.
type loop struct {
	mu   sync.Mutex
	quit chan struct{} // nil before start
	done chan struct{}
}

// start calls do now and then after every period, until quit.
func (l *loop) start(every time.Duration, do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	quit, done := make(chan struct{}), make(chan struct{})
	l.quit, l.done = quit, done
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			do()
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
}

// end asks it to end after what it is doing, and does not wait.
func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quit != nil {
		close(l.quit)
		l.quit = nil
	}
}

// stop asks it to end, and waits until it has.
func (l *loop) stop() {
	l.end()
	l.mu.Lock()
	done := l.done
	l.mu.Unlock()
	if done != nil {
		<-done
	}
}
