package api

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Bounds of connections where Options name none. Each long poll is one.
const (
	DefaultMaxConnections = 8192
	DefaultMaxPerAddress  = 1024
)

// refusalsEvery is how often refused connections are logged: a flood must not
// fill the log.
const refusalsEvery = time.Minute

// limitedListener closes the connections beyond its bounds at once. A client that
// opens many can take the API's connections, and not the descriptors by which
// the sidecar reaches Consul, HAProxy and its files.
type limitedListener struct {
	net.Listener
	most, mostPerAddress int
	log                  hclog.Logger

	mu      sync.Mutex
	open    int
	by      map[netip.Prefix]int
	refused int // since the last line of the log
	logged  time.Time
}

func newLimitedListener(l net.Listener, o Options) *limitedListener {
	return &limitedListener{Listener: l, most: o.MaxConnections, mostPerAddress: o.MaxPerAddress, log: o.Logger, by: map[netip.Prefix]int{}}
}

// Accept returns the next connection that is within the bounds.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := clientOf(conn.RemoteAddr())
		if l.take(from) {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.release(from) })}, nil
		}
		_ = conn.Close() // nothing was said
	}
}

// clientOf returns whom a connection counts for: an IPv4 address, or a network of
// IPv6, since a machine may have any address of its /64.
func clientOf(addr net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := at.Addr().Unmap().WithZone("")
	p, err := ip.Prefix(min(64, ip.BitLen()))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (l *limitedListener) take(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.most && l.by[from] < l.mostPerAddress {
		l.open++
		l.by[from]++
		return true
	}
	l.refused++
	if time.Since(l.logged) >= refusalsEvery {
		l.log.Warn("API connections refused", "count", l.refused, "last_from", from, "open", l.open, "max_connections", l.most, "max_connections_per_address", l.mostPerAddress)
		l.refused, l.logged = 0, time.Now()
	}
	return false
}

func (l *limitedListener) release(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.by[from]--; l.by[from] == 0 {
		delete(l.by, from)
	}
}

// limitedConn counts until it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

// Close closes the connection first: its descriptor is free before another is
// taken.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
