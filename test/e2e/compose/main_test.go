//go:build compose

package compose

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
)

// reportPath is where the results are added up, a JSON array.
const reportPath = "../report.json"

var results struct {
	sync.Mutex
	all []result
}

// record prints a result and adds it to the report.
func record(r result) error {
	results.Lock()
	defer results.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	results.all = append(results.all, r)
	report, err := json.MarshalIndent(results.all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(reportPath, append(report, '\n'), 0o644)
}

func TestMain(m *testing.M) {
	for _, left := range []string{reportPath, screensPath} {
		if err := os.RemoveAll(left); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
