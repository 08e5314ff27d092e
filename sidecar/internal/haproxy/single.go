package haproxy

import "context"

// Ask sends one command to the current worker, with what belongs to it after "<<", and
// gives its answer.
func (c *Client) Ask(ctx context.Context, command string) (string, error) {
	return c.ask(ctx, []string{command})
}
