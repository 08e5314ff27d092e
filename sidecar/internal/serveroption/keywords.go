package serveroption

import "slices"

// keyword is what is known of one keyword of a server line.
type keyword struct {
	args     int    // how many words follow; variable: as many as are no keyword
	fileOnly bool   // `add server` of HAProxy 3.0 to 3.4 does not take it
	file     bool   // its argument is a file's path
	refused  string // why it is never taken; "" if it may be
}

// variable is the number of arguments of `source`.
const variable = -1

// length is how many words the keyword and its arguments are.
func (k keyword) length(words []string) int {
	if k.args != variable {
		return 1 + k.args
	}
	n := 2 // the address
	for n < len(words) && slices.Contains([]string{"usesrc", "interface"}, words[n]) {
		n += 2
	}
	return n
}

const (
	byPointsman = "Pointsman sets it from Consul"
	unique      = "it must differ for each server"
	addresses   = "Pointsman gives HAProxy addresses, never host names"
	noTraffic   = "it is not for servers that take HTTP or TCP traffic"
	noDefault   = "it has no effect without default-server; leave it out"
)

// keywords is every keyword of HAProxy 2.6 to 3.4 (`add server help` of 3.4,
// and section 5.2 of the manual). A test compares it with what HAProxy prints.
var keywords = map[string]keyword{
	"addr": {args: 1}, "agent-addr": {args: 1}, "agent-check": {}, "agent-inter": {args: 1},
	"agent-port": {args: 1}, "agent-send": {args: 1}, "allow-0rtt": {}, "alpn": {args: 1},
	"ca-file": {args: 1, file: true}, "check-alpn": {args: 1}, "check-pool-conn-name": {args: 1},
	"check-proto": {args: 1}, "check-reuse-pool": {}, "check-send-proxy": {}, "check-sni": {args: 1},
	"check-ssl": {}, "check-via-socks4": {}, "ciphers": {args: 1}, "ciphersuites": {args: 1},
	"client-sigalgs": {args: 1}, "crl-file": {args: 1, file: true}, "crt": {args: 1, file: true},
	"curves": {args: 1}, "downinter": {args: 1}, "error-limit": {args: 1}, "fall": {args: 1},
	"fastinter": {args: 1}, "force-sslv3": {}, "force-tlsv10": {}, "force-tlsv11": {},
	"force-tlsv12": {}, "force-tlsv13": {}, "idle-ping": {args: 1},
	"init-state": {args: 1}, "inter": {args: 1}, "ktls": {args: 1}, "maxconn": {args: 1},
	"maxqueue": {args: 1}, "no-check-sni-auto": {}, "no-renegotiate": {}, "no-sni-auto": {}, "no-ssl-reuse": {}, "no-sslv3": {},
	"no-tls-tickets": {}, "no-tlsv10": {}, "no-tlsv11": {}, "no-tlsv12": {}, "no-tlsv13": {},
	"npn": {args: 1}, "observe": {args: 1}, "on-error": {args: 1}, "on-marked-down": {args: 1},
	"on-marked-up": {args: 1}, "pool-conn-name": {args: 1}, "pool-low-conn": {args: 1},
	"pool-max-conn": {args: 1}, "pool-purge-delay": {args: 1}, "port": {args: 1}, "proto": {args: 1},
	"proxy-v2-options": {args: 1}, "renegotiate": {}, "rise": {args: 1}, "send-proxy": {},
	"send-proxy-v2": {}, "send-proxy-v2-ssl": {}, "send-proxy-v2-ssl-cn": {},
	"set-proxy-v2-tlv-fmt": {args: 1}, "sigalgs": {args: 1}, "slowstart": {args: 1}, "sni": {args: 1},
	"source": {args: variable}, "ssl": {}, "ssl-max-ver": {args: 1}, "ssl-min-ver": {args: 1},
	"tfo": {}, "tls-tickets": {}, "verify": {args: 1},
	"verifyhost": {args: 1}, "ws": {args: 1},

	"cc": {args: 1, fileOnly: true}, "check-sni-auto": {fileOnly: true}, "max-reuse": {args: 1, fileOnly: true},
	"namespace": {args: 1, fileOnly: true}, "no-check-send-proxy": {fileOnly: true}, "no-check-ssl": {fileOnly: true}, "non-stick": {fileOnly: true}, "redir": {args: 1, fileOnly: true},
	"sni-auto": {fileOnly: true}, "socks4": {args: 1, fileOnly: true}, "ssl-reuse": {fileOnly: true},
	"stick": {fileOnly: true}, "tcp-ut": {args: 1, fileOnly: true},

	"backup":         {refused: byPointsman + ": meta \"backup\" of an instance"},
	"check":          {refused: "set check.enabled"},
	"no-check":       {refused: "set check.enabled: false"},
	"cookie":         {refused: unique + "; for sticky sessions set sticky.cookie"},
	"disabled":       {refused: byPointsman + ": maintenance mode or failing checks"},
	"enabled":        {refused: byPointsman + ": passing checks"},
	"guid":           {refused: unique},
	"hash-key":       {refused: "HAProxy 3.0 to 3.3 ignores it for a server added at runtime"},
	"id":             {refused: unique},
	"minconn":        {refused: "a change of maxconn at runtime would change it too; set maxconn alone"},
	"healthcheck":    {refused: "it needs a section that the settings cannot have; set check.type"},
	"strict-maxconn": {refused: "with health checks HAProxy 3.2 and 3.4 answer every request with 503; set maxconn alone"},
	"track":          {refused: "all servers of the service would have the state of one other server"},
	"weight":         {refused: byPointsman + ": Weights of an instance's registration"},

	"init-addr": {refused: addresses}, "resolve-net": {refused: addresses}, "resolve-opts": {refused: addresses},
	"resolve-prefer": {refused: addresses}, "resolvers": {refused: addresses},
	"log-bufsize": {refused: noTraffic}, "log-proto": {refused: noTraffic}, "shard": {refused: noTraffic},
	"usesrc": {refused: "it follows the address of \"source\""},

	"no-agent-check": {refused: noDefault}, "no-backup": {refused: noDefault}, "no-check-reuse-pool": {refused: noDefault},
	"no-send-proxy": {refused: noDefault}, "no-send-proxy-v2": {refused: noDefault},
	"no-send-proxy-v2-ssl": {refused: noDefault}, "no-send-proxy-v2-ssl-cn": {refused: noDefault},
	"no-ssl": {refused: noDefault}, "no-tfo": {refused: noDefault}, "no-verifyhost": {refused: noDefault},
}
