package lab

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// grpcTLSSince is the minor of Consul 1 from which on an agent has a port for
// gRPC over TLS, and a flag for it.
const grpcTLSSince = 14

var consulVersion = regexp.MustCompile(`Consul v?(\d+)\.(\d+)`)

// WithoutGRPCTLS gives the flags by which a Consul does without its port for
// gRPC over TLS: a fixed one, of which two agents on a machine would fight for.
func WithoutGRPCTLS(ctx context.Context, consul string) ([]string, error) {
	out, err := exec.CommandContext(ctx, consul, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("lab: %s version: %w", consul, err)
	}
	m := consulVersion.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("lab: %s version: no version in %.100q", consul, out)
	}
	if minor, err := strconv.Atoi(string(m[2])); err == nil && string(m[1]) == "1" && minor < grpcTLSSince {
		return nil, nil
	}
	return []string{"-grpc-tls-port=-1"}, nil
}
