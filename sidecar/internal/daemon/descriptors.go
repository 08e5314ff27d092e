package daemon

import (
	"math"
	"syscall"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// openFiles is how many files the process may have open. Go has raised the
// limit as far as it may be.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxUint64 // not known
	}
	return limit.Cur
}

// What is kept from the API's connections: for HAProxy's sockets, files, the
// programs that check and reload, and Consul. Over plain HTTP a service has a
// blocking query of its own, and a second one for a moment.
const (
	keptFiles      = 128
	keptPerService = 4
	fewConnections = 16 // are taken by any limit
)

// connections is how many connections the API takes in all, and from one
// address.
func connections(cfg config.Config, files uint64) (most, perAddress int) {
	most = cfg.API.MaxConnections
	kept := uint64(keptFiles + keptPerService*len(cfg.Services))
	switch {
	case files < kept+fewConnections:
		most = fewConnections
	case files-kept < uint64(most):
		most = int(files - kept)
	}
	return most, max(1, min(cfg.API.MaxPerAddress, most/2))
}
