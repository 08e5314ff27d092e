package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// Compose starts and stops the containers of a service of Docker Compose.
//
// New ones start beside the old: `up` with --no-recreate and a larger scale.
// The old ones are stopped and removed one by one, and not by a smaller scale,
// which lets Compose choose. What it would do on its own, where the version has
// changed, is to stop all of them before it starts others.
type Compose struct {
	Runner
	Service string // in the Compose file
	// Variable is the one in the Compose file that says the version.
	Variable string

	before map[string]bool // containers that were there first
	fresh  []string        // that the last Start has made
	made   []string        // that any Start has made
}

var _ deploy.Nodes = (*Compose)(nil)

// Size is how many containers there are, those that have ended counted in.
func (c *Compose) Size(ctx context.Context) (int, error) {
	all, err := c.containers(ctx)
	return len(all), err
}

// Start implements deploy.Nodes. Containers that have ended start again, too,
// which `up` can't be told not to do.
func (c *Compose) Start(ctx context.Context, what deploy.Start) error {
	was, err := c.containers(ctx)
	if err != nil {
		return err
	}
	c.remember(was)
	scale := fmt.Sprintf("%s=%d", c.Service, len(was)+len(what.IDs))
	err = c.run(ctx, "docker compose up", c.version(what.Version),
		"docker", "compose", "up", "-d", "--no-deps", "--no-recreate", "--scale", scale, c.Service)
	// Also what it has made before it failed, or was interrupted, is ours.
	now, listErr := c.containers(context.WithoutCancel(ctx))
	if listErr != nil && err == nil {
		err = listErr
	}
	c.fresh = slices.DeleteFunc(now, func(id string) bool { return slices.Contains(was, id) })
	c.made = append(c.made, c.fresh...)
	return err
}

// Started implements deploy.Nodes: a new node is in a container that was made.
func (c *Compose) Started(ctx context.Context, list []deploy.Instance) (map[deploy.Key]string, error) {
	known, err := c.inspect(ctx, c.made)
	nodes := map[deploy.Key]string{}
	for _, i := range list {
		if box, found := find(known, i); found {
			nodes[i.Key()] = box.ID
		}
	}
	return nodes, err
}

// Stop implements deploy.Nodes.
func (c *Compose) Stop(ctx context.Context, what deploy.Stop) error {
	all, err := c.containers(ctx)
	if err != nil {
		return err
	}
	c.remember(all)
	known, err := c.inspect(ctx, all)
	if what.Undo {
		ids, errs := c.toUndo(what, known)
		ids = append(ids, slices.DeleteFunc(slices.Clone(c.fresh), func(id string) bool { return !slices.Contains(all, id) })...)
		slices.Sort(ids)
		return errors.Join(append(errs, err, c.remove(ctx, slices.Compact(ids)))...)
	}
	if err != nil {
		return err
	}
	stays := staying(known, what.Keep)
	var ids []string
	for _, i := range what.Instances {
		box, found := find(known, i)
		switch {
		case !found:
			return c.notFound(i)
		case stays[box.ID] || slices.Contains(c.made, box.ID):
			return &deploy.StopError{Instance: i.Key(), Err: fmt.Errorf("its address %s is that of a new container", i.Address)}
		}
		ids = append(ids, box.ID)
	}
	if what.Last {
		ids = append(ids, c.leftovers(known, stays)...)
	}
	slices.Sort(ids)
	return c.remove(ctx, slices.Compact(ids))
}

// toUndo returns the containers of new instances: those that this process has made, and of a
// run before those that have an instance.
func (c *Compose) toUndo(what deploy.Stop, known []container) (ids []string, errs []error) {
	// One that has ended has no address by which its instance could be found.
	ended := 0
	for _, box := range known {
		if slices.Contains(c.fresh, box.ID) && !box.hasAddress() {
			ended++
		}
	}
	stays := staying(known, what.Keep)
	for _, i := range what.Instances {
		switch box, found := find(known, i); {
		case found && stays[box.ID] && !slices.Contains(c.fresh, box.ID):
			errs = append(errs, &deploy.StopError{Instance: i.Key(), Err: fmt.Errorf("its address %s is that of a container that stays", i.Address)})
		case found:
			ids = append(ids, box.ID)
		case ended > 0:
			ended--
		default:
			errs = append(errs, c.notFound(i))
		}
	}
	return ids, errs
}

func (c *Compose) notFound(i deploy.Instance) error {
	return &deploy.StopError{Instance: i.Key(), Err: fmt.Errorf("no container of the Compose service %s has the address %s", c.Service, i.Address)}
}

// staying returns the containers of instances that stay, by ID.
func staying(known []container, keep []deploy.Instance) map[string]bool {
	stays := map[string]bool{}
	for _, i := range keep {
		if box, found := find(known, i); found {
			stays[box.ID] = true
		}
	}
	return stays
}

// leftovers returns the containers of before that have no instance that stays:
// those that had ended, and have been started again or have not.
func (c *Compose) leftovers(known []container, stays map[string]bool) (ids []string) {
	for _, box := range known {
		if c.before[box.ID] && !stays[box.ID] {
			ids = append(ids, box.ID)
		}
	}
	return ids
}

// remember keeps what was there first.
func (c *Compose) remember(ids []string) {
	if c.before != nil {
		return
	}
	c.before = map[string]bool{}
	for _, id := range ids {
		c.before[id] = true
	}
}

// remove stops containers, with the time that the Compose file gives them, and
// removes them.
func (c *Compose) remove(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := c.run(ctx, "docker stop", nil, "docker", append([]string{"stop"}, ids...)...); err != nil {
		return err
	}
	return c.run(ctx, "docker rm", nil, "docker", append([]string{"rm"}, ids...)...)
}

// containers returns the IDs of the service's containers, sorted.
func (c *Compose) containers(ctx context.Context) ([]string, error) {
	out, err := c.output(ctx, "docker", "compose", "ps", "--quiet", "--all", c.Service)
	ids := strings.Fields(out)
	slices.Sort(ids)
	return ids, err
}

func (c *Compose) version(v string) []string { return []string{c.Variable + "=" + v} }

// container is what Docker says of one.
type container struct {
	ID     string `json:"Id"`
	Name   string
	Config struct{ Hostname string }

	NetworkSettings struct {
		Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
}

func (c *container) hasAddress() bool {
	for _, n := range c.NetworkSettings.Networks {
		if n.IPAddress != "" || n.GlobalIPv6Address != "" {
			return true
		}
	}
	return false
}

func (c *Compose) inspect(ctx context.Context, ids []string) (known []container, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := c.output(ctx, "docker", append([]string{"inspect", "--type", "container"}, ids...)...)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(out), &known); err != nil {
		return nil, fmt.Errorf("docker inspect: %w", err)
	}
	return known, nil
}

// find returns the container that an instance is: the one that has its address,
// else, as on the host's network, the one whose name or host name is its ID.
func find(known []container, i deploy.Instance) (container, bool) {
	host, _, err := net.SplitHostPort(i.Address)
	if err == nil {
		for _, box := range known {
			for _, n := range box.NetworkSettings.Networks {
				if host == n.IPAddress || host == n.GlobalIPv6Address {
					return box, true
				}
			}
		}
	}
	for _, box := range known {
		if i.ID == strings.TrimPrefix(box.Name, "/") || i.ID == box.Config.Hostname {
			return box, true
		}
	}
	return container{}, false
}
