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

var consulVersion = regexp.MustCompile(`Consul v?((\d+)\.(\d+)\S*)`)

// ConsulVersion is what the program says it is, as 1.8.7+dfsg1.
func ConsulVersion(ctx context.Context, consul string) (string, error) {
	m, err := askVersion(ctx, consul)
	if err != nil {
		return "", err
	}
	return m[1], nil
}

func askVersion(ctx context.Context, consul string) ([]string, error) {
	out, err := exec.CommandContext(ctx, consul, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("lab: %s version: %w", consul, err)
	}
	m := consulVersion.FindStringSubmatch(string(out))
	if m == nil {
		return nil, fmt.Errorf("lab: %s version: no version in %.100q", consul, out)
	}
	return m, nil
}

// WithoutGRPCTLS returns the flags by which a Consul does without its port for
// gRPC over TLS: a fixed one, of which two agents on a machine would fight for.
func WithoutGRPCTLS(ctx context.Context, consul string) ([]string, error) {
	m, err := askVersion(ctx, consul)
	if err != nil {
		return nil, err
	}
	if minor, err := strconv.Atoi(m[3]); err == nil && m[2] == "1" && minor < grpcTLSSince {
		return nil, nil
	}
	return []string{"-grpc-tls-port=-1"}, nil
}
