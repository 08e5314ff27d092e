package haproxy

// Limits of one line of commands (docs/haproxy-facts.md, fact 11).
const (
	// maxLine is below tune.bufsize (16,384), into which the whole line must
	// fit since 3.2.
	maxLine = 15_000
	// maxCommandsOld: on 2.6 one long line on a large backend blocks a thread
	// for 40 ms.
	maxCommandsOld = 50
	// maxCommands bounds how much one broken connection can leave in doubt.
	maxCommands = 200
)

// perCommand is what joining and a master's prefix add to each command:
// "@!4194304 " and "; ".
const perCommand = 12

// line is the commands that go out on one connection, and whose steps they are.
type line struct {
	commands []command
	steps    []int // of the command with the same index
	bytes    int
	alone    bool // takes no other step
}

// fits reports whether the line takes these as well.
func (l *line) fits(commands []command, limit int) bool {
	bytes := l.bytes
	for _, c := range commands {
		bytes += len(c.text) + perCommand
	}
	return bytes <= maxLine && len(l.commands)+len(commands) <= limit
}

func (l *line) add(step int, s stage) {
	for _, c := range s.commands {
		l.commands, l.steps = append(l.commands, c), append(l.steps, step)
		l.bytes += len(c.text) + perCommand
	}
	l.alone = s.alone
}

// from is the line without its first n commands.
func (l line) from(n int) line {
	return line{commands: l.commands[n:], steps: l.steps[n:], alone: l.alone}
}

func (l line) texts() []string {
	texts := make([]string, len(l.commands))
	for i, c := range l.commands {
		texts[i] = c.text
	}
	return texts
}
