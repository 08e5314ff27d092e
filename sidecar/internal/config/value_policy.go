package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// checkType is the protocol of a health check.
type checkType struct{ p *CheckType }

func (c checkType) value() value {
	return oneOf(c.p, CheckHTTP, CheckTCP, CheckRedis, CheckPostgres, CheckMySQL)
}

func (c checkType) set(s string) error {
	if s == "grpc" {
		return errors.New("is not supported: gRPC gives its status in trailers, which HAProxy's checks do not read; use tcp, or http and the port of an HTTP health endpoint by server_options: port N")
	}
	return c.value().set(s)
}
func (c checkType) plain() any       { return string(*c.p) }
func (c checkType) target() any      { return c.p }
func (c checkType) describe() string { return c.value().describe() }

// users is a setting of NAME:HASH, which is never shown.
type users struct{ p *[]Secret }

var userHash = regexp.MustCompile(`^[A-Za-z0-9_.@-]+:\$[56]\$[A-Za-z0-9./$=]+$`)

func (u users) set(s string) error {
	switch {
	case s == "" || s == "[]":
		return u.setList(nil)
	case strings.HasPrefix(s, "["):
		return errors.New("must be a list in the file")
	}
	return u.setText(s)
}

func (u users) setText(s string) error { return u.setList([]string{s}) }

func (u users) setList(items []string) error {
	out := make([]Secret, 0, len(items))
	seen := map[string]bool{}
	for i, item := range items {
		name, _, _ := strings.Cut(item, ":")
		switch {
		case !userHash.MatchString(item):
			return fmt.Errorf("item %d must be NAME:HASH, with a name of letters, digits, '-', '_', '.' and '@', and a hash that begins with $5$ or $6$, as `openssl passwd -6` prints", i+1)
		case seen[name]:
			return fmt.Errorf("item %d: the user %s is listed twice", i+1, quote(name))
		}
		seen[name] = true
		out = append(out, Secret(item))
	}
	*u.p = out
	return nil
}
func (u users) plain() any       { return append([]Secret{}, *u.p...) }
func (u users) target() any      { return u.p }
func (u users) describe() string { return "list of secrets" }

// inSeconds is a duration that HAProxy takes in whole seconds.
type inSeconds struct{ span }

func wholeSeconds(p *time.Duration) value { return inSeconds{span{p, 0, haproxyMax}} }

func (d inSeconds) set(s string) error {
	if v, err := time.ParseDuration(s); err == nil && v%time.Second != 0 {
		return errors.New("must be whole seconds")
	}
	return d.span.set(s)
}

// wordPath passes a path that is one word of haproxy.cfg.
func wordPath(s string) error {
	if err := path(s); err != nil {
		return err
	}
	return word(s)
}

var mediaTypeForm = regexp.MustCompile(`^[A-Za-z0-9!&^_.+-]+/[A-Za-z0-9!&^_.+-]*$`)

// mediaType passes a type that HAProxy compares with the beginning of a response's.
func mediaType(s string) error {
	if !mediaTypeForm.MatchString(s) {
		return errors.New("must be a media type such as text/html, or its beginning such as text/")
	}
	return nil
}

// atMost bounds a list that stands on one line of haproxy.cfg.
func atMost(n int) func([]string) error {
	return func(items []string) error {
		if len(items) > n {
			return fmt.Errorf("has %d items; at most %d are possible", len(items), n)
		}
		return nil
	}
}
