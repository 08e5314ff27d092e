package haproxy

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// The kinds of commands, for those who count them.
const (
	readMap   = "read_map"
	findEntry = "find_entry"
	updateMap = "update_map"
)

// unknownMap is the answer where no map of the file's name is loaded.
const unknownMap = "Unknown map identifier."

// unknownMapError is an ErrUnexpectedReply with which reconcile.Maps says that HAProxy does
// not have the map.
type unknownMapError struct{ error }

func (e unknownMapError) Unwrap() error    { return e.error }
func (unknownMapError) IsUnknownMap() bool { return true }

// ReadMap returns the entries of a map, which is named by its file, as lookups see
// them.
func (c *Client) ReadMap(ctx context.Context, file string) ([]route.Entry, error) {
	text, err := repeated(c.ask)(ctx, []string{"show map " + file})
	c.onCommand(readMap, err != nil)
	if err != nil {
		return nil, fmt.Errorf("haproxy: show map %s: %w", file, err)
	}
	entries, err := parseMap(text)
	if err != nil {
		return nil, fmt.Errorf("haproxy: show map %s: %w", file, err)
	}
	return entries, nil
}

// parseMap reads the answer to `show map`: a pointer, the key and the value on each
// line, and an empty line at the end.
func parseMap(text string) ([]route.Entry, error) {
	body, complete := strings.CutSuffix(text, "\n\n")
	switch {
	case strings.TrimSpace(text) == "" && strings.HasSuffix(text, "\n"):
		return nil, nil
	case strings.HasPrefix(text, unknownMap):
		return nil, unknownMapError{unexpected(strings.TrimSpace(text))}
	case !complete:
		return nil, errCutOff
	}
	var entries []route.Entry
	for line := range strings.SplitSeq(body, "\n") {
		words := strings.SplitN(line, " ", 3)
		if len(words) != 3 || !strings.HasPrefix(words[0], "0x") {
			return nil, unexpected(line)
		}
		entries = append(entries, route.Entry{Key: strings.Clone(words[1]), Value: strings.Clone(words[2])})
	}
	return entries, nil
}

// FindEntry returns the entry that a lookup of a key finds in a map: that of the key, else
// of the longest one that it begins with. It is zero if there is none.
func (c *Client) FindEntry(ctx context.Context, file, key string) (route.Entry, error) {
	command := fmt.Sprintf("get map %s %s", file, key)
	text, err := repeated(c.ask)(ctx, []string{command})
	c.onCommand(findEntry, err != nil)
	var e route.Entry
	if err == nil {
		e, err = parseEntry(text)
	}
	if err != nil {
		return route.Entry{}, fmt.Errorf("haproxy: %s: %w", command, err)
	}
	return e, nil
}

// foundEntry is the answer to `get map` where there is an entry, foundNone where not.
var (
	foundEntry = regexp.MustCompile(`^type=beg, case=sensitive, found=yes, idx=tree, key="([^"]+)", value="([^"]+)", type="str"$`)
	foundNone  = "type=beg, case=sensitive, found=no"
)

// parseEntry reads the answer to `get map`, for a map that lookups by map_beg go into.
func parseEntry(text string) (route.Entry, error) {
	line, complete := strings.CutSuffix(text, "\n\n")
	if !complete {
		return route.Entry{}, errCutOff
	}
	if m := foundEntry.FindStringSubmatch(line); m != nil {
		return route.Entry{Key: m[1], Value: m[2]}, nil
	}
	if line != foundNone {
		return route.Entry{}, unexpected(line)
	}
	return route.Entry{}, nil
}

// UpdateMap brings a map to what is wanted: one key by one command, several at one
// moment, by a new version that is committed when it is whole. Nil means that
// HAProxy took the commands.
func (c *Client) UpdateMap(ctx context.Context, file string, u route.Update, want route.Table) error {
	err := c.updateMap(ctx, file, u, want)
	c.onCommand(updateMap, err != nil)
	if err != nil {
		return fmt.Errorf("haproxy: map %s: %w", file, err)
	}
	return nil
}

func (c *Client) updateMap(ctx context.Context, file string, u route.Update, want route.Table) error {
	if u.Replace {
		return c.replaceMap(ctx, file, want)
	}
	for _, change := range u.Changes {
		if err := c.sendMap(ctx, []string{commandOf(file, change)}, silent); err != nil {
			return err
		}
	}
	return nil
}

// commandOf changes one key of a map.
func commandOf(file string, change route.Change) string {
	switch change.Kind {
	case route.Set:
		return fmt.Sprintf("set map %s %s %s", file, change.Key, change.Value)
	case route.Del:
		return fmt.Sprintf("del map %s %s", file, change.Key)
	default:
		return fmt.Sprintf("add map %s %s %s", file, change.Key, change.Value)
	}
}

// newVersion is the answer to `prepare map`.
var newVersion = regexp.MustCompile(`^New version created: (\d+)$`)

// replaceMap fills a new version and commits it: lookups see the old one until
// then (docs/haproxy-facts.md, fact 34). What is broken off stays unseen, and the
// next commit removes it.
func (c *Client) replaceMap(ctx context.Context, file string, want route.Table) error {
	version := ""
	if err := c.sendMap(ctx, []string{"prepare map " + file}, func(reply string) error {
		m := newVersion.FindStringSubmatch(reply)
		if m == nil {
			return unexpected(reply)
		}
		version = m[1]
		return nil
	}); err != nil {
		return err
	}
	limit := maxCommands
	if caps, _ := c.known(); !caps.Dynamic {
		limit = maxCommandsOld
	}
	var commands []string
	bytes := 0
	for _, e := range want {
		text := fmt.Sprintf("add map @%s %s %s %s", version, file, e.Key, e.Value)
		if len(commands) == limit || bytes+len(text)+perCommand > maxLine {
			if err := c.sendMap(ctx, commands, silent); err != nil {
				return err
			}
			commands, bytes = commands[:0], 0
		}
		commands, bytes = append(commands, text), bytes+len(text)+perCommand
	}
	if len(commands) > 0 {
		if err := c.sendMap(ctx, commands, silent); err != nil {
			return err
		}
	}
	return c.sendMap(ctx, []string{fmt.Sprintf("commit map @%s %s", version, file)}, silent)
}

// sendMap sends one line and judges each reply.
func (c *Client) sendMap(ctx context.Context, commands []string, check func(string) error) error {
	text, err := c.ask(ctx, commands)
	if err != nil {
		return err
	}
	replies, err := eachReply(text, len(commands))
	if err != nil {
		return err
	}
	for i, reply := range replies {
		if err := check(tidy(reply)); err != nil {
			return fmt.Errorf("%s: %w", commands[i], err)
		}
	}
	return nil
}
