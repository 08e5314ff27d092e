package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The lab takes its ports below the range that the kernel gives to outgoing
// connections (32768 and up by default): a port that was free a moment ago
// stays free then.
const lowestPort, highestPort = 12000, 32000

// given are the ports that the labs of this process have given away. Tests run labs
// side by side, and HAProxy shares a port with another HAProxy (SO_REUSEPORT).
var given struct {
	sync.Mutex
	ports map[int]bool
}

// Port gives a free port on loopback that no lab of this process has given before.
func (l *Lab) Port() (int, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if given.ports[port] {
			continue
		}
		listener, err := net.Listen("tcp", local(port)) //nolint:noctx // loopback answers at once
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("lab: %w", err)
		}
		given.ports[port] = true
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
