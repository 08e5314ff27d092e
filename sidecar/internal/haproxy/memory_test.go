package haproxy

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestTheMemoryOfOldWorkersIsThatOfThoseThatCanBeRead(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	for pid, status := range map[int]string{
		1: "Name:\thaproxy\nUmask:\t0022\nVmHWM:\t  99999 kB\nVmRSS:\t   10240 kB\nRssAnon:\t    1 kB\n",
		2: "Name:\thaproxy-3.2\nVmRSS:\t       1 kB\n",
		3: "Name:\tnginx\nVmRSS:\t  500000 kB\n", // its number, in this container
		4: "Name:\thaproxy\n",                    // a zombie has no memory
		5: "Name:\thaproxy\nVmRSS:\t lots kB\n",
		6: "Name:\thaproxy\nVmRSS:\t -1 kB\n",
	} {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "status"), []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	workers := []int{1, 2, 3, 4, 5, 6, 7}
	if got, want := memoryOf(proc, workers), int64(10241<<10); got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
}

func TestThisKernelTellsTheMemoryOfAProcess(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	renamed := "Name:\thaproxy\n" + string(text[len("Name:\t"):])
	if got, err := parseResident(renamed); err != nil || got < 1<<20 {
		t.Errorf("got %d bytes, %v, want those of a test", got, err)
	}
}
