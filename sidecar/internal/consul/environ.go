package consul

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// WithEnviron gives o with every setting that is still unset taken from the
// variables that Consul's own CLI reads (developer.hashicorp.com/consul/commands,
// "Environment Variables"). environ has the form of os.Environ; the last of two
// entries with one name wins.
//
// A token file or token that is set keeps both of the environment's out; where
// neither is, the file wins, as in the CLI. The error joins one line for every
// variable that cannot be read. Secrets are never in it.
func (o Options) WithEnviron(environ []string) (Options, error) {
	env := make(map[string]string)
	for _, e := range environ {
		if k, v, ok := strings.Cut(e, "="); ok && strings.HasPrefix(k, "CONSUL_") {
			env[k] = v
		}
	}
	fill := func(field *string, key string) {
		if *field == "" {
			*field = env[key]
		}
	}
	if o.Token == "" && o.TokenFile == "" {
		o.TokenFile, o.Token = env[api.HTTPTokenFileEnvName], env[api.HTTPTokenEnvName]
	}
	fill(&o.Address, api.HTTPAddrEnvName)
	fill(&o.HTTPAuth, api.HTTPAuthEnvName)
	fill(&o.CAFile, api.HTTPCAFile)
	fill(&o.CAPath, api.HTTPCAPath)
	fill(&o.CertFile, api.HTTPClientCert)
	fill(&o.KeyFile, api.HTTPClientKey)
	fill(&o.ServerName, api.HTTPTLSServerName)
	fill(&o.Namespace, api.HTTPNamespaceEnvName)
	fill(&o.Partition, api.HTTPPartitionEnvName)

	ssl, errSSL := boolean(env, api.HTTPSSLEnvName, false)
	if ssl && o.Scheme == "" {
		o.Scheme = schemeHTTPS
	}
	verify, errVerify := boolean(env, api.HTTPSSLVerifyEnvName, true)
	o.InsecureSkipVerify = o.InsecureSkipVerify || !verify
	return o, errors.Join(errSSL, errVerify)
}

func boolean(env map[string]string, key string, otherwise bool) (bool, error) {
	v := env[key]
	if v == "" {
		return otherwise, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return otherwise, fmt.Errorf("consul: environment variable %s: %q is not a Boolean (true or false)", key, v)
	}
	return b, nil
}
