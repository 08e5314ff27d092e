// Command child is what the tests of registrator wrap: it does as it is told,
// and says what happens to it on standard output, a line each.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	time.AfterFunc(2*time.Minute, func() { os.Exit(98) }) // nothing is left behind, whatever fails
	switch verb, args := os.Args[1], os.Args[2:]; verb {
	case "argv":
		must(json.NewEncoder(os.Stdout).Encode(args))
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		must(err)
	case "exit":
		code, err := strconv.Atoi(args[0])
		must(err)
		os.Exit(code)
	case "serve":
		serve(args)
	case "orphan":
		orphan()
	case "storm":
		storm(args)
	case "start": // and end, so that what is started is an orphan
		c := exec.Command(os.Args[0], args...)
		must(c.Start())
		say("orphan", c.Process.Pid)
	case "wait":
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
}

// serve serves HTTP: 503 on /healthz until the file is there, and on /slow an
// answer that takes its time.
func serve(args []string) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "", "address")
	healthy := flags.String("healthy", "", "file that makes it healthy")
	stubborn := flags.Bool("stubborn", false, "do not end on a signal")
	helper := flags.Bool("helper", false, "start a process of its own that does not end on SIGTERM")
	ask := flags.String("ask", "", "URL that is read on SIGTERM; what it answers is printed")
	code := flags.Int("code", 0, "exit code on SIGTERM")
	must(flags.Parse(args))

	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT)
	if *helper {
		c := exec.Command(os.Args[0], "wait")
		must(c.Start())
		say("helper", c.Process.Pid)
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(*healthy); *healthy != "" && err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { must(http.ListenAndServe(*listen, nil)) }()
	say("pid", os.Getpid())
	for s := range got {
		say("got", unix.SignalName(s.(syscall.Signal)))
		if s != syscall.SIGTERM || *stubborn {
			continue
		}
		if *ask != "" {
			response, err := http.Get(*ask)
			must(err)
			body, err := io.ReadAll(response.Body)
			must(err)
			say("answer", strings.ReplaceAll(string(body), "\n", ""))
		}
		os.Exit(*code)
	}
}

// orphan starts a process that loses its parent, and ends on SIGTERM with 5.
func orphan() {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM)
	c := exec.Command(os.Args[0], "start", "wait")
	c.Stdout = os.Stdout
	must(c.Run())
	say("alone", "it is")
	<-got
	os.Exit(5)
}

// storm makes many orphans that end at once, and ends among them.
func storm(args []string) {
	count, err := strconv.Atoi(args[0])
	must(err)
	for range count {
		must(exec.Command("/bin/sh", "-c", "(exit 3) & (exit 4) &").Start())
	}
	time.Sleep(10 * time.Millisecond)
	os.Exit(9)
}

func say(what string, value any) { fmt.Println(what, value) }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(99)
	}
}
