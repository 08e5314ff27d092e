package e2e

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// A sidecar that is not root, in HAProxy's group, does all that it does as root;
// and HAProxy's workers give up root, also those of a reload.
func TestUsers_SidecarInHAProxysGroup_RoutesAndReloads(t *testing.T) {
	t.Parallel()
	haproxy, err := user.Lookup("haproxy")
	if err != nil || os.Getuid() != 0 {
		t.Fatalf("this test has to run as root, where there is a user haproxy, as CI does: %v", err)
	}
	w := bareWorld(t)
	w.newBalancer(lab.Service{Name: service})
	jail := w.lb.Path("jail")
	w.must(os.Mkdir(jail, 0o755))
	w.must(w.lb.SetHAProxy(fmt.Sprintf("  global: {chroot: %s}\n", jail))) // user and groups are the defaults
	for _, dir := range []string{w.Dir(), w.lb.Path("")} {
		w.must(os.Chmod(dir, 0o755))
	}
	const other = 65534
	w.must(os.Chown(w.lb.Path(""), other, -1))
	w.lb.Sidecar, err = w.Start("sidecar-of-other-user", "setpriv", "--reuid="+strconv.Itoa(other), "--regid="+haproxy.Gid, "--clear-groups",
		programs.Sidecar, "run", "--config", w.lb.Settings())
	w.must(err)
	w.must(lab.Until(w.ctx, 15*time.Second, "the sidecar has written haproxy.cfg", func() error {
		_, err := os.Stat(w.lb.Config())
		return err
	}))
	w.lb.HAProxy, err = w.Start("haproxy-of-root", programs.HAProxy, "-W", "-S", w.lb.Master()+",mode,660,group,haproxy", "-f", w.lb.Config())
	w.must(err)
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.confined(haproxy, jail)

	w.nodes = w.startNodes("1.0", "n", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	w.must(w.Get(w.ctx, w.lb.URL(service), 5*time.Second))

	w.must(w.lb.SetServices(append(w.lb.Services(), lab.Service{Name: "other"})...))
	w.must(w.lb.Reread())
	w.reloaded(15*time.Second, 1)
	w.confined(haproxy, jail)
	w.must(w.Get(w.ctx, w.lb.URL(service), 5*time.Second))
}

// confined fails the test unless HAProxy's worker is a user's, in a directory.
func (w *world) confined(as *user.User, root string) {
	w.Helper()
	proc := fmt.Sprintf("/proc/%d", w.workerPID())
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	w.must(err)
	for _, line := range []string{
		"Uid:\t" + strings.Join([]string{as.Uid, as.Uid, as.Uid, as.Uid}, "\t") + "\n",
		"Gid:\t" + strings.Join([]string{as.Gid, as.Gid, as.Gid, as.Gid}, "\t") + "\n",
	} {
		if !strings.Contains(string(status), line) {
			w.Errorf("the worker has no %q:\n%s", line, status)
		}
	}
	if got, err := os.Readlink(filepath.Join(proc, "root")); err != nil || got != root {
		w.Errorf("the worker's root is %q (%v), want %q", got, err, root)
	}
}
