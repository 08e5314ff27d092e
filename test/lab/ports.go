package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken below the range that the kernel gives to outgoing connections (32768
// and up by default): a port that was free a moment ago stays free then. They come in
// blocks, and a block belongs to the process that listens on the first of its ports:
// tests run side by side, also those of several packages, and HAProxy shares a port
// with another HAProxy (SO_REUSEPORT).
const lowestPort, highestPort, blockSize = 12000, 32000, 100

// ports gives each free port once.
type ports struct {
	sync.Mutex
	blocks    []net.Listener // of the blocks that are this process's; never closed
	next, end int            // what is left of the last one
}

var given ports

// FreePort returns a free port on loopback that no test has been given before, in this
// process or in another that runs.
func FreePort() (int, error) { return given.one() }

// Port is FreePort.
func (l *Lab) Port() (int, error) { return FreePort() }

func (p *ports) one() (int, error) {
	p.Lock()
	defer p.Unlock()
	for range 1000 {
		if p.next == p.end {
			first := lowestPort + blockSize*rand.IntN((highestPort-lowestPort)/blockSize)
			if owner, err := net.Listen("tcp", local(first)); err == nil { //nolint:noctx // loopback answers at once
				p.blocks = append(p.blocks, owner)
				p.next, p.end = first+1, first+blockSize
			}
			continue
		}
		port := p.next
		p.next++
		listener, err := net.Listen("tcp", local(port)) //nolint:noctx // loopback answers at once
		if err != nil {
			continue // a program's that is no test
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("lab: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("lab: no free port between %d and %d", lowestPort, highestPort)
}

// portsFor fills in the ports that are 0 with free ones.
func (l *Lab) portsFor(ports ...*int) error {
	for _, p := range ports {
		if *p != 0 {
			continue
		}
		port, err := l.Port()
		if err != nil {
			return err
		}
		*p = port
	}
	return nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
