package runner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// Shell runs commands of the operator's own.
type Shell struct {
	Runner
	StartCommand, StopCommand string // for sh -c
	// Once runs a command once for all nodes of a wave, and not for each.
	Once bool

	given map[string]bool // the IDs that new nodes were given
}

// maxCommands is how many commands of a wave run at a time.
const maxCommands = 8

var _ deploy.Nodes = (*Shell)(nil)

// Start implements deploy.Nodes.
func (s *Shell) Start(ctx context.Context, what deploy.Start) error {
	facts := func(ids []string, first int) []string {
		return environment(map[string]string{
			"SERVICE": what.Service, "VERSION": what.Version, "OLD_VERSION": what.OldVersion,
			"COUNT": strconv.Itoa(what.Total), "BATCH": strconv.Itoa(len(ids)),
			"NODE_INDEX": strconv.Itoa(first), "INSTANCE": strings.Join(ids, " "),
		})
	}
	if s.given == nil {
		s.given = map[string]bool{}
	}
	for _, id := range what.IDs {
		s.given[id] = true
	}
	if s.Once {
		return s.sh(ctx, "start", s.StartCommand, facts(what.IDs, what.First))
	}
	return many(len(what.IDs), func(i int) error {
		n := what.First + i
		return s.sh(ctx, fmt.Sprintf("start %d", n), s.StartCommand, facts(what.IDs[i:i+1], n))
	})
}

// Started implements deploy.Nodes: a new node has the ID that it was given, which
// others can't know before.
func (s *Shell) Started(_ context.Context, list []deploy.Instance) (map[deploy.Key]string, error) {
	nodes := map[deploy.Key]string{}
	for _, i := range list {
		if s.given[i.ID] {
			nodes[i.Key()] = i.ID
		}
	}
	return nodes, nil
}

// Stop implements deploy.Nodes.
func (s *Shell) Stop(ctx context.Context, what deploy.Stop) error {
	// A node that has not registered is one that has an ID and nothing else.
	all := append([]deploy.Instance{}, what.Instances...)
	for _, id := range what.Missing {
		all = append(all, deploy.Instance{ID: id})
	}
	if s.Once {
		return s.sh(ctx, "stop", s.StopCommand, stopFacts(what, all))
	}
	return many(len(all), func(i int) error {
		if what.May != nil && !what.May() {
			return &deploy.StopError{Instance: all[i].Key(), Err: deploy.ErrKept}
		}
		err := s.sh(ctx, "stop "+all[i].ID, s.StopCommand, stopFacts(what, all[i:i+1]))
		if err != nil {
			return &deploy.StopError{Instance: all[i].Key(), Err: err}
		}
		return nil
	})
}

func stopFacts(what deploy.Stop, list []deploy.Instance) []string {
	var ids, addresses []string
	version, node := "", ""
	for _, i := range list {
		ids, addresses = append(ids, i.ID), append(addresses, i.Address)
		version, node = i.Version, i.Node
	}
	undo := ""
	if what.Undo {
		undo = "1"
	}
	return environment(map[string]string{
		"SERVICE": what.Service, "VERSION": what.Version, "OLD_VERSION": version,
		"COUNT": strconv.Itoa(what.Total), "BATCH": strconv.Itoa(len(list)),
		"INSTANCE": strings.Join(ids, " "), "ADDRESS": strings.Join(addresses, " "), "NODE": node, "UNDO": undo,
	})
}

// sh runs one command by a shell.
func (s *Shell) sh(ctx context.Context, label, command string, facts []string) error {
	return s.run(ctx, label, facts, "/bin/sh", "-c", command)
}

// Prefix is what the variables of a command begin with, and Facts is the rest
// of their names.
const Prefix = "DEPLOY_"

// Facts are a command's variables; docs/deploy.md explains them.
var Facts = []string{"SERVICE", "VERSION", "OLD_VERSION", "COUNT", "BATCH", "NODE_INDEX", "INSTANCE", "ADDRESS", "NODE", "UNDO"}

// environment makes variables of facts. IDs have been checked; a version or a
// node's name of the catalog may be anything, and is left out if it isn't safe.
func environment(facts map[string]string) []string {
	out := make([]string, 0, len(facts))
	for name, value := range facts {
		switch name {
		case "OLD_VERSION", "NODE":
			if deploy.CheckWord(value) != nil {
				value = ""
			}
		}
		out = append(out, Prefix+name+"="+value)
	}
	return out
}

// many does n things, some at a time, and joins the errors in their order.
func many(n int, do func(i int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, maxCommands)
	var all sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
