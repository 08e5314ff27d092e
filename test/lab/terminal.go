package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Terminal is one program in a terminal of tmux, whose screen can be read as a person
// sees it.
type Terminal struct {
	server *Process
	socket string
}

// terminalSettings keep the screen when the program has ended, and show no line of tmux's own.
const terminalSettings = "set -g exit-empty off\nset -g remain-on-exit on\nset -g remain-on-exit-format ''\nset -g status off\nset -g default-terminal screen-256color\n"

// StartTerminal runs a program in a terminal of that many columns and lines. What the
// lab's own environment says about colours does not reach it.
func (l *Lab) StartTerminal(ctx context.Context, name string, columns, lines int, command ...string) (*Terminal, error) {
	t := &Terminal{socket: l.Path(name + ".tmux")}
	settings := l.Path(name + ".tmux.conf")
	if err := os.WriteFile(settings, []byte(terminalSettings), 0o600); err != nil {
		return nil, err
	}
	var err error
	if t.server, err = l.Start(name, "tmux", "-S", t.socket, "-f", settings, "-D"); err != nil {
		return nil, err
	}
	args := append([]string{"new-session", "-d", "-x", strconv.Itoa(columns), "-y", strconv.Itoa(lines), "env", "-u", "NO_COLOR"}, command...)
	return t, Until(ctx, 20*time.Second, name+" is on the screen", func() error {
		_, err := t.tmux(ctx, args...)
		return err
	})
}

// tmux gives its server an order.
func (t *Terminal) tmux(ctx context.Context, args ...string) (string, error) {
	// -N: else it would start a server of its own while ours is not there yet.
	out, err := exec.CommandContext(ctx, "tmux", append([]string{"-N", "-S", t.socket}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("lab: tmux %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// Screen returns the text on the screen, without what is empty at its end. With colours it
// has their orders to the terminal (ECMA-48).
func (t *Terminal) Screen(ctx context.Context, withColours bool) (string, error) {
	args := []string{"capture-pane", "-p"}
	if withColours {
		args = append(args, "-e")
	}
	out, err := t.tmux(ctx, args...)
	return strings.TrimRight(out, " \n"), err
}

// Shows waits until the screen has what a pattern says.
func (t *Terminal) Shows(ctx context.Context, limit time.Duration, pattern string) error {
	want, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return Until(ctx, limit, t.server.Name+" shows "+pattern, func() error {
		screen, err := t.Screen(ctx, false)
		if err == nil && !want.MatchString(screen) {
			err = fmt.Errorf("the screen shows:\n%s", screen)
		}
		return err
	})
}

// Exits waits until the program has ended, and wants that exit code.
func (t *Terminal) Exits(ctx context.Context, limit time.Duration, code int) error {
	return Until(ctx, limit, fmt.Sprintf("%s has ended with exit code %d", t.server.Name, code), func() error {
		// tmux runs utempter when a terminal closes, and does not hear of a child that ends
		// meanwhile (tmux issue 4559): the child stays a zombie until the next SIGCHLD.
		t.server.signal(syscall.SIGCHLD)
		out, err := t.tmux(ctx, "display-message", "-p", "dead #{pane_dead}, exit code #{pane_dead_status}, signal #{pane_dead_signal}")
		if want := fmt.Sprintf("dead 1, exit code %d, signal", code); err == nil && strings.TrimSpace(out) != want {
			err = fmt.Errorf("lab: tmux says %q, want %q", out, want)
		}
		return err
	})
}

// Close ends the terminal and its program.
func (t *Terminal) Close(ctx context.Context) error {
	_, err := t.tmux(ctx, "kill-server")
	return err
}
