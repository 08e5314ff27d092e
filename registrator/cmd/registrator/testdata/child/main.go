// Command child is what the tests of registrator wrap: it does what its arguments say,
// and says what happens to it on standard output, a line each.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
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
	case "start": // and end, so that the started program is an orphan
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
	cert := flags.String("cert", "", "certificate: serve by TLS")
	key := flags.String("key", "", "its key")
	onlyHost := flags.String("only-host", "", "answer 404 to any other Host header")
	notify := flags.Bool("notify", false, "tell the service manager at once that it is ready, and the main process")
	rpc := flags.String("grpc", "", "serve gRPC's health protocol, for a service of that name, and no HTTP")
	must(flags.Parse(args))

	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT)
	if *helper {
		c := exec.Command(os.Args[0], "wait")
		must(c.Start())
		say("helper", c.Process.Pid)
	}
	isHealthy := func() bool {
		_, err := os.Stat(*healthy)
		return *healthy == "" || err == nil
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case *onlyHost != "" && r.Host != *onlyHost:
			w.WriteHeader(http.StatusNotFound)
		case !isHealthy():
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() {
		switch {
		case *rpc != "":
			must(serveGRPC(*listen, *rpc, *cert, *key, isHealthy))
		case *cert != "":
			must(http.ListenAndServeTLS(*listen, *cert, *key, nil))
		default:
			must(http.ListenAndServe(*listen, nil))
		}
	}()
	if *notify {
		_, err := daemon.SdNotify(false, fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=the program speaks", os.Getpid()))
		must(err)
		enabled, err := daemon.SdWatchdogEnabled(false)
		must(err)
		say("watchdog", enabled)
	}
	say("pid", os.Getpid())
	for s := range got {
		say("got", unix.SignalName(s.(syscall.Signal)))
		if *notify && s == syscall.SIGHUP { // as of Type=notify-reload
			_, err := daemon.SdNotify(false, "RELOADING=1")
			must(err)
			_, err = daemon.SdNotify(false, "READY=1")
			must(err)
		}
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

// serveGRPC serves gRPC's health protocol.
func serveGRPC(listen, service, cert, key string, isHealthy func() bool) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	var options []grpc.ServerOption
	if cert != "" {
		pair, err := credentials.NewServerTLSFromFile(cert, key)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(pair))
	}
	server, status := grpc.NewServer(options...), health.NewServer()
	healthpb.RegisterHealthServer(server, status)
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			is := healthpb.HealthCheckResponse_NOT_SERVING
			if isHealthy() {
				is = healthpb.HealthCheckResponse_SERVING
			}
			status.SetServingStatus(service, is)
		}
	}()
	return server.Serve(l)
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
