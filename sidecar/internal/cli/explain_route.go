package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func explainRouteCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "route HOST/PATH",
		Short: "Show which service gets a request",
		Long: `Ask the running sidecar which route a request with this host and path takes on
each frontend, who has defined the route, and how many servers its service has.
HOST/PATH may be a URL. Exits with 1 if no frontend leads it to a service.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s daemon.JudgedState
			if err := askState(cmd, env, &s); err != nil {
				return err
			}
			if s.State == nil {
				return failure(errNoState)
			}
			if len(s.Frontends) == 0 {
				return failure(fmt.Errorf("explain route %s: this load balancer has no frontend with routes", catalog.Printable(args[0])))
			}
			host, path := hostAndPath(args[0])
			if !explainRoute(env.Stdout, s.State, s.RouteProblems, host, path) {
				return failure(fmt.Errorf("explain route %s: no frontend leads it to a service", catalog.Printable(args[0])))
			}
			return nil
		},
	}
}

// hostAndPath takes a request apart, which may be a URL.
func hostAndPath(request string) (host, path string) {
	if _, rest, isURL := strings.Cut(request, "://"); isURL {
		request = rest
	}
	request, _, _ = strings.Cut(request, "#")
	request, _, _ = strings.Cut(request, "?")
	host, path, _ = strings.Cut(request, "/")
	if ascii, err := route.ParseHost(route.RequestHost(host)); err == nil {
		host = ascii // clients send punycode
	}
	return host, "/" + path
}

// explainRoute prints what each frontend does with a request, and reports whether
// one leads it to a service.
func explainRoute(w io.Writer, s *reconcile.State, refused []route.Problem, host, path string) (found bool) {
	t := table(w)
	defer func() { _ = t.Flush() }() // to a terminal
	for i := range s.Frontends {
		f := &s.Frontends[i]
		fmt.Fprintf(t, "frontend\t%s\n", f.Name)
		routes := f.Find(host, path)
		for _, r := range routes {
			found = true
			fmt.Fprintf(t, "route\t%s\n", visible(routeText(r)))
			fmt.Fprintf(t, "service\t%s\n", visible(targetText(s, r.Backend)))
			fmt.Fprintf(t, "defined by\t%s\n", visible(r.Source))
			if slices.Contains(f.Withheld, r.Backend) {
				fmt.Fprintf(t, "not applied yet\tHAProxy does not have backend %s, or no server of it is up\n", visible(r.Backend))
			}
		}
		isUnconditional := func(r reconcile.RouteState) bool { return len(r.Methods)+len(r.Headers) == 0 }
		if !slices.ContainsFunc(routes, isUnconditional) {
			switch {
			case f.Default != "":
				found = true
				fmt.Fprintf(t, "otherwise\tthe default: %s\n", visible(targetText(s, f.Default)))
			case len(routes) > 0:
				fmt.Fprintf(t, "otherwise\t404\n")
			default:
				fmt.Fprintf(t, "route\tnone: 404\n")
			}
		}
		for _, p := range refused {
			if p.Frontend == f.Name && claimsRequest(p.Claim, host, path) {
				fmt.Fprintf(t, "refused\t%s\n", visible(p.String()))
			}
		}
		switch {
		case f.Error != "":
			fmt.Fprintf(t, "not applied\t%s\n", visible(f.Error))
		case f.Applied.IsZero():
			fmt.Fprintf(t, "not applied\tHAProxy was not seen to have these routes yet\n")
		default:
			fmt.Fprintf(t, "applied\t%s\n", f.Applied.Format(time.RFC3339))
		}
	}
	return found
}

// routeText is a route for people.
func routeText(r reconcile.RouteState) string {
	text := strings.TrimSuffix(r.Host+r.Path, "/") + "/"
	if r.Path != "/" {
		text = r.Host + r.Path
	}
	if len(r.Methods) > 0 {
		text += ", method " + strings.Join(r.Methods, " or ")
	}
	if len(r.Headers) > 0 {
		text += ", header " + strings.Join(r.Headers, " and ")
	}
	if r.Strip > 0 {
		text += fmt.Sprintf(", %d segments taken off", r.Strip)
	}
	return text
}

// claimsRequest reports whether a request would take a route that was claimed.
func claimsRequest(claim, host, path string) bool {
	if strings.HasPrefix(claim, "*/") { // every host
		claim = claim[1:]
	}
	r, err := route.ParseClaim(claim)
	if err != nil {
		return false
	}
	key, _ := route.Map{r.Key(): ""}.Lookup(host, path)
	return key != ""
}

// targetText is a backend with the number of its servers that take traffic.
func targetText(s *reconcile.State, backend string) string {
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Backend != backend {
			continue
		}
		live := 0
		for k := range svc.Instances {
			if svc.Instances[k].GetsRequests() {
				live++
			}
		}
		return fmt.Sprintf("%s, %d of %d servers take traffic", backend, live, len(svc.Instances))
	}
	return backend + ", which has no state"
}
