package config

import (
	"regexp"
	"strconv"
)

// Error is one thing that is wrong with one setting. What Load returns joins
// all of them; errors.As finds the first.
type Error struct {
	Key    string // such as consul.wait or services[api].bind; "" if it is not about one
	Value  string // as given; "" if there is none, *** for a secret
	Source string // such as sidecar.yaml:12, POINTSMAN_CONSUL_WAIT or --consul-address
	Reason string
}

// maxShown is how many bytes of a value an error shows.
const maxShown = 100

// Error returns source, key, value and reason on one line, in that order: the
// source first, as compilers do, so that editors find the place.
func (e *Error) Error() string {
	out := ""
	if e.Source != "" {
		out = e.Source + ": "
	}
	if e.Key != "" {
		out += e.Key
		if e.Value != "" {
			out += " " + quote(e.Value)
		}
		out += ": "
	}
	return out + e.Reason
}

func quote(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(s[:maxShown]) + "…"
	}
	return strconv.Quote(s)
}

// userInfo is "user:password@", where an address has it.
var userInfo = regexp.MustCompile(`^((?:\w+://)?)[^/@\s]*?:[^@\s]*@`)

// withoutPassword masks who an address says that it comes as. No setting takes
// such an address, and so the error that refuses it would show the password.
func withoutPassword(value string) string { return userInfo.ReplaceAllString(value, "${1}"+mask+"@") }
