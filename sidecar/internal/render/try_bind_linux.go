package render

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tryBind binds an address for a moment, as HAProxy does, and listens on
// nothing. The error is that it is in use or not there; nil also means that it
// can't be told.
func tryBind(b bind) (inUse bool, err error) {
	family, to := sockaddr(b.at)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, nil // it can't be told
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	options := [][2]int{{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_REUSEPORT}}
	if b.v6only {
		options = append(options, [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
			return false, nil // it can't be told
		}
	}
	switch err := unix.Bind(fd, to); {
	case errors.Is(err, unix.EADDRINUSE):
		return true, err
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return false, err
	case errors.Is(err, unix.EACCES) && isListenedOn(b.at):
		return true, unix.EADDRINUSE // a port that only HAProxy may bind
	}
	return false, nil
}

func sockaddr(at netip.AddrPort) (family int, to unix.Sockaddr) {
	if at.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// isListenedOn tells whether some program listens on a TCP address, which any
// user may see.
func isListenedOn(at netip.AddrPort) bool {
	text, err := os.ReadFile(listTCP(at.Addr()))
	return err == nil && listsListener(string(text), at)
}

// listTCP is the file that lists the TCP sockets of an address's family.
func listTCP(a netip.Addr) string {
	if a.Is6() {
		return "/proc/self/net/tcp6"
	}
	return "/proc/self/net/tcp"
}

// listsListener looks in such a list for a socket that listens on an address
// (proc(5), /proc/net/tcp: "sl local_address rem_address st …", in hexadecimal
// and the machine's order of bytes).
func listsListener(list string, at netip.AddrPort) bool {
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		if len(words) < 4 || words[3] != listening {
			continue
		}
		host, port, _ := strings.Cut(words[1], ":")
		if port == hexPort(at.Port()) && (at.Addr().IsUnspecified() || strings.Trim(host, "0") == "" || host == hexAddr(at.Addr())) {
			return true
		}
	}
	return false
}

// listening is the state of such a socket.
const listening = "0A"

func hexPort(port uint16) string { return fmt.Sprintf("%04X", port) }

// hexAddr writes an address word by word, each as the machine has it in memory.
func hexAddr(a netip.Addr) string {
	var out strings.Builder
	for word := range slices.Chunk(a.AsSlice(), 4) {
		fmt.Fprintf(&out, "%08X", binary.NativeEndian.Uint32(word))
	}
	return out.String()
}
