package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// list is a setting of several strings. A single string stands for a list of
// one, and an empty one for the empty list.
type list struct {
	p     *[]string
	what  string // for the reference
	item  func(string) error
	whole func([]string) error // or nil

	// block lists are lines of a file: a text of several lines is a list.
	block bool
}

// set takes one item, or a list in YAML's flow style, as flags and the
// environment have to write it.
func (l list) set(s string) error {
	switch {
	case s == "":
		return l.setList([]string{})
	case strings.HasPrefix(s, "["):
		var items []string
		if err := yaml.Unmarshal([]byte(s), &items); err != nil {
			return errors.New(`must be one item or a list such as ["a", "b"]`)
		}
		return l.setList(items)
	}
	return l.setText(s)
}

// setText takes one item, or a block of lines.
func (l list) setText(s string) error {
	if !l.block {
		return l.setList([]string{s})
	}
	var items []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			items = append(items, line)
		}
	}
	return l.setList(items)
}

func (l list) setList(items []string) error {
	for i, item := range items {
		if err := l.item(item); err != nil {
			return fmt.Errorf("item %d, %s: %w", i+1, quote(item), err)
		}
	}
	if l.whole != nil {
		if err := l.whole(items); err != nil {
			return err
		}
	}
	*l.p = slices.Clone(items)
	return nil
}

func (l list) plain() any {
	if *l.p == nil {
		return []string{}
	}
	return *l.p
}
func (l list) target() any      { return l.p }
func (l list) describe() string { return l.what }
