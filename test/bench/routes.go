package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/test/lab"
)

// Routes that services claim by tags, of which each service has some.
const (
	routeServices    = 1000
	routesPerService = 10
	// discovering has a frontend that takes the routes of all of them.
	discovering = `profiles:
  - name: default
` + perService + `discovery: {max_services: 1000}
frontends:
  - name: web
    bind: "127.0.0.1:%d"
    discover: {tag_prefix: pointsman-route=, allow: [{host: "*.example.com", services: "svc*"}]}
`
)

// routeChanges measures how long a change of one route takes, while there are 10,000. The
// floor is one bare blocking query for a service with as many tags and one bare command.
func routeChanges(ctx context.Context, b *bench) error {
	l := latency{fleet: fleet{services: routeServices, instances: 1}, every: 400 * time.Millisecond, changes: 20, blocks: 2, p50: 1.5}
	s, err := b.newRouteSite(ctx, l.fleet)
	if err != nil {
		return err
	}
	return l.measureOn(ctx, b, s, l.routeSubjects)
}

// routeSubjects returns the sidecar and the floor.
func (l latency) routeSubjects(ctx context.Context, _ *bench, s *site, group *errgroup.Group) ([]*subject, error) {
	subjects := make([]*subject, 2)
	for i, of := range []struct {
		name, socket, file string
		targets            []instance
	}{
		{sidecar, s.lb.Socket(), s.lb.Config() + ".web.map", l.targets(s.services)},
		{"floor", s.bare.Socket(), s.bare.Path(floorMap), s.floor},
	} {
		socket, err := openSocket(ctx, of.socket)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, socket.close)
		for k := range of.targets {
			of.targets[k].server = of.targets[k].routeKey(0) // what changes is a route
		}
		subjects[i] = &subject{
			name: of.name, targets: of.targets, next: nextStatus,
			look: func(keys []string) ([]int, error) { return socket.strips(of.file, keys) },
			change: func(ctx context.Context, i instance, strip int) error {
				i.strips = strip == 1
				return i.setWeight(ctx, s.consul.Client, 1)
			},
		}
	}
	f, err := newFollower(ctx, s, func(key string, strip int) string {
		return fmt.Sprintf("set map %s %s %s", s.bare.Path(floorMap), key, routeValue(floorService, strip))
	})
	if err != nil {
		return nil, err
	}
	f.changed = subjects[1].unseen
	group.Go(func() error { return f.run(ctx) })
	for _, subject := range subjects {
		subject.values = make([]int, len(subject.targets)) // they strip nothing yet
	}
	return subjects, pause(ctx, settleTime)
}

// newRouteSite is newSite with instances that claim routes, by which the sidecar finds
// their services. It waits until all routes are in HAProxy.
func (b *bench) newRouteSite(ctx context.Context, f fleet) (*site, error) {
	s, err := b.newConsul(ctx)
	if err != nil {
		return nil, err
	}
	for i := range f.services {
		s.services = append(s.services, withRoutes("pointsman-route=", f.service(fmt.Sprintf("svc%d", i), i)))
	}
	s.floor = withRoutes("other-route=", f.service(floorService, f.services))
	b.step("registering %d services", f.services+1)
	if err := registerAll(ctx, s.consul.Client, append(s.services, s.floor)); err != nil {
		return nil, err
	}
	port, err := b.lab.Port()
	if err != nil {
		return nil, err
	}
	if s.lb, err = b.lab.NewBalancer("lb", s.consul); err != nil {
		return nil, err
	}
	if err := errors.Join(s.lb.SetHAProxy(haproxySettings), s.lb.SetExtra(otherMachines+fmt.Sprintf(discovering, port))); err != nil {
		return nil, err
	}
	s.lb.SetEnviron(profileVariable + "=" + b.profileFile())
	if err := s.startBareMap(ctx, b); err != nil {
		return nil, err
	}
	return s, s.startSidecar(ctx, b)
}

func withRoutes(prefix string, service []instance) []instance {
	for i := range service {
		service[i].routes = prefix
	}
	return service
}

// routeKey is the key of one of the instance's routes in HAProxy's map, and the route in
// its tag, without the slash at the end.
func (i instance) routeKey(k int) string {
	return fmt.Sprintf("%s-%d.example.com/path/", i.service, k)
}

// routeTags are the tags by which the instance claims its routes. The first may strip its path.
func (i instance) routeTags() (tags []string) {
	for k := range routesPerService {
		tag := i.routes + strings.TrimSuffix(i.routeKey(k), "/")
		if k == 0 && i.strips {
			tag += " strip"
		}
		tags = append(tags, tag)
	}
	return tags
}

// routeValue is what the sidecar writes into HAProxy's map for a route that strips that
// many segments.
func routeValue(service string, strips int) string {
	if strips == 0 {
		return service
	}
	return fmt.Sprintf("%s/%d", service, strips)
}

const floorMap = "floor.map"

// startBareMap starts the bare HAProxy with as many routes.
func (s *site) startBareMap(ctx context.Context, b *bench) (err error) {
	if s.bare, err = b.lab.NewBalancer("bare", s.consul); err != nil {
		return err
	}
	var routes strings.Builder
	for _, service := range append(s.services, s.floor) {
		for k := range routesPerService {
			fmt.Fprintf(&routes, "%s %s\n", service[0].routeKey(k), routeValue(service[0].service, 0))
		}
	}
	if err := os.WriteFile(s.bare.Path(floorMap), []byte(routes.String()), 0o600); err != nil {
		return err
	}
	return startWithout(ctx, s.bare, floorService, fmt.Sprintf("    http-request set-header route %%[base,map_beg(%s)]\n", s.bare.Path(floorMap)))
}

// strips returns for each key of a map 1 if its route strips a segment, else 0.
func (s *socket) strips(file string, keys []string) ([]int, error) {
	values := make([]int, 0, len(keys))
	for _, key := range keys {
		out, err := s.ask("get map " + file + " " + key)
		if err != nil {
			return nil, err
		}
		// type=beg, case=sensitive, found=yes, idx=tree, key="…", value="svc0/1", type="str"
		_, value, found := strings.Cut(out, `value="`)
		value, _, _ = strings.Cut(value, `"`)
		if !found {
			return nil, fmt.Errorf("get map %s %s: %.200q", file, key, out)
		}
		strips := 0
		if strings.HasSuffix(value, "/1") {
			strips = 1
		}
		values = append(values, strips)
	}
	return values, nil
}

const (
	manyRoutes, fewRoutes = routeServices * routesPerService, 10
	// routeRounds is how many pairs of measurements there are, each of this many requests.
	routeRounds   = 10
	routeRequests = 100_000
	// routeGoal is how much longer a request may take with many routes.
	routeGoal = 1.1
)

// answering answers in HAProxy, so that the route is most of a request's cost.
const answering = `    check: {enabled: false}
    min_servers: 0
    backend_extra: ["http-request return status 200 content-type text/plain string ok"]
`

// routeTraffic measures how long HAProxy takes for a request on one thread, with many
// routes and with few, in turn.
func routeTraffic(ctx context.Context, b *bench) error {
	s, err := b.newConsul(ctx)
	if err != nil {
		return err
	}
	counts := []int{manyRoutes, fewRoutes}
	var at [2]string
	var mib [2]float64
	for i, count := range counts {
		lb, err := b.lab.NewBalancer(fmt.Sprintf("lb%d", i), s.consul, lab.Service{Name: liveService, BackendOnly: true, Extra: answering})
		if err != nil {
			return err
		}
		port, err := b.lab.Port()
		if err != nil {
			return err
		}
		at[i] = fmt.Sprintf("127.0.0.1:%d", port)
		var routes strings.Builder
		for k := range count {
			fmt.Fprintf(&routes, "      - {host: %s, path: /path, service: %s}\n", routeHost(k), liveService)
		}
		if err := errors.Join(lb.SetHAProxy(oneThread), lb.SetExtra(fmt.Sprintf("frontends:\n  - name: web\n    bind: %q\n    routes:\n%s", at[i], &routes)), lb.Start(ctx)); err != nil {
			return err
		}
		worker, err := lb.WorkerPID(ctx)
		if err != nil {
			return err
		}
		if mib[i], err = residentMiB(worker); err != nil {
			return err
		}
	}
	var took [2][]float64 // in microseconds
	for round := range routeRounds {
		for i, count := range counts {
			each, err := requestTime(ctx, at[i], count)
			if err != nil {
				return err
			}
			took[i] = append(took[i], each)
		}
		b.step("pair %d of %d: %.1f and %.1f µs a request", round+1, routeRounds, took[0][round], took[1][round])
	}
	b.result.Runs = routeRounds
	entry := Figure{Name: "a request", Unit: "µs", Values: []Value{{"10,000 routes", spread(took[0])}, {"10 routes", spread(took[1])}}}
	entry.setGoal(routeGoal, "10 routes", took[0], took[1])
	b.result.Figures = append(b.result.Figures, entry,
		single("HAProxy's memory of a route", "bytes", "10,000 routes", (mib[0]-mib[1])*(1<<20)/(manyRoutes-fewRoutes)))
	return nil
}

const oneThread = "  global: {user: \"\", group: \"\", chroot: \"\", stats_socket_group: \"\", extra: [nbthread 1]}\n"

func routeHost(k int) string { return fmt.Sprintf("h%d.example.com", k) }

// requestTime sends requests for all hosts in turn over a few connections, many at once on
// each so that HAProxy never waits for the client, and returns the time of one in microseconds.
func requestTime(ctx context.Context, at string, hosts int) (float64, error) {
	const connections, batch = 8, 50
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for c := range connections {
		group.Go(func() error {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", at)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // all answers are read
			in := bufio.NewReaderSize(conn, readerMemory)
			for k := 0; k < routeRequests/connections; k += batch {
				var out strings.Builder
				for i := range batch {
					fmt.Fprintf(&out, "GET /path/x HTTP/1.1\r\nHost: %s\r\n\r\n", routeHost((c*routeRequests/connections+k+i)%hosts))
				}
				if err := errors.Join(conn.SetDeadline(time.Now().Add(socketLimit)), writeAll(conn, out.String())); err != nil {
					return err
				}
				for range batch {
					if err := answered(in); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(time.Since(began).Microseconds()) / routeRequests, err
}

func writeAll(conn net.Conn, text string) error {
	_, err := io.WriteString(conn, text)
	return err
}

// answered reads one answer, which must be the service's.
func answered(in *bufio.Reader) error {
	const ok = "HTTP/1.1 200 OK"
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if text := strings.TrimSpace(string(line)); first && text != ok {
			return fmt.Errorf("the answer is %q, want %q", text, ok)
		} else if text == "" {
			_, err := in.Discard(len("ok"))
			return err
		}
	}
}
