package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/services/internal/command"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		env    []string
		err    error
		want   int
		stderr string
	}{
		{"success", nil, nil, nil, 0, ""},
		{"failure", nil, nil, errors.New("the sky fell"), 1, "t: the sky fell\n"},
		{"failure of which all has been said", nil, nil, command.ErrFailed, 1, ""},
		{"usage", nil, nil, command.Usage(errors.New("no")), 2, "t: no\nTry 't --help'.\n"},
		{"unknown flag", []string{"--nope"}, nil, nil, 2, "t: unknown flag: --nope\nTry 't --help'.\n"},
		{"argument", []string{"run"}, nil, nil, 2, "t: argument \"run\": only flags are taken\nTry 't --help'.\n"},
		{"malformed variable", nil, []string{"T_WAIT=x"}, nil, 2, "t: environment variable T_WAIT=\"x\": time: invalid duration \"x\"\nTry 't --help'.\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, stderr bytes.Buffer
			cmd := &cobra.Command{Use: "t"}
			cmd.Flags().Duration("wait", 0, "how long")
			got := command.Main(t.Context(), command.Process{Args: c.args, Environ: c.env, Stdout: &out, Stderr: &stderr}, "T_", cmd,
				func(context.Context) error { return c.err })
			if got != c.want {
				t.Errorf("exit code: got %d, want %d", got, c.want)
			}
			if stderr.String() != c.stderr {
				t.Errorf("stderr: got %q, want %q", stderr.String(), c.stderr)
			}
		})
	}
}

func TestHelpNamesEachFlagsVariable(t *testing.T) {
	var out bytes.Buffer
	cmd := &cobra.Command{Use: "t"}
	cmd.Flags().Duration("leave-wait", 0, "how long")
	code := command.Main(t.Context(), command.Process{Args: []string{"--help"}, Stdout: &out}, "T_", cmd,
		func(context.Context) error { return nil })
	if code != 0 || !strings.Contains(out.String(), "how long [T_LEAVE_WAIT]") {
		t.Errorf("help: got exit code %d and\n%s\nwant 0 and the variable's name", code, out.String())
	}
}

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	var settings command.Log
	flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
	settings.Flags(flags)
	logger, err := settings.New("T_", flags, &out)
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("hello")
	var entry map[string]any
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil || entry["msg"] != "hello" || entry["level"] != "info" || entry["time"] == nil {
		t.Errorf("json entry: got %q (%v), want msg, level and time", out.String(), err)
	}

	out.Reset()
	settings.Format = "console"
	logger, err = settings.New("T_", flags, &out)
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("hello")
	if got := out.String(); !strings.Contains(got, "INFO\thello\n") {
		t.Errorf("console entry: got %q, want INFO and hello", got)
	}

	settings.Format, settings.Level = "xml", "loud"
	_, err = settings.New("T_", flags, &out)
	for _, want := range []string{`--log-format (T_LOG_FORMAT): "xml"`, `--log-level (T_LOG_LEVEL): "loud"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error: got %v, want it to contain %q", err, want)
		}
	}
}
