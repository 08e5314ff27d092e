package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// group is a command that is nothing but the head of those below it.
func group(name, short, long string, below ...*cobra.Command) *cobra.Command {
	names := make([]string, len(below))
	for i, cmd := range below {
		names[i] = cmd.Name()
	}
	last := len(names) - 1
	want := strings.Join(names[:last], ", ") + " or " + names[last]
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Long:  long,
		Args: func(_ *cobra.Command, args []string) error {
			return &exitError{Code: ExitUsage, Err: fmt.Errorf("%s %s: want %s", name, strings.Join(args, " "), want)}
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args refuses all
	}
	cmd.AddCommand(below...)
	return cmd
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printList prints the rows as JSON, or as a table with a line for each that cells
// makes of it. none is what an empty table says.
func printList[T any](w io.Writer, rows []T, asJSON bool, none, head string, cells func(T) []string) error {
	if asJSON {
		return printJSON(w, rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, none)
		return err
	}
	t := table(w)
	fmt.Fprintln(t, head)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(cells(row), "\t"))
	}
	return t.Flush() // the writer keeps the first error
}

// table sets columns, which tabs part, under one another; Flush prints it.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }
