package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// beginsSection reports whether a word begins a section of haproxy.cfg.
func beginsSection(s string) bool {
	switch s {
	case "global", "defaults", "frontend", "backend", "listen",
		"peers", "resolvers", "mailers", "userlist", "cache",
		"program", "ring", "http-errors", "log-forward", "fcgi-app",
		"crt-store", "acme", "traces", "log-profile", "healthcheck":
		return true
	}
	return false
}

// extraLine passes a line that is put into a section of haproxy.cfg as it is.
// It may quote and comment, but not leave its section.
func extraLine(s string) error {
	if err := oneLine(s); err != nil {
		return err
	}
	if fields := strings.Fields(s); len(fields) > 0 && beginsSection(fields[0]) {
		return fmt.Errorf("begins another section of haproxy.cfg (%s): only lines of this one can be added", fields[0])
	}
	return nil
}

// bind passes a bind line's words: an address, and perhaps options.
func bind(s string) error {
	if err := oneLine(s); err != nil {
		return err
	}
	if strings.ContainsAny(s, "#") {
		return errors.New("must not hold a comment")
	}
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return errors.New("must not be empty")
	}
	_, err := bindAddress(fields[0])
	return err
}

// bindAddress parses the address of a bind line and gives it in one spelling,
// so that two that mean the same are equal.
func bindAddress(s string) (string, error) {
	if strings.HasPrefix(s, "/") {
		return s, socket(s)
	}
	at, err := bindAddrPort(s)
	return at.String(), err
}

// bindAddrPort parses the address of a bind line that is no path. Words after
// the address do not matter.
func bindAddrPort(s string) (netip.AddrPort, error) {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " ")
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.AddrPort{}, errors.New("must be address:port, such as *:80 or 127.0.0.1:8080, or a path")
	}
	host, port := s[:i], s[i+1:]
	if err := portNumber(port, false); err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" || host == "*" {
		host = "0.0.0.0"
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if err != nil {
		return netip.AddrPort{}, errors.New("must be an IP address or *, and a port")
	}
	n, _ := strconv.Atoi(port) // portNumber has parsed it
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

// urlPath passes a path in a URL.
func urlPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return errors.New("must begin with '/'")
	}
	return word(s)
}

// octalMode passes the mode of a file.
func octalMode(s string) error {
	if n, err := strconv.ParseUint(s, 8, 16); err != nil || n > 0o777 {
		return errors.New("must be a file's mode in octal, such as 660")
	}
	return nil
}

// retryable reports whether HAProxy 2.6's retry-on takes the word (its manual,
// section 4.2).
func retryable(s string) bool {
	switch s {
	case "none", "conn-failure", "empty-response", "junk-response",
		"response-timeout", "0rtt-rejected", "all-retryable-errors",
		"401", "403", "404", "408", "425", "500", "501", "502", "503", "504":
		return true
	}
	return false
}

func retryOn(s string) error {
	if strings.ContainsRune(s, ' ') {
		return fmt.Errorf("must be a list: [%s]", strings.Join(strings.Fields(s), ", "))
	}
	if !retryable(s) {
		return errors.New("is nothing that HAProxy's retry-on takes")
	}
	return nil
}

// balance passes the words after "balance".
func balance(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	return plainWords(s)
}
