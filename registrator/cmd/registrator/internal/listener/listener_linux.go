package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/prometheus/procfs"
)

// stateListen is LISTEN in /proc/net/tcp (include/net/tcp_states.h).
const stateListen = 0x0a

// socket is one that listens.
type socket struct {
	at    netip.Addr // that it is bound to
	inode uint64
	uid   uint64
}

// Other returns which process gets the connections to the port at one of the
// hosts and does not belong to the program; "" if there is none, or if that
// can't be found out. What belongs to the program is itself, its process group,
// and what descends from this process, whose only child the program is.
func Other(program, port int, hosts []string) string {
	fs, err := procfs.NewDefaultFS()
	if err != nil || !sameNetwork(program) {
		return ""
	}
	open, err := listening(fs, port)
	if err != nil {
		return ""
	}
	processes, err := fs.AllProcs()
	if err != nil {
		return ""
	}
	own, err := inodes(family(processes, program))
	if err != nil {
		return ""
	}
	for _, host := range hosts {
		for _, s := range reached(open, host) {
			if !own[s.inode] {
				return fmt.Sprintf("%s at %s", owner(processes, s), net.JoinHostPort(s.at.String(), strconv.Itoa(port)))
			}
		}
	}
	return ""
}

// sameNetwork reports whether the program is in this process's network
// namespace: only that has the port that is looked at.
func sameNetwork(program int) bool {
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", program))
	return err == nil && ours == theirs
}

// listening returns the sockets that listen on the port.
func listening(fs procfs.FS, port int) ([]socket, error) {
	// The way that is faster, by netlink, is for those who look all the time.
	four, err := fs.NetTCP() //nolint:staticcheck // see above
	if err != nil {
		return nil, err
	}
	six, err := fs.NetTCP6()                           //nolint:staticcheck // see above
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return nil, err
	}
	var open []socket
	for _, line := range append(four, six...) {
		if at, ok := netip.AddrFromSlice(line.LocalAddr); ok && line.St == stateListen && line.LocalPort == uint64(port) {
			open = append(open, socket{at, line.Inode, line.UID})
		}
	}
	return open, nil
}

// reached returns the sockets that get the connections to a host: those bound to
// its address, else those bound to all addresses of its kind, else to all.
// Several share a port by SO_REUSEPORT, and any of them may get a connection.
func reached(open []socket, host string) []socket {
	to, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	to = to.Unmap()
	wanted := []netip.Addr{to, netip.IPv6Unspecified()}
	if to.Is4() {
		wanted = []netip.Addr{to, netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, at := range wanted {
		var found []socket
		for _, s := range open {
			if s.at == at || at == to && s.at.Unmap() == at {
				found = append(found, s)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// family returns the processes that belong to the program.
func family(processes procfs.Procs, program int) procfs.Procs {
	parents, groups, ended := map[int]int{}, map[int]int{}, map[int]bool{}
	for _, p := range processes {
		stat, err := p.Stat()
		parents[p.PID], groups[p.PID] = stat.PPID, stat.PGRP
		ended[p.PID] = err != nil || stat.State == "Z" // a zombie cannot be looked into
	}
	self := os.Getpid()
	var own procfs.Procs
	for _, p := range processes {
		belongs := p.PID == program || groups[p.PID] == program
		for pid, steps := p.PID, 0; !belongs && pid > 1 && steps < len(parents); steps++ {
			pid = parents[pid]
			belongs = pid == self || pid == program
		}
		if belongs && !ended[p.PID] {
			own = append(own, p)
		}
	}
	return own
}

// inodes returns the sockets that processes have open. It fails if one may not be
// looked into.
func inodes(processes procfs.Procs) (map[uint64]bool, error) {
	open := map[uint64]bool{}
	for _, p := range processes {
		targets, err := p.FileDescriptorTargets()
		if errors.Is(err, os.ErrPermission) {
			return nil, err
		}
		for _, t := range targets {
			var inode uint64
			if _, err := fmt.Sscanf(t, "socket:[%d]", &inode); err == nil {
				open[inode] = true
			}
		}
	}
	return open, nil
}

// owner names the process that has a socket open, or whose user it is.
func owner(processes procfs.Procs, s socket) string {
	for _, p := range processes {
		open, err := inodes(procfs.Procs{p})
		if err != nil || !open[s.inode] {
			continue
		}
		comm, err := p.Comm()
		if err != nil {
			comm = "?"
		}
		return fmt.Sprintf("pid %d (%s)", p.PID, comm)
	}
	return fmt.Sprintf("a process of user %d", s.uid)
}
