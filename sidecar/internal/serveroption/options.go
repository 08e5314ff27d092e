// Package serveroption knows the keywords of HAProxy's server lines
// (configuration manual, section 5.2) and what each of them means for a server
// that is added at runtime.
//
// Its invariant: words that Parse takes give the same server in haproxy.cfg and
// by `add server`. A runtime server inherits nothing, so what HAProxy derives on
// a server's line of the file is written out. It is a leaf: no imports of ours,
// no I/O.
package serveroption

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Options is the checked server_options of one service.
type Options struct {
	words []string

	MaxConn int    // connection limit of a server whose instance sets none; 0 is no limit
	Files   string // the keywords that name files, with their arguments: `add server` takes only files that haproxy.cfg has loaded
}

// String returns the words as they stand on a server's line, in haproxy.cfg and
// behind `add server` alike. The connection limit is not among them.
func (o Options) String() string { return strings.Join(o.words, " ") }

// Parse checks the words of server_options. inFile says that the servers of the
// service are always in haproxy.cfg (slots), so that a keyword is good which
// `add server` does not take. The error names the keyword, why it is refused,
// and what to use in its place.
func Parse(text string, inFile bool) (Options, error) {
	var o Options
	var c connection
	words := strings.Fields(text)
	for len(words) > 0 {
		name, _, _ := strings.Cut(words[0], "(") // set-proxy-v2-tlv-fmt(0x20)
		k, known := keywords[name]
		switch {
		case !known:
			return Options{}, fmt.Errorf("unknown keyword %q; docs/server-options.md lists the supported ones", words[0])
		case k.refused != "":
			return Options{}, fmt.Errorf("%q is not supported: %s", words[0], k.refused)
		case k.fileOnly && !inFile:
			return Options{}, fmt.Errorf("%q is not supported: HAProxy does not take it for a server added at runtime; slots.force: true keeps all servers in haproxy.cfg", words[0])
		}
		n := k.length(words)
		if n > len(words) {
			return Options{}, fmt.Errorf("%q needs %d argument(s)", words[0], max(1, k.args))
		}
		if err := o.take(words[:n]); err != nil {
			return Options{}, err
		}
		c.take(words[0])
		if k.file {
			o.Files = strings.TrimSpace(o.Files + " " + strings.Join(words[:n], " "))
		}
		words = words[n:]
	}
	if slices.Contains(o.words, "agent-check") && !slices.Contains(o.words, "agent-port") {
		return Options{}, errors.New(`"agent-check" needs "agent-port"`)
	}
	o.words = append(o.words, c.derived()...)
	return o, nil
}

// Keywords returns the keywords among the words of a server's line, without their
// arguments.
func Keywords(text string) (names []string) {
	for words := strings.Fields(text); len(words) > 0; {
		name, _, _ := strings.Cut(words[0], "(")
		names = append(names, name)
		words = words[min(keywords[name].length(words), len(words)):]
	}
	return names
}

// maxMaxConn is the highest limit that an instance's meta can have, too.
const maxMaxConn = 1_000_000

// take adds a keyword with its arguments. The connection limit differs by
// instance, so it is written on each server's line by itself.
func (o *Options) take(words []string) error {
	if words[0] != "maxconn" {
		o.words = append(o.words, words...)
		return nil
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 0 || n > maxMaxConn {
		return fmt.Errorf("\"maxconn\": %q is not a number of 0 to %d", words[1], maxMaxConn)
	}
	o.MaxConn = n
	return nil
}

// connection is what the words say of TLS and of the PROXY protocol to the
// server, and of its checks.
type connection struct {
	tls, proxy           bool
	checkTLS, checkProxy bool // said, for or against
	elsewhere            bool // the check goes to another address or port
}

func (c *connection) take(keyword string) {
	switch keyword {
	case "ssl":
		c.tls = true
	case "check-ssl", "no-check-ssl":
		c.checkTLS = true
	case "send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn":
		c.proxy = true
	case "check-send-proxy", "no-check-send-proxy":
		c.checkProxy = true
	case "addr", "port":
		c.elsewhere = true
	}
}

// derived returns the words that HAProxy derives for a server of its file and not
// for one added at runtime: the check of a server takes its TLS and its PROXY
// protocol, unless it goes elsewhere (manual 5.2, "check"; docs/compatibility.md
// has the versions in which that was seen).
func (c *connection) derived() (words []string) {
	if c.elsewhere {
		return nil
	}
	if c.tls && !c.checkTLS {
		words = append(words, "check-ssl")
	}
	if c.proxy && !c.checkProxy {
		words = append(words, "check-send-proxy")
	}
	return words
}
