package haproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Why a step was not sent, or what became of it is not known.
var (
	errEarlier = errors.New("not sent: an earlier step on this server failed")
	errNotSent = errors.New("not sent: connection to HAProxy lost at an earlier step")
)

// Apply sends the steps and gives one error, or nil, for each. Nil means that
// HAProxy took the step's commands. The steps go out in their order; those of
// different servers may share a line. Where one fails, the later ones on the
// same server are not sent: never an address before maint. Where the
// connection breaks, nothing after it is sent.
//
// An error that wraps plan.ErrRefused is permanent; one that wraps
// plan.ErrNotRunning means that no process answers.
func (c *Client) Apply(ctx context.Context, steps []plan.Step) []error {
	errs := make([]error, len(steps))
	if len(steps) == 0 {
		return errs
	}
	a := &applying{client: c, steps: steps, errs: errs, failed: map[string]bool{}}
	if a.broken = c.findOut(ctx); a.broken != nil {
		for i, step := range steps {
			errs[i] = a.broken
			c.onCommand(string(step.Kind), true)
		}
		return errs
	}
	caps, _ := c.known()
	a.manner = mannerOf(caps)
	for from := 0; from < len(steps); {
		from = a.group(ctx, from)
	}
	for i, step := range steps {
		switch {
		case step.Kind != plan.Shutdown || errs[i] != nil:
		case step.Sessions > 0:
			errs[i] = c.shutdownSome(ctx, step)
		default:
			errs[i] = c.shutdownOld(ctx, step)
		}
		c.onCommand(string(step.Kind), errs[i] != nil)
	}
	return errs
}

// findOut asks the process what it is, unless that is known already: every
// Observe finds it out again.
func (c *Client) findOut(ctx context.Context) error {
	if _, known := c.known(); known {
		return nil
	}
	i, _, err := infoAnd(ctx, repeated(c.ask), "read version")
	if err == nil {
		c.learn(i)
	}
	return err
}

// applying is one Apply under way.
type applying struct {
	client *Client
	manner manner
	steps  []plan.Step
	errs   []error         // of each step
	failed map[string]bool // servers of which a step has failed
	waits  int             // how often a wait for a server to be removable was in vain
	broken error           // set once the connection broke: nothing more is sent
}

// maxWaits is how many servers may be waited for in vain in one Apply: the
// other steps must not wait with them.
const maxWaits = 4

// pending is a step of a group and its stages that are still to be sent.
type pending struct {
	step   int
	stages []stage
}

// group sends the longest run of steps from here on in which no server comes
// twice, stage by stage, and gives the index of the first step after it. Two
// changes of one server never share a line: since 2.9 the second of two
// addresses can be lost that way (docs/haproxy-facts.md, fact 2).
func (a *applying) group(ctx context.Context, from int) int {
	var todo []pending
	seen := map[string]bool{}
	next := from
	for ; next < len(a.steps); next++ {
		step := a.steps[next]
		if seen[serverKey(step)] {
			break
		}
		seen[serverKey(step)] = true
		stages, err := stagesOf(step, a.manner, a.client.seenUp(serverKey(step)))
		if err == nil && a.failed[serverKey(step)] {
			err = errEarlier
		}
		if err != nil {
			a.fail(next, string(step.Kind)+" "+serverKey(step), err)
			continue
		}
		if len(stages) > 0 {
			todo = append(todo, pending{next, stages})
		}
	}
	for len(todo) > 0 {
		todo = a.stage(ctx, todo)
	}
	return next
}

func serverKey(s plan.Step) string { return s.Backend + "/" + s.Server }

func (a *applying) fail(step int, what string, err error) {
	if a.errs[step] == nil {
		a.errs[step] = fmt.Errorf("haproxy: %s: %w", what, err)
	}
	if blocks(a.steps[step].Kind) {
		a.failed[serverKey(a.steps[step])] = true
	}
}

// blocks reports whether the later steps on a server must not be sent where one
// of that kind has failed: never ready at a wrong address. A server with another
// weight or limit than wanted is better than none.
func blocks(k plan.Kind) bool { return k != plan.SetWeight && k != plan.SetMaxConn }

// stage sends the first stage of each pending step, in as few lines as they
// fit, and gives those that were taken and have more.
func (a *applying) stage(ctx context.Context, todo []pending) []pending {
	limit := maxCommandsOld
	if a.manner.dynamic {
		limit = maxCommands
	}
	var l line
	for _, p := range todo {
		s := p.stages[0]
		if len(l.commands) > 0 && (s.alone || l.alone || !l.fits(s.commands, limit)) {
			a.send(ctx, l)
			l = line{}
		}
		l.add(p.step, s)
	}
	a.send(ctx, l)

	var more []pending
	for _, p := range todo {
		if a.errs[p.step] == nil && len(p.stages) > 1 {
			more = append(more, pending{p.step, p.stages[1:]})
		}
	}
	return more
}

// send sends one line and judges its replies.
func (a *applying) send(ctx context.Context, l line) {
	if a.broken != nil {
		a.failAll(l, fmt.Errorf("%w: %w", errNotSent, a.broken))
		return
	}
	if a.waits >= maxWaits && l.commands[0].waits {
		l = l.from(1)
	}
	ask := a.client.ask
	if !slices.ContainsFunc(l.commands, func(c command) bool { return !c.again }) {
		ask = repeated(ask)
	}
	text, err := ask(ctx, l.texts())
	replies, complete := splitReplies(text)
	if l.alone && len(l.commands) == 1 {
		// 2.6 leaves out the empty line after some replies. Nothing else is on
		// this connection, so all of it is the reply.
		replies, complete = []string{text}, true
	}
	if err == nil && (!complete || len(replies) != len(l.commands)) {
		err = fmt.Errorf("%w: %d complete replies to %d commands: %s", ErrUnexpectedReply, len(replies), len(l.commands), excerpt(text))
	}
	if err == nil {
		a.judge(l, replies)
		return
	}
	// What came before the break counts as long as all of it is good; from the
	// first that is not, no reply can be told to belong to its command.
	passed := 0
	for passed < min(len(replies), len(l.commands)) && l.commands[passed].check(tidy(replies[passed])) == nil {
		passed++
	}
	a.failAll(l.from(passed), err)
	a.broken = err
}

func (a *applying) judge(l line, replies []string) {
	for i, command := range l.commands {
		if err := command.check(tidy(replies[i])); err != nil {
			a.fail(l.steps[i], command.name, err)
		}
		if command.waits && tidy(replies[i]) == waitExpired {
			a.waits++
		}
	}
}

func (a *applying) failAll(l line, err error) {
	for i, command := range l.commands {
		a.fail(l.steps[i], command.name, err)
	}
}

func tidy(reply string) string { return strings.TrimSpace(reply) }
